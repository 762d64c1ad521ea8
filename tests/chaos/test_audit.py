"""What the bench has found, each in a test of its own."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection

from bench.chaos.arena import open_arena
from bench.chaos.client import Client
from bench.engine import Engine
from postroomd.storage.opening import open_database
from tests.conftest import NewDatabase

CALLERS = 10
ABANDONED = 20


async def test_calls_are_answered_while_callers_are_told_to_turn_away() -> None:
    # A call that had reached the service, and no handler yet, when it stopped was CANCELLED.
    async with open_arena(Engine.SQLITE) as arena:
        service = arena.service()
        await service.start()
        clients = [arena.client(service.address) for _ in range(CALLERS)]
        await asyncio.gather(*(client.wait_until_answered() for client in clients))
        stopping = asyncio.create_task(service.terminate())
        await _told_to_turn_away(clients[0])
        await asyncio.gather(*(client.wait_until_answered() for client in clients))
        assert await stopping == 0


async def _told_to_turn_away(client: Client) -> None:
    async with asyncio.timeout(10):
        while await client.healthy():
            pass


async def test_writes_that_were_abandoned_before_they_began_keep_nobody_waiting(new_database: NewDatabase) -> None:
    # They waited for a connection and were done one after another, for nobody, before those of callers who waited.
    database = open_database(await asyncio.to_thread(new_database), owner=True, pool_size=1)
    entered, leave = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def hold(_connection: AsyncConnection) -> None:
        entered.set()
        await leave.wait()

    async def note(_connection: AsyncConnection) -> None:
        done.append("done")

    try:
        holding = asyncio.create_task(database.write(hold))
        await entered.wait()
        abandoned = [asyncio.create_task(database.write(note)) for _ in range(ABANDONED)]
        await asyncio.sleep(0.05)
        for write in abandoned:
            write.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        leave.set()
        await holding
        await database.write(note)
    finally:
        leave.set()
        await database.close()
    assert done == ["done"]
