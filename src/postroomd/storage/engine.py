"""From a URL to a database: connections, transactions, and the driver's errors as the domain's.

SQLite runs in WAL mode with one writer connection a process and a few readers. SQLite before 3.51.3 can lose committed
writes when two connections checkpoint the write-ahead log at the same time, so only the writer of the process that
owns the file, the service, does so; in every other connection `wal_autocheckpoint` is off.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy import event, exc, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.repository import Repository

Result = TypeVar("Result")
Transaction = Callable[[AsyncConnection], Awaitable[Result]]

BUSY_TIMEOUT_MS = 5_000
READERS = 4
CHECKPOINT_SECONDS = 5.0

# What SQLite answers when the file is out of reach for now; any other code is a fault of ours.
_OUT_OF_REACH = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}

log = structlog.get_logger()


class Database:
    """The connections to one database, and whole transactions over them."""

    def __init__(self, reader: AsyncEngine, writer: AsyncEngine, *, owner: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._running: set[asyncio.Task[Any]] = set()
        self._checkpoints = asyncio.create_task(self._keep_log_short()) if owner else None

    async def read(self, work: Transaction[Result]) -> Result:
        """What `work` answers inside one read transaction. Raises StorageUnavailable."""
        try:
            async with self._reader.connect() as connection:
                return await work(connection)
        except Exception as error:
            raise translated(error) from error

    async def write(self, work: Transaction[Result]) -> Result:
        """What `work` answers inside one write transaction, committed. Raises StorageUnavailable.

        A transaction that has begun runs to its end even when the caller is canceled: a client that hangs up can't
        leave a connection between two statements.
        """
        task = asyncio.ensure_future(self._transaction(work))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let running transactions finish, then close every connection."""
        if self._checkpoints:
            self._checkpoints.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._reader.dispose()
        await self._writer.dispose()

    async def _transaction(self, work: Transaction[Result]) -> Result:
        try:
            async with self._writer.begin() as connection:
                return await work(connection)
        except Exception as error:
            raise translated(error) from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not complain where the caller has gone

    async def _keep_log_short(self) -> None:
        """Checkpoint what other processes wrote, since only this one may."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            try:
                async with self._writer.connect() as connection:
                    autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                    await autocommit.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))
            except exc.SQLAlchemyError as error:
                log.warning("checkpoint failed", error=type(error).__name__)


async def open_repository(url: str, *, owner: bool = False) -> Repository:
    """The repository over the database at `url`, such as sqlite+aiosqlite:///PATH.

    `owner` is the one process that may checkpoint an SQLite file. Raises StorageUnavailable.
    """
    from postroomd.storage.sql import SqlRepository

    database = open_database(url, owner=owner)
    repository = SqlRepository(database)
    try:
        await repository.ping()
    except BaseException:
        await repository.close()
        raise
    return repository


def open_database(url: str, *, owner: bool = False) -> Database:
    """The database at `url`; nothing is connected until it is used. Needs a running event loop."""
    log.info("database", dialect=make_url(url).get_backend_name(), sqlite=sqlite3.sqlite_version)
    reader = _engine(url, pool_size=READERS, begin="BEGIN", pragmas={"wal_autocheckpoint": 0})
    checkpoint = {} if owner else {"wal_autocheckpoint": 0}
    writer = _engine(url, pool_size=1, begin="BEGIN IMMEDIATE", pragmas=checkpoint)
    return Database(reader, writer, owner=owner)


def migration_engine(url: str) -> AsyncEngine:
    """One connection to change the schema of the database at `url` over, in one transaction."""
    return _engine(url, pool_size=1, begin="BEGIN IMMEDIATE", pragmas={"wal_autocheckpoint": 0})


def _engine(url: str, *, pool_size: int, begin: str, pragmas: dict[str, int]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # a statement's parameters are customers' data
    )
    settings = {
        "busy_timeout": BUSY_TIMEOUT_MS,
        "journal_mode": "WAL",
        "synchronous": "FULL",
        "foreign_keys": "ON",
        **pragmas,
    }

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver is not to begin transactions by itself
        cursor = connection.cursor()
        for name, value in settings.items():
            cursor.execute(f"PRAGMA {name} = {value}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def translated(error: Exception) -> Exception:
    """The domain's error for a driver's; any other error as it is."""
    if isinstance(error, exc.TimeoutError):
        return StorageUnavailable()
    if isinstance(error, exc.DBAPIError) and _primary_code(error.orig) in _OUT_OF_REACH:
        log.warning("database out of reach", error=str(error.orig))
        return StorageUnavailable()
    return error


def _primary_code(error: BaseException | None) -> int | None:
    """The primary result code of an SQLite error (https://sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
