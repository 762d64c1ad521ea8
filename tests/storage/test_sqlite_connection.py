"""SQLite's connections for SQLAlchemy: round trips to their threads, and rows of statements of any length."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from postroomd.storage.drivers.sqlite_connection import FETCHED_ROWS, Connection, open_connection

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) SELECT i FROM n WHERE i <= ?1"
LENGTHS = [0, 1, FETCHED_ROWS - 1, FETCHED_ROWS, FETCHED_ROWS + 1, 3 * FETCHED_ROWS]


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    opened = await open_connection(partial(sqlite3.connect, tmp_path / "test.db", check_same_thread=False))
    opened._conn.isolation_level = None
    yield opened
    await opened.close()


@pytest.fixture
def round_trips(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that ran in the connection's thread."""
    names: list[str] = []
    execute: Callable[..., Any] = connection._execute

    async def counting(function: Callable[..., Any], *arguments: Any) -> Any:
        names.append(function.__name__)
        return await execute(function, *arguments)

    monkeypatch.setattr(connection, "_execute", counting)
    return names


async def test_a_transaction_takes_one_round_trip_for_each_statement(
    connection: Connection, round_trips: list[str]
) -> None:
    for sql in ("BEGIN", "CREATE TABLE t (i)", "INSERT INTO t VALUES (1), (2) RETURNING i", "SELECT i FROM t"):
        async with connection.cursor() as cursor:
            await cursor.execute(sql)
            rows = list(await cursor.fetchall())
    assert rows == [(1,), (2,)]
    assert len(round_trips) == 4


async def test_a_transaction_is_rolled_back(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE t (i)")
        await cursor.execute("BEGIN")
        await cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        assert cursor.rowcount == 2
        await connection.rollback()
        await cursor.execute("SELECT i FROM t")
        assert await cursor.fetchone() is None


@pytest.mark.parametrize("length", LENGTHS)
async def test_every_row_is_fetched_once(connection: Connection, length: int) -> None:
    expected = [(number + 1,) for number in range(length)]
    async with connection.cursor() as cursor:
        await cursor.execute(NUMBERS, (length,))
        assert list(await cursor.fetchall()) == expected
        assert list(await cursor.fetchall()) == []

        await cursor.execute(NUMBERS, (length,))
        parts = [list(await cursor.fetchmany(50)) for _ in range(5)]
        assert [len(part) for part in parts] == [min(50, max(0, length - 50 * number)) for number in range(5)]
        assert [row for part in parts for row in part] == expected

        await cursor.execute(NUMBERS, (length,))
        rows = [await cursor.fetchone() for _ in range(length + 1)]
        assert rows == [*expected, None]


async def test_a_cursor_that_is_closed_before_its_last_row_ends_its_statement(
    connection: Connection, round_trips: list[str]
) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE t (i)")
        await cursor.execute(f"INSERT INTO t {NUMBERS}", (2 * FETCHED_ROWS,))
        await cursor.execute("SELECT i FROM t")
    assert round_trips[-1] == "close"
    async with connection.cursor() as cursor:
        await cursor.execute("DROP TABLE t")  # fails while a statement reads the table


async def test_an_error_of_a_statement_is_raised_and_leaves_the_cursor_usable(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await cursor.execute("SELECT i FROM t")
        await cursor.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_a_statement_whose_caller_is_cancelled_ends_before_the_next_one(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE t (i)")
        cancelled = asyncio.create_task(cursor.execute(f"INSERT INTO t {NUMBERS} RETURNING i", (10_000,)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT count(*) FROM t")
        assert await cursor.fetchone() == (10_000,)
        await cursor.execute("DROP TABLE t")
