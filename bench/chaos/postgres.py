"""Operations on a PostgreSQL server whose disk is full."""

import asyncio
from time import monotonic

from tools.postgres import PostgresServer

RECOVERY_SECONDS = 30.0  # a server that has not shut itself down recovers by itself, and slowly on a busy machine
WAL_SEGMENTS = 3


async def restart_if_down(server: PostgresServer) -> bool:
    """Restart a server that has shut itself down. Returns whether that was necessary."""
    deadline = monotonic() + RECOVERY_SECONDS
    while monotonic() < deadline:
        if await asyncio.to_thread(server.accepts_connections):
            return False
        await asyncio.sleep(0.1)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    return True


def preallocate_wal(server: PostgresServer) -> None:
    """Create WAL segments that are recycled for the next writes.

    PostgreSQL shuts down if it can't create a WAL segment. In production, the WAL should have its own disk.
    """
    for _ in range(WAL_SEGMENTS):
        server.sql("SELECT pg_switch_wal()")
        server.sql("CHECKPOINT")  # recycles the segments before it
