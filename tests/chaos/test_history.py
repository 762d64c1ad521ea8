"""Every kind of broken promise is detected."""

import grpc
import pytest
from sqlalchemy import text

from bench.chaos.database import Contents, integrity_errors, invariant_violations
from bench.chaos.harness import ChaosHarness, open_harness
from bench.chaos.history import History, broken_promises, check, unexplained
from bench.chaos.writes import Write, WriteGenerator
from bench.engine import Engine
from postroom.v1alpha1 import mailbox_pb2
from postroomd.storage.drivers import open_engines

WRITES = WriteGenerator({"d1": "one.example"})
BATCH = WRITES.mailboxes(["anna", "bert"])
NONE = Contents({}, {}, frozenset())
ONE_OF_TWO = Contents({"anna@one.example": "1"}, {}, frozenset())
BOTH = Contents({"anna@one.example": "1", "bert@one.example": "2"}, {}, frozenset())


def acknowledged(write: Write, *ids: str) -> History:
    history = History()
    mailboxes = [mailbox_pb2.Mailbox(id=mailbox_id) for mailbox_id in ids]
    history.add(write).acknowledge(mailbox_pb2.BatchCreateMailboxesResponse(mailboxes=mailboxes))
    return history


def failed(write: Write, code: grpc.StatusCode) -> History:
    history = History()
    history.add(write).fail(code)
    return history


@pytest.mark.parametrize(
    ("history", "contents", "fault"),
    [
        (acknowledged(BATCH, "1", "2"), NONE, "acknowledged but lost"),
        (acknowledged(BATCH, "1", "2"), ONE_OF_TWO, "acknowledged but lost"),
        (acknowledged(BATCH, "1", "3"), BOTH, "acknowledged but lost"),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), ONE_OF_TWO, "stored in part"),
        (failed(BATCH, grpc.StatusCode.CANCELLED), ONE_OF_TWO, "stored in part"),
        (failed(BATCH, grpc.StatusCode.INVALID_ARGUMENT), BOTH, "rejected but stored"),
        (acknowledged(BATCH, "1", "2"), BOTH, None),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), BOTH, None),
        (failed(BATCH, grpc.StatusCode.UNAVAILABLE), NONE, None),
    ],
)
def test_broken_promises_are_detected(history: History, contents: Contents, fault: str | None) -> None:
    faults = [line.partition(":")[0] for line in broken_promises(history.entries, contents)]
    assert faults == ([fault] if fault else [])


def test_rows_without_a_write_are_detected() -> None:
    assert len(list(unexplained([], BOTH))) == 2
    assert list(unexplained(acknowledged(BATCH, "1", "2").entries, BOTH)) == []


TAMPERING = {
    "1 projects whose mailbox_count is wrong": "UPDATE projects SET mailbox_count = mailbox_count + 1",
    "1 domains whose mailbox_total_count is wrong": (
        "UPDATE domains SET mailbox_total_count = 7 WHERE name = 'domain0.example'"
    ),
    "1 mailboxes without their address": "DELETE FROM addresses WHERE local_part = 'anna'",
}


async def execute(harness: ChaosHarness, statement: str) -> None:
    engine = open_engines(harness.url, owner=False, pool_size=1).writer
    async with engine.begin() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.mark.parametrize("engine", list(Engine))
async def test_tampering_with_the_database_is_detected(engine: Engine) -> None:
    async with open_harness(engine) as harness:
        service = harness.service()
        await service.start()
        client = harness.client(service.address)
        writes = await harness.create_writes(client)
        history = History()
        write = writes.mailboxes(["anna", "bert"])
        history.add(write).acknowledge(await client.send(write))
        assert await check(harness, history) == []
        assert await integrity_errors(harness) == []
        for statement in TAMPERING.values():
            await execute(harness, statement)
        assert sorted(await invariant_violations(harness)) == sorted(TAMPERING)
