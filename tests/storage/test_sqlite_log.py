"""The bound on SQLite's write-ahead log, and who checkpoints it when."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Pool, event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage.database import Database
from postroomd.storage.drivers import sqlite_log
from postroomd.storage.opening import open_database
from postroomd.storage.process_locks import ProcessLock
from tests.support.database_state import rows_without_log
from tests.support.waiting import wait_until

KIB = 1024
BOUNDS = {"KEPT_LOG_BYTES": 64 * KIB, "TRUNCATE_LOG_BYTES": 256 * KIB, "MAX_LOG_BYTES": 512 * KIB}
FAST = {"POLL_SECONDS": 0.01, "CHECKPOINT_SECONDS": 0.05, "READERS_TIMEOUT_MS": 50, "MAX_WAIT_SECONDS": 60.0}
SHORT_WAIT_SECONDS = 0.3
"""Of the worker, where the log can't be truncated: a slow machine may need longer to truncate one."""
TRANSACTION_BYTES = 128 * KIB


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (BOUNDS | FAST).items():
        monkeypatch.setattr(sqlite_log, name, value)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "MAX_WAIT_SECONDS", SHORT_WAIT_SECONDS)


@pytest.fixture
def path(sqlite_store: str, tmp_path: Path) -> Path:
    """The database, with a table to fill."""
    path = tmp_path / "postroom.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE filler (content BLOB)")
    return path


@pytest.fixture
async def service(path: Path) -> AsyncIterator[Database]:
    lock = ProcessLock(path, "serve")
    assert lock.try_acquire()
    database = open_database(f"sqlite+aiosqlite:///{path}", owner=True)
    yield database
    await database.close()
    lock.release()


@pytest.fixture
async def worker(path: Path) -> AsyncIterator[Database]:
    database = open_database(f"sqlite+aiosqlite:///{path}", worker=True)
    yield database
    await database.close()


