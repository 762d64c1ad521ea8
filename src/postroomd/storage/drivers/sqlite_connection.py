"""Connections for SQLAlchemy whose statements each take one round trip to the connection's thread.

With aiosqlite's own cursor a statement takes four: to create the cursor, execute, fetch and close. On a busy event loop
each waits for its turn, and for the interpreter lock, twice.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import aiosqlite
from aiosqlite.context import contextmanager

FETCHED_ROWS = 64  # together with the execution; further ones in parts, as they are asked for


class Cursor(aiosqlite.Cursor):
    """A cursor that fetches its first rows as it executes, and needs no closing once all of them are fetched."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection, connection._conn.cursor())
        self._rows: list[Any] = []
        self._has_more = False

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "Cursor":
        """Execute a statement and fetch its first rows. Raises errors of the sqlite3 module."""
        self._rows, self._has_more = [], True  # for `close`, should the caller be canceled
        self._rows = await self._fetch(_execute, self._cursor, sql, parameters or ())
        self._has_more = len(self._rows) == FETCHED_ROWS
        return self

    async def fetchone(self) -> Any:
        """Return the next row, None after the last one."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next `size` rows, or those that are left."""
        size = size or self.arraysize
        rows, self._rows = self._rows[:size], self._rows[size:]
        if self._has_more and (missing := size - len(rows)):
            fetched = await self._fetch(self._cursor.fetchmany, missing)
            self._has_more = len(fetched) == missing
            rows += fetched
        return rows

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        rows, self._rows = self._rows, []
        if self._has_more:
            rows += await self._fetch(self._cursor.fetchall)
            self._has_more = False
        return rows

    async def close(self) -> None:
        """End the statement, if rows are left: after the last one SQLite has ended it."""
        if self._has_more:
            await super().close()
            self._has_more = False

    async def _fetch(self, function: Callable[..., list[Any]], *arguments: Any) -> list[Any]:
        """Return the rows that a function returns in the connection's thread."""
        rows: list[Any] = await self._execute(function, *arguments)  # type: ignore[no-untyped-call]
        return rows


class Connection(aiosqlite.Connection):
    """An aiosqlite connection with these cursors."""

    @contextmanager
    async def cursor(self) -> aiosqlite.Cursor:
        """Return a new cursor."""
        return Cursor(self)


async def open_connection(connect: Callable[[], sqlite3.Connection]) -> Connection:
    """Open a connection in a thread of its own. Raises what `connect` raises in it."""
    connection = Connection(connect, iter_chunk_size=FETCHED_ROWS)
    connection._thread.daemon = True  # an event loop that ended without closing it must not keep the process alive
    try:
        await connection
    except Exception:
        # The thread reports its end to the event loop, which must not be closed before that.
        while connection._thread.is_alive():  # noqa: ASYNC110 - a thread has no event for it
            await asyncio.sleep(0.001)
        raise
    return connection


def _execute(cursor: sqlite3.Cursor, sql: str, parameters: Iterable[Any]) -> list[Any]:
    return cursor.execute(sql, parameters).fetchmany(FETCHED_ROWS)  # type: ignore[arg-type]
