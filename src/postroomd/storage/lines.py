"""Connections of the drivers' own, for hot statements: each runs one at a time, in one call, in no transaction of ours.

SQLAlchemy opens them, with all its settings, and then has no part in them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

CLOSE_SECONDS = 5.0

Rows = Sequence[Sequence[Any]]
"""Rows in the order of their statement's columns."""


class Line(Protocol):
    """A connection of the driver's own, on which one statement runs at a time."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement."""

    def is_closed(self) -> bool:
        """Whether nothing can be run on it any more."""

    async def close(self) -> None:
        """Close it."""


class Lines:
    """A few lines to one database, each opened when it is first needed and used by one statement at a time."""

    def __init__(self, connect: Callable[[], Awaitable[Line]], most: int, wait_seconds: float) -> None:
        self._connect = connect
        self._free = asyncio.Semaphore(most)
        self._wait_seconds = wait_seconds
        self._idle: list[Line] = []
        self._most = most

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. Raises TimeoutError where no line comes free, and what the driver raises.

        A caller that is canceled gives its line back: the drivers finish, or cancel, a statement before the next one.
        """
        if self._free.locked():
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        else:
            await self._free.acquire()
        try:
            line = await self._take()
            try:
                return await line.fetch(sql, arguments)
            finally:
                self._idle.append(line)
        finally:
            self._free.release()

    async def _take(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            if not line.is_closed():
                return line
        return await self._connect()

    async def close(self) -> None:
        """Close every line, each once its statement has ended."""
        for _ in range(self._most):
            await self._free.acquire()
        while self._idle:
            await self._idle.pop().close()
        for _ in range(self._most):
            self._free.release()


@dataclass(frozen=True, slots=True)
class SqliteLine:
    """aiosqlite's connection: a thread of its own, to which a statement is one hop."""

    connection: Any

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. A caller that is canceled leaves it to run to its end, before the next one."""
        rows: Rows = await self.connection.execute_fetchall(sql, arguments)
        return rows

    def is_closed(self) -> bool:
        """Never: a file does not hang up."""
        return False

    async def close(self) -> None:
        """End the thread."""
        await self.connection.close()


@dataclass(frozen=True, slots=True)
class PostgresqlLine:
    """asyncpg's connection, which prepares each statement once."""

    connection: Any

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. One whose caller is canceled is canceled too, and is over before the next one."""
        try:
            rows: Rows = await self.connection.fetch(sql, *arguments)
        except Exception as error:
            if self.connection.is_closed():
                raise ConnectionError("the connection was lost") from error
            raise
        return rows

    def is_closed(self) -> bool:
        """Whether the server has hung up, or was lost."""
        closed: bool = self.connection.is_closed()
        return closed

    async def close(self) -> None:
        """Hang up."""
        await self.connection.close(timeout=CLOSE_SECONDS)