def log_size(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


async def fill(connection: AsyncConnection) -> None:
    await connection.execute(text(f"INSERT INTO filler VALUES (zeroblob({TRANSACTION_BYTES}))"))


async def largest_log_during(worker: Database, path: Path, transactions: int) -> int:
    """Return the largest size of the log while the worker writes without a pause."""
    sizes = []
    for _ in range(transactions):
        await worker.write(fill)
        sizes.append(log_size(path))
    return max(sizes)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """A long read transaction, such as a backup's."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM filler").fetchone()
        yield


async def test_the_service_bounds_the_log_of_a_busy_worker(service: Database, worker: Database, path: Path) -> None:
    transactions = 60
    assert await largest_log_during(worker, path, transactions) <= BOUNDS["MAX_LOG_BYTES"] + 2 * TRANSACTION_BYTES
    await wait_until(lambda: log_size(path) <= BOUNDS["KEPT_LOG_BYTES"])  # idle
    assert await worker.read(lambda c: count(c)) == transactions


async def test_a_worker_without_a_service_bounds_its_log_itself(worker: Database, path: Path) -> None:
    assert await largest_log_during(worker, path, 60) <= BOUNDS["MAX_LOG_BYTES"] + 2 * TRANSACTION_BYTES
    await wait_until(lambda: log_size(path) <= BOUNDS["KEPT_LOG_BYTES"])
    # It holds the service's lock for its checkpoints only.
    lock = ProcessLock(path, "serve")
    await wait_until(lock.try_acquire)
    lock.release()


@pytest.mark.usefixtures("short_wait")
async def test_a_long_read_suspends_the_bound_without_stopping_writes(
    service: Database, worker: Database, path: Path
) -> None:
    with reading(path):
        assert await largest_log_during(worker, path, 20) > 2 * BOUNDS["MAX_LOG_BYTES"]
        await service.write(fill)
    await wait_until(lambda: log_size(path) <= BOUNDS["KEPT_LOG_BYTES"])


async def count(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT count(*) FROM filler"))).scalar_one())


# --- SQLite's bug in the reset of the log -----------------------------------------------------------------------------


@contextmanager
def checkpoints(path: Path) -> Iterator[list[bool]]:
    """Yield, for each explicit checkpoint, whether the service's lock was held by somebody else than this function."""
    held: list[bool] = []

    def trace(statement: str) -> None:
        if "wal_checkpoint" in statement:
            lock = ProcessLock(path, "serve")
            held.append(not lock.try_acquire())
            lock.release()

    def connected(connection: Any, _record: object) -> None:
        connection.driver_connection._conn.set_trace_callback(trace)

    event.listen(Pool, "connect", connected)
    yield held
    event.remove(Pool, "connect", connected)


@pytest.mark.usefixtures("short_wait")
async def test_a_worker_never_checkpoints_while_a_service_holds_its_lock(path: Path) -> None:
    lock = ProcessLock(path, "serve")
    assert lock.try_acquire()
    with checkpoints(path) as held:
        worker = open_database(f"sqlite+aiosqlite:///{path}", worker=True)
        await largest_log_during(worker, path, 10)
        assert held == []
        lock.release()  # the service has exited
        await wait_until(lambda: len(held) >= 2)
        await worker.close()
    assert all(held)


async def test_every_checkpoint_directly_follows_a_commit_of_its_connection(path: Path) -> None:
    # Otherwise the log could be restarted by another connection's commit while the checkpoint runs.
    traced: list[str] = []

    def connected(connection: Any, _record: object) -> None:
        connection.driver_connection._conn.set_trace_callback(traced.append)

    event.listen(Pool, "connect", connected)
    service = open_database(f"sqlite+aiosqlite:///{path}", owner=True)
    for _ in range(10):
        await service.write(fill)
    await wait_until(lambda: any("TRUNCATE" in statement for statement in traced))
    await service.close()
    event.remove(Pool, "connect", connected)
    explicit = [index for index, statement in enumerate(traced) if "wal_checkpoint" in statement]
    assert len(explicit) >= 2
    assert all(traced[index - 1].startswith("PRAGMA user_version = ") for index in explicit)


def test_storing_an_unchanged_version_is_a_commit(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute("PRAGMA user_version = 0")
        assert connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone() == (0, 1, 1)


async def test_a_checkpoint_leaves_the_writers_settings_as_they_were(service: Database, path: Path) -> None:
    async def settings(connection: AsyncConnection) -> tuple[int, ...]:
        pragmas = ("wal_autocheckpoint", "busy_timeout", "journal_size_limit")
        return tuple([(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in pragmas])

    before = await service.write(settings)
    for _ in range(5):
        await service.write(fill)
    await wait_until(lambda: log_size(path) == 0)
    assert await service.write(settings) == before == (1_000, 5_000, 4 * 1024 * KIB)


async def test_an_idle_database_is_not_written_to(service: Database, path: Path) -> None:
    await service.write(fill)
    log = path.with_name(f"{path.name}-wal")
    await wait_until(lambda: log_size(path) == 0)
    assert await service.write(count) == 1  # once the checkpoint has ended, which has the writer's connection
    state = log.stat().st_mtime_ns
    await asyncio.sleep(10 * FAST["CHECKPOINT_SECONDS"])
    assert log.stat().st_mtime_ns == state


async def test_a_commit_during_a_checkpoint_is_stored_by_the_next_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a coarse clock the log has the same time, and the same size, before and after such a commit.
    checkpoint = sqlite_log._commit_and_checkpoint
    committed: list[None] = []

    def overtaken(cursor: Any, mode: str) -> bool:
        complete = checkpoint(cursor, mode)
        if not committed:
            log = path.with_name(f"{path.name}-wal")
            before = log.stat()
            with closing(sqlite3.connect(path)) as other, other:
                other.execute("INSERT INTO filler VALUES (NULL)")
            os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert log.stat().st_size == before.st_size
            committed.append(None)
        return complete

    monkeypatch.setattr(sqlite_log, "_commit_and_checkpoint", overtaken)
    service = open_database(f"sqlite+aiosqlite:///{path}", owner=True)
    await wait_until(lambda: committed and rows_without_log(path, "SELECT count(*) FROM filler") == [(1,)])
    await service.close()
