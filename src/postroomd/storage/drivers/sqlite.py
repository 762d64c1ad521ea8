"""SQLite in WAL mode: one writer connection per process, a few readers, and threads for compiled reads.

SQLite before 3.51.3 can lose committed writes if two connections checkpoint the write-ahead log at the same time.
Therefore only the writer of the process that owns the file, the service, does so by itself; `wal_autocheckpoint` is off
in every other connection. See `sqlite_log` for the rest.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.operators import custom_op

from postroomd.domain.diagnosis import Finding
from postroomd.domain.errors import RoleRefused, StorageUnavailable
from postroomd.domain.tenancy import Scope
from postroomd.storage.compiled import CompiledReader, ReadPath
from postroomd.storage.drivers.base import POOL_TIMEOUT_SECONDS, Driver, Engines, Failure, Fault, Matches
from postroomd.storage.drivers.sqlite_connection import open_connection
from postroomd.storage.drivers.sqlite_diagnosis import diagnose_file, diagnose_mode
from postroomd.storage.drivers.sqlite_files import SqliteFiles, fault_of
from postroomd.storage.drivers.sqlite_log import KEPT_LOG_BYTES, WriteAheadLog, always, unless_a_service_runs
from postroomd.storage.drivers.sqlite_pool import QueueingPool
from postroomd.storage.drivers.types import ID
from postroomd.storage.file_kinds import kind_fault

BUSY_TIMEOUT_MS = 5_000
READERS = 4
# A reader's own page cache duplicates the system's: 512 KiB hold the inner pages of the indexes.
READER_PRAGMAS = {"wal_autocheckpoint": 0, "cache_size": -512}
# SQLite shortens a log that it begins anew, but otherwise never.
WRITER_PRAGMAS = {"journal_size_limit": KEPT_LOG_BYTES}
BULK_CACHE_KIB = 128 * 1024  # a larger cache deletes a domain with 100,000 mailboxes no faster
BY_KEY_POOL = (2, 32)  # connections, and statements queued for the first before the second is used
SCAN_POOL = (3, 1)


class SqliteDriver(Driver):
    """SQLite over aiosqlite, and over the sqlite3 module for compiled reads."""

    name = "sqlite"
    snapshot_options: ClassVar[Mapping[str, Any]] = {}  # every read transaction is a snapshot

    def open_engines(
        self,
        url: sa.URL,
        *,
        owner: bool,
        worker: bool,
        pool_size: int,
        isolation: str | None,
        statement_timeout_seconds: float,
    ) -> Engines:
        """Return the connection pools of a file; only `owner` and `worker` have an effect.

        Raises StorageUnavailable, with the reason, for a path that leads to anything else than a file.
        """
        if fault := kind_fault(self.file(url)):
            raise StorageUnavailable(reason=f"{self.describe(url)}: {fault}")
        reader = _engine(url, READERS, begin="BEGIN", pragmas=READER_PRAGMAS)
        writer_pragmas = WRITER_PRAGMAS if owner else {**WRITER_PRAGMAS, "wal_autocheckpoint": 0}
        writer = _engine(url, 1, begin="BEGIN IMMEDIATE", pragmas=writer_pragmas)
        connect = partial(_read_only_connection, url)
        path = ReadPath(QueueingPool(connect, *BY_KEY_POOL), QueueingPool(connect, *SCAN_POOL))
        compiled = CompiledReader(reader.dialect, path, path)
        if not (owner or worker):
            return Engines(self, reader, writer, compiled)
        database = self.file(url)
        write_ahead_log = WriteAheadLog(database, writer, always if owner else unless_a_service_runs(database))
        wait_for_room = write_ahead_log.wait_for_room if worker else None
        files = SqliteFiles(database, partial(_read_only_connection, url))
        return Engines(
            self,
            reader,
            writer,
            compiled,
            upkeep=write_ahead_log.keep_small,
            wait_for_room=wait_for_room,
            check_files=partial(asyncio.to_thread, files.check),
            rescue=write_ahead_log.rescue,
            close_files=partial(asyncio.to_thread, files.close),
        )

    def describe(self, url: sa.URL, *, with_user: bool = False) -> str:
        """Return the engine and the path of the file."""
        return f"SQLite {url.database}"

    def file(self, url: sa.URL) -> Path:
        """Return the path of the file."""
        return Path(str(url.database))

    def write_fault(self, url: sa.URL) -> str | None:
        """Return the fault if this user may not write to the file or to its directory, which holds the log."""
        file = self.file(url)
        if all(os.access(path, os.W_OK) for path in (file.parent, file) if path.exists()):
            return None
        return _EXPLANATIONS[sqlite3.SQLITE_READONLY]

    def versions(self) -> Mapping[str, str]:
        """Return the version of the SQLite library."""
        return {"sqlite_version": sqlite3.sqlite_version}

    async def enter_tenant(self, connection: AsyncConnection, scope: Scope) -> None:
        """Do nothing: SQLite has no row-level security."""

    async def server_time(self, connection: AsyncConnection) -> datetime | None:
        """Return None: SQLite reads the clock of this process."""

    def diagnose(self, connection: sa.Connection) -> Sequence[Finding]:
        """Return the version, the journal mode, and the size of the write-ahead log."""
        return diagnose_file(connection, self.file(connection.engine.url))

    def diagnose_readers(self, connection: sa.Connection, views: Sequence[str]) -> Sequence[Finding]:
        """Return whether the mode of the file lets more users read or change it than it should."""
        return [diagnose_mode(self.file(connection.engine.url))]

    def prepare(self, connection: sa.Connection) -> None:
        """Do nothing: a file holds all of its database."""

    def repair(self, connection: sa.Connection, tables: Sequence[str], searched: Sequence[tuple[str, str]]) -> None:
        """Do nothing: a file holds all of its database."""

    def faults(
        self, connection: sa.Connection, tables: Sequence[str], searched: Sequence[tuple[str, str]]
    ) -> Sequence[str]:
        """Return nothing: a file holds all of its database."""
        return ()

    def hidden_tables(self, connection: sa.Connection, tables: Sequence[str]) -> Sequence[str]:
        """Return nothing: there is no row-level security."""
        return ()

    def create_reader(self, connection: sa.Connection, name: str, password: str, views: Sequence[str]) -> None:
        """Raise RoleRefused: the modes of the file decide who reads it."""
        raise RoleRefused("SQLite has no roles: the modes of the file decide who reads it, see docs/mail-server.md")

    def view_definitions(self, connection: sa.Connection, prefix: str) -> Iterable[tuple[str, Sequence[str]]]:
        """Return the views as they were created."""
        named = "SELECT name, sql FROM sqlite_master WHERE type = 'view' AND substr(name, 1, ?) = ? ORDER BY name"
        return [(name, (sql,)) for name, sql in connection.exec_driver_sql(named, (len(prefix), prefix))]

    @asynccontextmanager
    async def enlarged_page_cache(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Enlarge the page cache for a bulk change.

        Once the cache is full of changed pages, each further one spills another into the write-ahead log, which is
        read back for the next row on it: half of the time of changing 100,000 mailboxes.
        """
        before = (await connection.exec_driver_sql("PRAGMA cache_size")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA cache_size = -{BULK_CACHE_KIB}")
        try:
            yield
        finally:
            await connection.exec_driver_sql(f"PRAGMA cache_size = {before}")

    def without_index(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return an expression of the column, since no index contains it (https://sqlite.org/optoverview.html#uplus).

        SQLite keeps no statistics, and takes an index of organizations for more selective than a few ids.
        """
        return sa.UnaryExpression(column, operator=custom_op("+"), type_=column.type)

    def contains(self, column: sa.ColumnElement[str], text: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        """Return the position of the text as a condition."""
        return sa.func.instr(column, text) > 0

    def search(
        self, table: sa.Table, searched: Sequence[str], columns: Sequence[sa.Column[Any]], max_rows: int
    ) -> Matches:
        """Return the matches of an FTS5 index of organizations' trigrams, whose keys a numbers table maps to ids."""
        index = f"search_{table.name}_terms"
        search = sa.table(index, sa.column(index), sa.column("rowid"))
        numbers = sa.table(f"search_{table.name}_numbers", sa.column("number"), sa.column("id", ID))
        matching = sa.select(search.c.rowid).where(search.c[index].op("MATCH")(sa.bindparam("phrases", type_=sa.Text)))
        keys = matching.limit(max_rows).cte("found")
        ids: sa.SelectBase = sa.select(numbers.c.id).where(numbers.c.number.in_(sa.select(keys)))
        return Matches(keys, self.rows_by_id(table, ids))

    async def require_every_row(self, connection: AsyncConnection) -> None:
        """Do nothing: SQLite hides no rows."""

    def octet_order(self, column: sa.ColumnClause[Any]) -> sa.ColumnElement[Any]:
        """Return the column itself: SQLite compares text octet by octet."""
        return column

    async def written_position(self, engine: AsyncEngine) -> int | None:
        """Return None: SQLite has no replication."""

    async def replayed_position(self, engine: AsyncEngine) -> int | None:
        """Return None: SQLite has no replication."""

    def classify(self, error: BaseException) -> Failure | None:
        """Return the meaning of an extended result code."""
        code = getattr(error, "sqlite_errorcode", None)
        if not isinstance(code, int):
            return Failure.OTHER if isinstance(error, sqlite3.Error) else None
        if code in _UNIQUE_VIOLATIONS:
            return Failure.UNIQUE_VIOLATION
        return _PRIMARY_CODES.get(code & 0xFF, Failure.OTHER)

    def fault_of(self, error: BaseException) -> Fault | None:
        """Return what a result code tells of the files."""
        return fault_of(error)

    def explain(self, error: BaseException) -> str | None:
        """Return the cause of an error that an operator can remedy."""
        code = getattr(error, "sqlite_errorcode", None)
        return _EXPLANATIONS.get(code & 0xFF) if isinstance(code, int) else None


_EXPLANATIONS = {
    sqlite3.SQLITE_READONLY: "this user can't write to the file or its directory: change their owner or mode",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened: check that its directory exists, and its owner and mode",
    sqlite3.SQLITE_PERM: "this user can't open the file: change its owner or mode",
    sqlite3.SQLITE_BUSY: "another process has locked the file: end its transaction, or the process",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database, or is damaged",
    sqlite3.SQLITE_CORRUPT: "the file is not an SQLite database, or is damaged",
}

_UNIQUE_VIOLATIONS = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}

# Primary result codes (https://sqlite.org/rescode.html).
_PRIMARY_CODES = {
    sqlite3.SQLITE_BUSY: Failure.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Failure.UNAVAILABLE,
    sqlite3.SQLITE_FULL: Failure.UNAVAILABLE,
    sqlite3.SQLITE_IOERR: Failure.UNAVAILABLE,
    sqlite3.SQLITE_LOCKED: Failure.UNAVAILABLE,
    sqlite3.SQLITE_NOMEM: Failure.UNAVAILABLE,
    sqlite3.SQLITE_PROTOCOL: Failure.UNAVAILABLE,
    sqlite3.SQLITE_READONLY: Failure.UNAVAILABLE,
    sqlite3.SQLITE_NOTADB: Failure.DAMAGED,
    sqlite3.SQLITE_CORRUPT: Failure.DAMAGED,
}


def _engine(url: sa.URL, pool_size: int, *, begin: str, pragmas: Mapping[str, int]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        async_creator=partial(open_connection, partial(_connection, url, pragmas)),
        hide_parameters=True,  # parameters are customers' data
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
    )

    @sa.event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _read_only_connection(url: sa.URL) -> sqlite3.Connection:
    return _connection(url, {**READER_PRAGMAS, "query_only": 1})


def _connection(url: sa.URL, pragmas: Mapping[str, int]) -> sqlite3.Connection:
    """Open the file. Another thread than the connection's may read attributes of it, and of its cursors.

    Raises errors of the sqlite3 module.
    """
    connection = sqlite3.connect(url.database or "", check_same_thread=False)
    try:
        _configure(connection, pragmas)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, pragmas: Mapping[str, int]) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    settings = {
        "busy_timeout": BUSY_TIMEOUT_MS,
        "journal_mode": "WAL",
        "synchronous": "FULL",
        "foreign_keys": "ON",
        **pragmas,
    }
    cursor = connection.cursor()
    for name, value in settings.items():
        cursor.execute(f"PRAGMA {name} = {value}")
    cursor.close()
