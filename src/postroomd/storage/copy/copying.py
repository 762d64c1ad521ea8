"""Moving house: the whole contents of one database, copied into an empty one of either engine, and compared.

The source is read in one snapshot: what is written to it meanwhile is not copied. For as long as a copy is unfinished,
the target keeps a table of its own, `copy_progress`: how far each table has come, written in the transaction of the
rows themselves, and a fingerprint of the contents that are copied. A copy that was interrupted goes on from there,
where the source still has those contents. Rows go in chunks, by primary key: memory doesn't grow with the database.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from postroomd.domain.errors import PostroomError
from postroomd.storage.copy.contents import (
    Contents,
    Key,
    RawTable,
    contents_of,
    count_rows,
    has_rows,
    raw_tables,
    rows_after,
    see_every_row,
)
from postroomd.storage.drivers.engines import is_sqlite, open_engines
from postroomd.storage.failures import is_out_of_reach, is_serialization_failure, is_unique_violation
from postroomd.storage.migrations import COPY_PROGRESS, HEAD, current_revision, migrate

CHUNK_ROWS = 1_000
ATTEMPTS = 8  # at a chunk's transaction, which a distributed engine may refuse to serialize

progress = sa.Table(
    COPY_PROGRESS,
    sa.MetaData(),  # no part of the schema
    sa.Column("table_name", sa.String(63), primary_key=True),
    sa.Column("contents", sa.String(64), nullable=False),  # the fingerprint of all that is copied
    sa.Column("last_key", sa.Text),  # the primary key of the last row copied, in JSON; NULL for none
    sa.Column("row_count", sa.BigInteger, nullable=False),
)


class CopyFailed(Exception):
    """The copy can't be made. The text is one line, which names the database and holds no password."""


class Stage(StrEnum):
    """What a copy does, in this order."""

    READING = "reading"  # the source, for its checksums
    COPYING = "copying"
    CHECKING = "checking"  # the target's checksums


Watch = Callable[[Stage, int, str, int], None]
"""Told of each step: the stage, and of how many rows it is; the table, and how many of its rows were done."""

_Mark = tuple[Key | None, int]  # how far a table has come: the last primary key, and how many rows


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to write."""

    url: str
    engine: AsyncEngine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            await see_every_row(connection)
            yield connection

    def refused(self, why: str) -> CopyFailed:
        return CopyFailed(f"{place(self.url)}: {why}")


async def copy_database(
    source_url: str, target_url: str, *, watch: Watch = lambda *_: None, chunk_rows: int = CHUNK_ROWS
) -> Sequence[Contents]:
    """Copy all rows of the source into the target, and compare the two. Answers what each table holds on both sides.

    The target is made and migrated where it is empty. Raises CopyFailed. A target that a copy has begun on stays
    marked as unfinished until everything is there and equal; the same call goes on with it.
    """
    tables = raw_tables()
    async with _snapshot(source_url) as source, _opened(target_url) as target:
        await _prepare(target, tables)
        with _errors_of(source_url):
            total = sum([await count_rows(source, table) for table in tables])
            before = await contents_of(source, tables, chunk_rows, partial(watch, Stage.READING, total))
        marks = await _begin(target, tables, before)
        # The target's own triggers fill the tables that are derived. What comes out is compared like the rest.
        copied = [(table, contents.rows) for table, contents in zip(tables, before, strict=True) if not table.derived]
        told = partial(watch, Stage.COPYING, sum(rows for _, rows in copied))
        for table, _ in copied:
            key, rows_there = marks[table.name]
            told(table.name, rows_there)
            while True:
                with _errors_of(source_url):
                    rows = await rows_after(source, table, key, chunk_rows)
                if not rows:
                    break
                key = table.key_of(rows[-1])
                await _store(target, table, rows, key)
                told(table.name, len(rows))
        async with target.transaction() as connection:
            after = await contents_of(connection, tables, chunk_rows, partial(watch, Stage.CHECKING, total))
            if differing := [old.table for old, new in zip(before, after, strict=True) if old != new]:
                raise target.refused(
                    f"after the copy it differs from the source in {', '.join(differing)};"
                    " something else has written to it: drop it, and copy again"
                )
            await connection.run_sync(progress.drop)
    return after


def place(url: str) -> str:
    """Where a database is, for people: its engine, and path or host and name. Nothing of a user or a password."""
    parts = make_url(url)
    if is_sqlite(url):
        return f"SQLite {parts.database}"
    host = parts.host or parts.query.get("host", "localhost")
    return f"PostgreSQL {host if isinstance(host, str) else ','.join(host)}:{parts.port or 5432}/{parts.database or ''}"


def is_readable_url(url: str) -> bool:
    """Whether a text can be parsed as a database URL."""
    try:
        make_url(url)
    except (exc.ArgumentError, ValueError):
        return False
    return True


def is_same_database(one: str, other: str) -> bool:
    """Whether two URLs lead to one database, as far as they tell."""
    if is_sqlite(one) and is_sqlite(other):
        return _path(one).resolve() == _path(other).resolve()
    return place(one).lower() == place(other).lower()


def _path(url: str) -> Path:
    return Path(str(make_url(url).database))


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[AsyncConnection]:
    """The source, in one transaction that sees nothing of what is written after its first look."""
    if is_sqlite(url) and not _path(url).is_file():
        raise CopyFailed(f"{place(url)}: there is no database")
    engine = open_engines(url, owner=False, pool_size=1).reader
    try:
        await _connect(engine, url)
        async with engine.connect() as connection:
            with _errors_of(url):
                if not is_sqlite(url):  # where every transaction is a snapshot
                    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                    await connection.execution_options(**options)
                await see_every_row(connection)
                await _require_head(connection, url)
            yield connection
    finally:
        await engine.dispose()


async def _require_head(connection: AsyncConnection, url: str) -> None:
    revision = await connection.run_sync(current_revision)
    if revision != HEAD:
        remedy = "run a newer Postroom" if revision and revision > HEAD else "run `postroom migrate` on it first"
        raise CopyFailed(f"{place(url)}: its schema is {revision or 'missing'}, where {HEAD} is expected: {remedy}")
    if progress.name in await connection.run_sync(_table_names):
        raise CopyFailed(f"{place(url)}: it is an unfinished copy itself")


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Target]:
    """The target; the file and its directory are made where they are missing, for their owner alone."""
    with _errors_of(url):
        if is_sqlite(url):
            _path(url).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _path(url).touch(mode=0o600)
        engine = open_engines(url, owner=True, pool_size=1).writer
        try:
            await _connect(engine, url)
            yield _Target(url, engine)
        finally:
            await engine.dispose()


async def _connect(engine: AsyncEngine, url: str) -> None:
    """Connect once: whatever goes wrong there is the URL's fault or the server's."""
    try:
        async with engine.connect():
            pass
    except Exception as error:
        reason = _reason(error) or f"it can't be opened ({type(error).__name__})"
        raise CopyFailed(f"{place(url)}: {reason}") from error


async def _prepare(target: _Target, tables: Sequence[RawTable]) -> None:
    """Bring an empty target's schema up to HEAD. Raises CopyFailed where it is neither empty nor an unfinished copy."""
    async with target.transaction() as connection:
        names = await connection.run_sync(_table_names)
        revision = await connection.run_sync(current_revision)
        if revision is None and names:
            raise target.refused("it is not empty: it has tables that are not Postroom's")
        if progress.name not in names:
            await _require_empty(target, connection, [table for table in tables if table.name in names])
        elif revision != HEAD:
            raise target.refused("it is an unfinished copy by another version of Postroom: drop it first")
    if revision != HEAD:
        await asyncio.to_thread(migrate, target.url)


