"""Copying the whole contents of a database into an empty one of either engine, and comparing the two.

The source is read in one snapshot: later writes to it are not copied. Until a copy is finished, the target keeps a
table `copy_progress` with the position in each table, written in the transaction of the rows themselves, and a
fingerprint of the source's contents. An interrupted copy resumes from there if the source still has those contents.
Rows are copied in chunks by primary key, so that memory does not grow with the database.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.storage.copy.contents import (
    Contents,
    Key,
    RawTable,
    contents_of,
    count_rows,
    has_rows,
    raw_tables,
    rows_after,
)
from postroomd.storage.drivers import driver_for, driver_of, open_engines
from postroomd.storage.failures import (
    explain,
    is_driver_error,
    is_serialization_failure,
    is_unavailable,
    is_unique_violation,
    unwrapped,
)
from postroomd.storage.migrations import COPY_PROGRESS, HEAD, current_revision, migrate

CHUNK_ROWS = 1_000
ATTEMPTS = 8  # at a chunk's transaction, which a distributed engine may fail to serialize

copy_progress = sa.Table(
    COPY_PROGRESS,
    sa.MetaData(),  # not part of the schema
    sa.Column("table_name", sa.String(63), primary_key=True),
    sa.Column("contents", sa.String(64), nullable=False),  # the fingerprint of all contents
    sa.Column("last_key", sa.Text),  # the primary key of the last row copied, in JSON; NULL for none
    sa.Column("row_count", sa.BigInteger, nullable=False),
)


class CopyFailed(Exception):
    """The copy failed. The message is one line that names the database and contains no password."""


class Stage(StrEnum):
    """A stage of a copy, in this order."""

    READING = "reading"  # the source, for its checksums
    COPYING = "copying"
    CHECKING = "checking"  # the target's checksums


ProgressCallback = Callable[[Stage, int, str, int], None]
"""Called with the stage and its total of rows, a table, and the number of its rows processed since the last call."""

_Position = tuple[Key | None, int]  # in a table: the last primary key and the number of rows copied


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    engine: AsyncEngine

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            await driver_of(connection).require_every_row(connection)
            yield connection

    def failure(self, reason: str) -> CopyFailed:
        return CopyFailed(f"{location(self.url)}: {reason}")


async def copy_database(
    source_url: str, target_url: str, *, progress: ProgressCallback = lambda *_: None, chunk_rows: int = CHUNK_ROWS
) -> Sequence[Contents]:
    """Copy all rows of the source into the target, compare the two, and return the contents of each table.

    An empty target is created and migrated. A target stays marked as an unfinished copy until it equals the source;
    the same call resumes it. Raises CopyFailed.
    """
    tables = raw_tables()
    async with _snapshot(source_url) as source, _opened(target_url) as target:
        await _prepare(target, tables)
        with _errors_of(source_url):
            total = sum([await count_rows(source, table) for table in tables])
            before = await contents_of(source, tables, chunk_rows, partial(progress, Stage.READING, total))
        positions = await _begin(target, tables, before)
        # The target's own triggers fill the derived tables, which are compared like the others.
        copied = [(table, contents.rows) for table, contents in zip(tables, before, strict=True) if not table.derived]
        report = partial(progress, Stage.COPYING, sum(rows for _, rows in copied))
        for table, _ in copied:
            key, copied_rows = positions[table.name]
            report(table.name, copied_rows)
            while True:
                with _errors_of(source_url):
                    rows = await rows_after(source, table, key, chunk_rows)
                if not rows:
                    break
                key = table.key_of(rows[-1])
                await _store(target, table, rows, key)
                report(table.name, len(rows))
        async with target.transaction() as connection:
            after = await contents_of(connection, tables, chunk_rows, partial(progress, Stage.CHECKING, total))
            if different := [old.table for old, new in zip(before, after, strict=True) if old != new]:
                raise target.failure(
                    f"after the copy it differs from the source in {', '.join(different)};"
                    " another process has written to it: drop it, and copy again"
                )
            await connection.run_sync(copy_progress.drop)
    return after


def location(url: str) -> str:
    """Return where a database is, for messages: its engine, and path or host and name, without user and password."""
    return driver_for(url).describe(make_url(url))


def is_readable_url(url: str) -> bool:
    """Return whether a text can be parsed as a database URL."""
    try:
        make_url(url)
    except (exc.ArgumentError, ValueError):
        return False
    return True


def is_same_database(one: str, other: str) -> bool:
    """Return whether two URLs lead to the same database, as far as the URLs tell."""
    files = [driver_for(url).file(make_url(url)) for url in (one, other)]
    if files[0] and files[1]:
        return files[0].resolve() == files[1].resolve()
    return location(one).lower() == location(other).lower()


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[AsyncConnection]:
    """Yield the source in one transaction, which sees no writes after its first statement."""
    driver = driver_for(url)
    file = driver.file(make_url(url))
    if file and not file.is_file():
        raise CopyFailed(f"{location(url)}: there is no database")
    engine = open_engines(url, owner=False, pool_size=1).reader
    try:
        await _connect(engine, url)
        async with engine.connect() as connection:
            with _errors_of(url):
                await connection.execution_options(**driver.snapshot_options)
                await driver.require_every_row(connection)
                await _require_head(connection, url)
            yield connection
    finally:
        await engine.dispose()


async def _require_head(connection: AsyncConnection, url: str) -> None:
    revision = await connection.run_sync(current_revision)
    if revision != HEAD:
        remedy = "run a newer Postroom" if revision and revision > HEAD else "run `postroom migrate` on it first"
        raise CopyFailed(f"{location(url)}: its schema is {revision or 'missing'}, where {HEAD} is expected: {remedy}")
    if copy_progress.name in await connection.run_sync(_table_names):
        raise CopyFailed(f"{location(url)}: it is an unfinished copy itself")


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[_Target]:
    """Yield the target. A missing file and its directory are created with access for their owner only."""
    with _errors_of(url):
        if file := driver_for(url).file(make_url(url)):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600)
        engine = open_engines(url, owner=True, pool_size=1).writer
        try:
            await _connect(engine, url)
            yield _Target(url, engine)
        finally:
            await engine.dispose()


async def _connect(engine: AsyncEngine, url: str) -> None:
    """Connect once: every error here is caused by the URL or the server."""
    try:
        async with engine.connect():
            pass
    except Exception as error:
        reason = _reason(error) or f"it can't be opened ({type(error).__name__})"
        raise CopyFailed(f"{driver_for(url).describe(make_url(url), with_user=True)}: {reason}") from error


async def _prepare(target: _Target, tables: Sequence[RawTable]) -> None:
    """Migrate an empty target to HEAD. Raises CopyFailed if it is neither empty nor an unfinished copy."""
    async with target.transaction() as connection:
        names = await connection.run_sync(_table_names)
        revision = await connection.run_sync(current_revision)
        if revision is None and names:
            raise target.failure("it is not empty: it has tables that are not Postroom's")
        if copy_progress.name not in names:
            await _require_empty(target, connection, [table for table in tables if table.name in names])
        elif revision != HEAD:
            raise target.failure("it is an unfinished copy by another version of Postroom: drop it first")
    if revision != HEAD:
        await asyncio.to_thread(migrate, target.url)


async def _require_empty(target: _Target, connection: AsyncConnection, tables: Sequence[RawTable]) -> None:
    for table in tables:
        if await has_rows(connection, table):
            raise target.failure(f"it is not empty: there are rows in {table.name}")


async def _begin(target: _Target, tables: Sequence[RawTable], before: Sequence[Contents]) -> Mapping[str, _Position]:
    """Mark the target as an unfinished copy of these contents, or resume one. Returns the position in each table."""
    shape = [[table.name, table.columns, each.checksum] for table, each in zip(tables, before, strict=True)]
    fingerprint = sha256(json.dumps(shape).encode()).hexdigest()
    async with target.transaction() as connection:
        if copy_progress.name not in await connection.run_sync(_table_names):
            await _require_empty(target, connection, tables)
            await connection.run_sync(copy_progress.create)
            start = {"contents": fingerprint, "last_key": None, "row_count": 0}
            await connection.execute(sa.insert(copy_progress), [start | {"table_name": table.name} for table in tables])
        rows = (await connection.execute(sa.select(copy_progress))).all()
    if {row.contents for row in rows} != {fingerprint}:
        raise target.failure(
            "it is an unfinished copy of another source, or of this one before that changed: drop it first"
        )
    return {row.table_name: (row.last_key and json.loads(row.last_key), row.row_count) for row in rows}


async def _store(target: _Target, table: RawTable, rows: Sequence[dict[str, Any]], key: Key) -> None:
    """Write rows and the new position in one transaction."""
    position = {"last_key": json.dumps(key), "row_count": copy_progress.c.row_count + len(rows)}
    advance = sa.update(copy_progress).where(copy_progress.c.table_name == table.name).values(position)

    async def attempt() -> None:
        async with target.transaction() as connection:
            await connection.execute(sa.insert(table.table), rows)
            await connection.execute(advance)

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
    """Raise errors as CopyFailed with the database, and table, that they come from."""
    where = driver_for(url).describe(make_url(url), with_user=True)
    where = f"{where}: {table}" if table else where
    try:
        yield
    except StorageUnavailable as error:
        raise CopyFailed(error.reason or f"{where}: {error}") from error
    except PostroomError as error:
        raise CopyFailed(f"{where}: {error}") from error
    except Exception as error:
        if (reason := _reason(error)) is None:
            raise
        raise CopyFailed(f"{where}: {reason}") from error


def _reason(error: Exception) -> str | None:
    """Return a text for a driver's error, whose own text may hold customers' data; None for any other error."""
    if reason := explain(error):
        return reason
    if is_unique_violation(error):
        return "it has some of these rows already: another process writes to it"
    if is_unavailable(error):
        return "it can't be reached, or can't be written to, for now"
    if is_driver_error(error):
        return f"it fails with {type(unwrapped(error)).__name__}"
    return None
