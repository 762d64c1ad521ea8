"""Connection pools for compiled reads: each statement runs in one call of the driver, outside any transaction.

SQLAlchemy opens PostgreSQL's connections, with all its settings, and then has no part in them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from postroomd.storage.compiled import Rows

CLOSE_TIMEOUT_SECONDS = 5.0


class PooledConnection(Protocol):
    """A connection of the driver's own."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement."""

    def is_closed(self) -> bool:
        """Return whether nothing can run on the connection any more."""

    async def close(self) -> None:
        """Close the connection."""


Connect = Callable[[], Awaitable[PooledConnection]]


class QueueingPool:
    """A pool of connections that queue statements themselves.

    Statements go to the first connection while it has fewer than `depth` to run, then to the one with the fewest.

    Queueing in the driver's thread costs a third of waiting on the event loop for a free connection, since a thread
    that finds the next statement waiting need not be woken for it. And each further thread at work is one more to pass
    the interpreter lock to.
    """

    def __init__(self, connect: Connect, size: int, depth: int) -> None:
        self._connect = connect
        self._connections: list[PooledConnection | None] = [None] * size
        self._loads = [0] * size
        self._depth = depth
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement."""
        loads = self._loads
        number = 0 if loads[0] < self._depth else loads.index(min(loads))
        loads[number] += 1
        try:
            connection = self._connections[number] or await self._open(number)
            return await connection.fetch(sql, arguments)
        finally:
            loads[number] -= 1

    async def close(self) -> None:
        """Close every connection after its queued statements."""
        for number, connection in enumerate(self._connections):
            self._connections[number] = None
            if connection is not None:
                await connection.close()

    async def _open(self, number: int) -> PooledConnection:
        async with self._opening:
            if (connection := self._connections[number]) is None:
                connection = self._connections[number] = await self._connect()
            return connection


class ExclusivePool:
    """A pool of connections that run one statement at a time; callers wait in order for a free one."""

    def __init__(self, connect: Connect, size: int, timeout_seconds: float) -> None:
        self._connect = connect
        self._size = self._unopened = size
        self._idle: list[PooledConnection] = []
        self._waiters: deque[asyncio.Future[PooledConnection | None]] = deque()
        self._timeout_seconds = timeout_seconds

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement. Raises TimeoutError if no connection becomes free in time."""
        connection = self._idle.pop() if self._idle else await self._acquire()
        try:
            if connection is None or connection.is_closed():
                connection = None
                connection = await self._connect()
            return await connection.fetch(sql, arguments)
        finally:
            self._release(connection)

    async def close(self) -> None:
        """Close every connection after its running statement. Raises TimeoutError if one does not become free."""
        connections = [self._idle.pop() if self._idle else await self._acquire() for _ in range(self._size)]
        for connection in connections:
            if connection is not None:
                await connection.close()
            self._release(None)

    async def _acquire(self) -> PooledConnection | None:
        """Return the next free connection, or None for one that has to be opened."""
        if self._unopened:
            self._unopened -= 1
            return None
        waiter: asyncio.Future[PooledConnection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = asyncio.get_running_loop().call_later(self._timeout_seconds, _time_out, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release(waiter.result())  # it was handed over in the same instant
            raise
        finally:
            timer.cancel()

    def _release(self, connection: PooledConnection | None) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._unopened += 1
        else:
            self._idle.append(connection)


def _time_out(waiter: "asyncio.Future[PooledConnection | None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


@dataclass(frozen=True, slots=True)
class PostgresqlConnection:
    """An asyncpg connection, which prepares each statement once."""

    connection: Any

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Return all rows of a statement. Cancelling the caller cancels it, and it is over before the next one."""
        try:
            rows: Rows = await self.connection.fetch(sql, *arguments)
        except Exception as error:
            if self.connection.is_closed():
                raise ConnectionError("the connection was lost") from error
            raise
        return rows

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection, or it was lost."""
        closed: bool = self.connection.is_closed()
        return closed

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close(timeout=CLOSE_TIMEOUT_SECONDS)