async def _require_empty(target: _Target, connection: AsyncConnection, tables: Sequence[RawTable]) -> None:
    for table in tables:
        if await has_rows(connection, table):
            raise target.refused(f"it is not empty: there are rows in {table.name}")


async def _begin(target: _Target, tables: Sequence[RawTable], before: Sequence[Contents]) -> Mapping[str, _Mark]:
    """Mark the target as an unfinished copy of these contents, or find that it is one; and how far it has come."""
    shape = [[table.name, table.columns, each.checksum] for table, each in zip(tables, before, strict=True)]
    fingerprint = sha256(json.dumps(shape).encode()).hexdigest()
    async with target.transaction() as connection:
        if progress.name not in await connection.run_sync(_table_names):
            await _require_empty(target, connection, tables)
            await connection.run_sync(progress.create)
            start = {"contents": fingerprint, "last_key": None, "row_count": 0}
            await connection.execute(sa.insert(progress), [start | {"table_name": table.name} for table in tables])
        rows = (await connection.execute(sa.select(progress))).all()
    if {row.contents for row in rows} != {fingerprint}:
        raise target.refused(
            "it is an unfinished copy of another source, or of this one before that changed: drop it first"
        )
    return {row.table_name: (row.last_key and json.loads(row.last_key), row.row_count) for row in rows}


async def _store(target: _Target, table: RawTable, rows: Sequence[dict[str, Any]], key: Key) -> None:
    """Write rows, and that they are there, in one transaction."""
    marking = sa.update(progress).where(progress.c.table_name == table.name)
    there = {"last_key": json.dumps(key), "row_count": progress.c.row_count + len(rows)}

    async def attempt() -> None:
        async with target.transaction() as connection:
            await connection.execute(sa.insert(table.table), rows)
            await connection.execute(marking.values(there))

    attempts = AsyncRetrying(
        retry=retry_if_exception(is_serialization_failure),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    with _errors_of(target.url, table.name):
        await attempts(attempt)


def _table_names(connection: sa.Connection) -> Sequence[str]:
    return sa.inspect(connection).get_table_names()


@contextmanager
def _errors_of(url: str, table: str | None = None) -> Iterator[None]:
    """Have errors name the side that they come from."""
    where = f"{place(url)}: {table}" if table else place(url)
    try:
        yield
    except PostroomError as error:
        raise CopyFailed(f"{where}: {error}") from error
    except Exception as error:
        if (reason := _reason(error)) is None:
            raise
        raise CopyFailed(f"{where}: {reason}") from error


_SQLSTATES = {
    "28000": "the server refuses the user",
    "28P01": "the server refuses the user or the password",
    "3D000": "the server has no such database",
    "42P01": "a table is gone: something else changes it",
    "42501": "the user may not see or write every row: connect as the owner of the tables",
}


def _reason(error: Exception) -> str | None:
    """What to say of a driver's error, whose own text may hold customers' data; None for any other error."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state in _SQLSTATES:
        return _SQLSTATES[state]
    if is_unique_violation(error):
        return "rows are in the way: something else writes to it"
    if is_out_of_reach(error):
        return "it can't be reached, or can't be written, for now"
    if state or isinstance(error, exc.DBAPIError | sqlite3.Error):
        return f"it fails with {type(cause).__name__}"
    return None
