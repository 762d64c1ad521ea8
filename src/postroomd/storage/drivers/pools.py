"""Connections of the drivers' own, for hot statements: each runs in one call, in no transaction of ours.

SQLAlchemy opens them, with all its settings, and then has no part in them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

CLOSE_SECONDS = 5.0

Rows = Sequence[Sequence[Any]]
"""Rows in the order of their statement's columns."""


class Line(Protocol):
    """A connection of the driver's own."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement."""

    def is_closed(self) -> bool:
        """Whether nothing can be run on it any more."""

    async def close(self) -> None:
        """Close it."""


class Lines(Protocol):
    """The lines to one database, opened when they are first needed. One that is closed may be used again."""

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. Raises what the driver raises, and TimeoutError where every line stays taken."""

    async def close(self) -> None:
        """Close every line, each once what runs on it has ended."""


Connect = Callable[[], Awaitable[Line]]


class QueuingLines:
    """Lines that queue statements themselves. Statements go to the first while it has fewer than `depth`
    to do, then to the one that has the fewest.

    To queue in the driver's thread is a third of what it costs to wait on the event loop for a line that is free: a
    thread that finds the next statement waiting need not be woken for it. And each thread more that is at work is one
    more to hand the interpreter lock to and fro with.
    """

    def __init__(self, connect: Connect, count: int, depth: int) -> None:
        self._connect = connect
        self._lines: list[Line | None] = [None] * count
        self._loads = [0] * count
        self._depth = depth
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement."""
        loads = self._loads
        number = 0 if loads[0] < self._depth else loads.index(min(loads))
        loads[number] += 1
        try:
            line = self._lines[number] or await self._open(number)
            return await line.fetch(sql, arguments)
        finally:
            loads[number] -= 1

    async def close(self) -> None:
        """Close every line, each once what runs on it has ended."""
        for number, line in enumerate(self._lines):
            self._lines[number] = None
            if line is not None:
                await line.close()

    async def _open(self, number: int) -> Line:
        async with self._opening:
            if (line := self._lines[number]) is None:
                line = self._lines[number] = await self._connect()
            return line


class TurnTakingLines:
    """Lines that take one statement at a time: callers wait, in their order, for one that is free."""

    def __init__(self, connect: Connect, count: int, wait_seconds: float) -> None:
        self._connect = connect
        self._count = self._to_open = count
        self._idle: list[Line] = []
        self._waiting: deque[asyncio.Future[Line | None]] = deque()
        self._wait_seconds = wait_seconds

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """All rows of a statement. Raises TimeoutError where every line stays taken."""
        line = self._idle.pop() if self._idle else await self._turn()
        try:
            if line is None or line.is_closed():
                line = None
                line = await self._connect()
            return await line.fetch(sql, arguments)
        finally:
            self._pass_on(line)

    async def close(self) -> None:
        """Close every line, each once what runs on it has ended. Raises TimeoutError where one stays taken."""
        lines = [self._idle.pop() if self._idle else await self._turn() for _ in range(self._count)]
        for line in lines:
            if line is not None:
                await line.close()
            self._pass_on(None)

    async def _turn(self) -> Line | None:
        """The next line that comes free, or None for one that is to be opened."""
        if self._to_open:
            self._to_open -= 1
            return None
        turn: asyncio.Future[Line | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        timer = asyncio.get_running_loop().call_later(self._wait_seconds, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())  # it came in the same instant
            raise
        finally:
            timer.cancel()

    def _pass_on(self, line: Line | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(line)
                return
        if line is None:
            self._to_open += 1
        else:
            self._idle.append(line)


def _give_up(turn: "asyncio.Future[Line | None]") -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())


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
