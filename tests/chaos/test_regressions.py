"""Regressions that fault injection has found."""

import asyncio

import grpc
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.chaos.client import Client
from bench.chaos.harness import open_harness
from bench.engine import Engine
from postroomd.storage.opening import open_database
from tests.support.databases import NewDatabase

CLIENTS = 10
CANCELLED = 20


async def test_calls_succeed_during_a_graceful_shutdown() -> None:
    # A call that had arrived at the service, but not at a handler yet, failed with CANCELLED.
    async with open_harness(Engine.SQLITE) as harness:
        service = harness.service()
        clients = [harness.client(service.address) for _ in range(CLIENTS)]
        while True:
            await service.start()
            await asyncio.gather(*(client.wait_until_ready() for client in clients))
            stopping = asyncio.create_task(service.terminate())
            if await _sees_shutdown(clients[0]):
                break
            assert await stopping == 0  # it has stopped before this machine, which is busy, looked
        calls = asyncio.gather(*(client.wait_until_ready() for client in clients))
        assert await stopping == 0
        await harness.service(service.address).start()  # for those that arrived too late to be accepted
        await calls


async def _sees_shutdown(client: Client) -> bool:
    """Ask for the health of the service until it reports NOT_SERVING; False if it stops before that is seen."""
    try:
        while await client.is_healthy():
            pass
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_writes_cancelled_while_queued_do_not_run(new_database: NewDatabase) -> None:
    # They waited for a connection and were run one after another, before those of callers that still waited.
    database = open_database(await asyncio.to_thread(new_database), owner=True, pool_size=1)
    entered, leave = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def hold_connection(_connection: AsyncConnection) -> None:
        entered.set()
        await leave.wait()

    async def record(_connection: AsyncConnection) -> None:
        runs.append("run")

    try:
        holding = asyncio.create_task(database.write(hold_connection))
        await entered.wait()
        queued = [asyncio.create_task(database.write(record)) for _ in range(CANCELLED)]
        await asyncio.sleep(0.05)
        for write in queued:
            write.cancel()
        await asyncio.gather(*queued, return_exceptions=True)
        leave.set()
        await holding
        await database.write(record)
    finally:
        leave.set()
        await database.close()
    assert runs == ["run"]
