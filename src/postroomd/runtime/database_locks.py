"""One service and one worker per SQLite file. PostgreSQL takes any number."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

from postroomd.runtime.errors import FatalError
from postroomd.settings import Settings
from postroomd.storage.file_kinds import kind_fault
from postroomd.storage.process_locks import Holder, ProcessLock

WAIT_SECONDS = 3.0  # for a process that is about to exit, or a worker that checkpoints in the service's place
POLL_SECONDS = 0.05

_NAMES: Mapping[Holder, str] = {"serve": "service", "worker": "worker"}


@asynccontextmanager
async def database_lock(settings: Settings, holder: Holder) -> AsyncIterator[None]:
    """Hold the lock of the service or of the worker during the block. Raises FatalError if another process holds it,
    or the path leads to something else than a file.

    An interval without a lock would let two services checkpoint: hold it until every connection is closed.
    """
    if not settings.is_sqlite:
        yield
        return
    require_file(settings.database_path)
    lock = ProcessLock(settings.database_path, holder)
    deadline = monotonic() + WAIT_SECONDS
    while not lock.try_acquire():
        if monotonic() >= deadline:
            raise FatalError(refusal(settings.database_path, holder, lock))
        await asyncio.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def all_database_locks(database: Path) -> Iterator[None]:
    """Hold both locks during the block.

    Raises FatalError at once if a service or a worker holds one, or the path leads to something else than a file.
    """
    require_file(database)
    held: list[ProcessLock] = []
    try:
        for holder in _NAMES:
            lock = ProcessLock(database, holder)
            if not lock.try_acquire():
                raise FatalError(refusal(database, holder, lock))
            held.append(lock)
        yield
    finally:
        for lock in held:
            lock.release()


def require_file(database: Path) -> None:
    """Raise FatalError for a database path that leads to something else than a file."""
    if fault := kind_fault(database):
        raise FatalError(f"{database.absolute()}: {fault}")


def refusal(database: Path, holder: Holder, lock: ProcessLock) -> str:
    """Return one line about a lock that another process holds."""
    pid = lock.holder_pid()
    process = f"process {pid}" if pid else "another process"
    return f"{database}: {process} is the {_NAMES[holder]} of this database: stop it first"
