"""The disk fills up under load: what can't be stored is not acknowledged, reads go on, and it all comes back.

The database is on a small tmpfs, which a ballast file fills. Where the arena is on an ordinary disk, a limit on the
length of the service's files stands in for that, on SQLite.
"""

import asyncio
from time import monotonic

import grpc

from bench.chaos.arena import Arena
from bench.chaos.audit import unsoundness
from bench.chaos.client import Client
from bench.chaos.ledger import held_against
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome
from bench.chaos.postgres import lay_in_log, revive
from bench.chaos.scenarios.postgres_killed import TOLD
from bench.chaos.space import Ballast, FileSizeLimit, Space
from bench.chaos.writes import CHANCE
from bench.engine import Engine

CLIENTS = 4
REFUSALS = 20  # writes that were refused, before there is space again
READS = 20
FULL_SECONDS = 30.0
RECOVERY_SECONDS = 5.0


async def run(arena: Arena, count: int) -> Outcome:
    """Fill the disk `count` times."""
    service = arena.service()
    await service.start()
    clients = [arena.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await arena.writes(clients[0]))
    space: Space = Ballast(arena.room) if arena.room else FileSizeLimit(service)
    outcome = Outcome()
    waits = []
    unread = revived = 0
    for _ in range(count):
        if arena.engine is Engine.POSTGRESQL:
            await asyncio.to_thread(lay_in_log, arena.postgres)
        async with load.running():
            await load.steady(CHANCE.uniform(0.2, 0.6))
            await _until_refused(load, space)
            mailbox_id = next(entry.ids[0] for entry in load.ledger.entries if entry.ids)
            unread += await _unread(clients, mailbox_id)
            space.free()
            back = monotonic()
            if arena.engine is Engine.POSTGRESQL:
                revived += await revive(arena.postgres)
            await load.next_acknowledgement()
            waits.append(monotonic() - back)
        outcome.count += 1
        outcome.broken += await held_against(arena, load.ledger)
        if outcome.broken:
            break
    outcome.broken += await unsoundness(arena)
    outcome.require(set(load.codes) <= TOLD, f"callers were told {dict(load.codes)}")
    outcome.require(unread == 0, f"{unread} reads failed while the disk was full")
    outcome.require(revived == 0, f"PostgreSQL had to be started again {revived} times")
    outcome.require_speed(max(waits) <= RECOVERY_SECONDS, f"recovered after {max(waits):.2f} s")
    outcome.measured = {"slowest_recovery_s": max(waits), "reads": outcome.count * READS, "reads_failed": unread}
    told = ", ".join(f"{number} {code}" for code, number in sorted(load.codes.items()))
    outcome.seen = (
        f"{told}; {outcome.count * READS - unread} of {outcome.count * READS} reads answered meanwhile;"
        f" recovered in at the most {max(waits):.2f} s"
    )
    return outcome


async def _until_refused(load: Load, space: Space) -> None:
    """Fill the space, and what is freed of it meanwhile, until writes are refused. Raises TimeoutError."""
    before = load.codes["UNAVAILABLE"]
    async with asyncio.timeout(FULL_SECONDS):
        while load.codes["UNAVAILABLE"] < before + REFUSALS:
            await asyncio.to_thread(space.fill)
            await asyncio.sleep(0.05)


async def _unread(clients: list[Client], mailbox_id: str) -> int:
    """How many of some reads fail."""
    reads = (clients[number % CLIENTS].read(mailbox_id) for number in range(READS))
    answers = await asyncio.gather(*reads, return_exceptions=True)
    return sum(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
