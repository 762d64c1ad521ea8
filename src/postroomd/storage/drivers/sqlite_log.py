"""The bound on SQLite's write-ahead log, and the only place that checkpoints it explicitly.

While one process writes without a pause, a passive checkpoint never catches up with it, so that the log grows with
every commit. The log is therefore truncated, which needs a moment without writers: beyond MAX_LOG_BYTES the worker
waits before each transaction until that has happened.

SQLite before 3.51.3 can lose committed transactions when a checkpoint begins at which every frame of the log is in the
database already, and another connection commits meanwhile: its commit restarts the log, and the checkpoint marks frames
of the new log as stored that are not ("WAL-reset bug", https://sqlite.org/wal.html). Two rules rule that out:

- One process checkpoints at a time: the holder of `FILE.serve.lock`, that is the service for as long as it runs, and
  otherwise the worker, for the duration of one checkpoint. It uses one connection, its writer.
- Each checkpoint directly follows a commit of the same connection. The log then has a frame that is not in the database
  yet, so that no other connection can restart it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import SQLITE_LOG_BYTES
from postroomd.storage.process_locks import ProcessLock

MIB = 1024 * 1024
KEPT_LOG_BYTES = 4 * MIB  # that an idle database may keep: SQLite's default of 1,000 pages between checkpoints
TRUNCATE_LOG_BYTES = 64 * MIB
MAX_LOG_BYTES = 96 * MIB  # plus one transaction of the worker, about 13 MiB for the purge of 200 mailboxes

POLL_SECONDS = 0.25
CHECKPOINT_SECONDS = 5.0
READERS_TIMEOUT_MS = 500  # that a truncation waits for readers, while writers wait for it
MAX_WAIT_SECONDS = 10.0  # of the worker: longer only if a long read transaction, such as a backup, keeps the log
SUSPENDED_SECONDS = 60.0  # for which the worker then ignores the bound
MAX_TRUNCATE_BACKOFF_SECONDS = 15.0

log = get_logger()


class WriteAheadLog:
    """The write-ahead log of one database, as the process sees it that checkpoints, or that waits for checkpoints."""

    def __init__(self, database: Path, writer: AsyncEngine, may_checkpoint: Callable[[], AbstractContextManager[bool]]):
        self._path = Path(f"{database.resolve()}-wal")
        self._writer = writer
        self._may_checkpoint = may_checkpoint
        self._checkpointing = asyncio.Lock()
        self._stored: Version | None = None  # of which, and of all before it, the database has every page
        self._suspended_until = 0.0  # event loop time
        self._failed = False

    def size(self) -> int:
        """Return the size in bytes, 0 if there is none."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    async def keep_small(self) -> None:
        """Checkpoint every CHECKPOINT_SECONDS if there were commits, and as soon as the log has grown, until cancelled.

        Sets the metric of the log's size.
        """
        loop = asyncio.get_running_loop()
        next_checkpoint = loop.time() + CHECKPOINT_SECONDS
        next_truncation, backoff = 0.0, POLL_SECONDS
        while True:
            await asyncio.sleep(min(POLL_SECONDS, CHECKPOINT_SECONDS))
            size, now = self.size(), loop.time()
            SQLITE_LOG_BYTES.set(size)
            has_grown = size > TRUNCATE_LOG_BYTES and now >= next_truncation
            if not has_grown and now < next_checkpoint:
                continue
            next_checkpoint = now + CHECKPOINT_SECONDS
            await self.checkpoint()
            backoff = (
                min(2 * backoff, MAX_TRUNCATE_BACKOFF_SECONDS) if self.size() > TRUNCATE_LOG_BYTES else POLL_SECONDS
            )
            next_truncation = loop.time() + backoff

    async def wait_for_room(self) -> None:
        """Return once the log is at most MAX_LOG_BYTES, or can't become so because of a long read transaction."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._suspended_until or self.size() <= MAX_LOG_BYTES:
            return
        deadline = loop.time() + MAX_WAIT_SECONDS
        while self.size() > MAX_LOG_BYTES:
            await self.checkpoint()
            if loop.time() >= deadline:
                log.warning("write-ahead log can't be truncated: is a backup running?", bytes=self.size())
                self._suspended_until = loop.time() + SUSPENDED_SECONDS
                return
            await asyncio.sleep(POLL_SECONDS)

    async def checkpoint(self) -> bool:
        """Copy committed changes into the database as far as readers permit, and truncate a log that has grown.

        Do nothing if there were no commits since the last one that copied everything.
        Returns False if another process has the right to checkpoint. A failure is logged: the next one may succeed.
        """
        permitted = True
        async with self._checkpointing:
            try:
                with self._may_checkpoint() as permitted:
                    if permitted:
                        await self._checkpoint()
            except Exception as error:
                if not self._failed:
                    log.warning("checkpoint failed", error=type(error).__name__)
                self._failed, self._stored = True, None
            else:
                self._failed = False
        return permitted

    async def rescue(self) -> bool | None:
        """Store what a deleted log holds, which this process still has open. Returns whether that is every commit.

        It is not if another process has begun a new log in its place. Returns None without the right to checkpoint.
        """
        if self._path.exists():
            return False
        if not await self.checkpoint():
            return None
        return self._stored is not None and not self._path.exists()

    async def _checkpoint(self) -> None:
        async with self._writer.connect() as connection:
            # On the driver's connection: SQLAlchemy would begin a transaction, in which no checkpoint is possible.
            pooled = await connection.get_raw_connection()
            await connection.run_sync(lambda _: self._run_checkpoint(pooled.driver_connection, pooled.cursor()))

    def _run_checkpoint(self, connection: object, cursor: Any) -> None:
        # Before the checkpoint: what another process commits meanwhile may not be part of it, and counts as new.
        version = Version(connection, *_row(cursor, "SELECT data_version, total_changes() FROM pragma_data_version"))
        if version == self._stored:
            return
        automatic, timeout = _value(cursor, "wal_autocheckpoint"), _value(cursor, "busy_timeout")
        cursor.execute("PRAGMA wal_autocheckpoint = 0")  # it would store the frame of the commit
        try:
            complete = _commit_and_checkpoint(cursor, "PASSIVE")  # most of the work, without blocking writers
            if self.size() > KEPT_LOG_BYTES:
                cursor.execute(f"PRAGMA busy_timeout = {READERS_TIMEOUT_MS}")
                complete = _commit_and_checkpoint(cursor, "TRUNCATE")
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout}")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {automatic}")
        self._stored = version if complete else None


class Version(NamedTuple):
    """What a connection knows of the commits to its file. The times of the file are too coarse to tell two apart."""

    connection: object
    others: int  # changes with the commits of all other connections
    own: int  # rows that this connection changed


def _commit_and_checkpoint(cursor: Any, mode: str) -> bool:
    """Return whether all of the log is in the database."""
    # Storing an unchanged version is a commit of one page.
    cursor.execute(f"PRAGMA user_version = {_value(cursor, 'user_version')}")
    busy, frames, stored = _row(cursor, f"PRAGMA wal_checkpoint({mode})")
    return not busy and frames == stored


def _value(cursor: Any, pragma: str) -> int:
    return int(_row(cursor, f"PRAGMA {pragma}")[0])


def _row(cursor: Any, statement: str) -> Any:
    cursor.execute(statement)
    return cursor.fetchone()


@contextmanager
def always() -> Iterator[bool]:
    """The right to checkpoint of the service, which holds its lock for as long as it has connections."""
    yield True


def unless_a_service_runs(database: Path) -> Callable[[], AbstractContextManager[bool]]:
    """Return the right to checkpoint of a worker: while it has it, no service can start."""

    @contextmanager
    def acquire() -> Iterator[bool]:
        lock = ProcessLock(database, "serve")
        permitted = lock.try_acquire()
        try:
            yield permitted
        finally:
            lock.release()

    return acquire
