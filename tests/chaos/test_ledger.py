"""The bench must be able to fail: every kind of broken promise is found."""

import grpc
import pytest
from sqlalchemy import text

from bench.chaos.arena import Arena, open_arena
from bench.chaos.audit import Contents, miscounts, unsoundness
from bench.chaos.ledger import Ledger, faults, held_against, unexplained
from bench.chaos.writes import Write, Writes
from bench.engine import Engine
from postroom.v1alpha1 import mailbox_pb2
from postroomd.storage.drivers import open_engines

WRITES = Writes({"d1": "one.example"})
BATCH = WRITES.mailboxes(["anna", "bert"])
NOTHING = Contents({}, {}, frozenset())
HALF = Contents({"anna@one.example": "1"}, {}, frozenset())
WHOLE = Contents({"anna@one.example": "1", "bert@one.example": "2"}, {}, frozenset())


def acknowledged(write: Write, *ids: str) -> Ledger:
    ledger = Ledger()
    made = mailbox_pb2.BatchCreateMailboxesResponse(mailboxes=[mailbox_pb2.Mailbox(id=one) for one in ids])
    ledger.sent(write).acknowledge(made)
    return ledger


def failed(write: Write, code: grpc.StatusCode) -> Ledger:
    ledger = Ledger()
    ledger.sent(write).fail(code)
    return ledger


@pytest.mark.parametrize(
    ("ledger", "contents", "fault"),
    [
        (acknowledged(BATCH, "1", "2"), NOTHING, "acknowledged, and lost"),
        (acknowledged(BATCH, "1", "2"), HALF, "acknowledged, and lost"),
        (acknowledged(BATCH, "1", "3"), WHOLE, "acknowledged, and lost"),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), HALF, "half done"),
        (failed(BATCH, grpc.StatusCode.CANCELLED), HALF, "half done"),
        (failed(BATCH, grpc.StatusCode.INVALID_ARGUMENT), WHOLE, "refused, and there"),
        (acknowledged(BATCH, "1", "2"), WHOLE, None),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), WHOLE, None),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), NOTHING, None),
    ],
)
def test_broken_promises_are_found(ledger: Ledger, contents: Contents, fault: str | None) -> None:
    found = [line.partition(":")[0] for line in faults(ledger.entries, contents)]
    assert found == ([fault] if fault else [])


def test_what_nobody_wrote_is_found() -> None:
    assert len(list(unexplained([], WHOLE))) == 2
    assert list(unexplained(acknowledged(BATCH, "1", "2").entries, WHOLE)) == []


TAMPERING = {
    "1 projects whose mailbox_count is wrong": "UPDATE projects SET mailbox_count = mailbox_count + 1",
    "1 domains whose mailbox_total_count is wrong": (
        "UPDATE domains SET mailbox_total_count = 7 WHERE name = 'domain0.example'"
    ),
    "1 mailboxes without their address": "DELETE FROM addresses WHERE local_part = 'anna'",
}


async def change(arena: Arena, statement: str) -> None:
    engine = open_engines(arena.url, owner=False, pool_size=1).writer
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.mark.parametrize("engine", list(Engine))
async def test_recount_finds_what_was_tampered_with(engine: Engine) -> None:
    async with open_arena(engine) as arena:
        service = arena.service()
        await service.start()
        client = arena.client(service.address)
        writes = await arena.writes(client)
        ledger = Ledger()
        write = writes.mailboxes(["anna", "bert"])
        ledger.sent(write).acknowledge(await client.send(write))
        assert await held_against(arena, ledger) == []
        assert await unsoundness(arena) == []
        for statement in TAMPERING.values():
            await change(arena, statement)
        assert sorted(await miscounts(arena)) == sorted(TAMPERING)
