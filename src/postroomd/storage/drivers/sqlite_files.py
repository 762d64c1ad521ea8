"""Watches the files of an SQLite database in use: both are still the ones that were opened, and can be read.

SQLite itself notices neither. A process that has a deleted file open goes on reading and writing it, and what it writes
is lost when it exits. A damaged page is found by the statement that needs it, and none may for a long time.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from postroomd.storage.drivers.base import Fault, FaultKind

Identity = tuple[int, int]  # device and inode

RESTART = "stop every process of this database, then start them again"
RESTORE = "stop every process of this database, and restore a backup"

_LOG_REPLACED = Fault(
    FaultKind.LOG_REPLACED, f"the write-ahead log was deleted or replaced while it was in use: {RESTART}", lasting=True
)
_FILE_REPLACED = Fault(
    FaultKind.FILE_REPLACED, f"the database file was deleted or replaced while it was in use: {RESTART}", lasting=True
)

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DAMAGED_EXTENDED = {sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}


class SqliteFiles:
    """The database file and its write-ahead log, as they were at the first check.

    A connection is kept open, so that the log is not deleted when the others are closed. Its thread may change.
    """

    def __init__(self, database: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        resolved = database.resolve()
        self._paths = (resolved, Path(f"{resolved}-wal"))
        self._connect = connect
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._opened: tuple[Identity | None, Identity | None] = (None, None)

    def check(self) -> Fault | None:
        """Return what is wrong with the files, or None. Blocks; raises errors of the sqlite3 module that tell nothing.

        Reads the schema from the file, not from a cache. Finds nothing once closed.
        """
        with self._lock:
            if self._closed:  # by another thread, after this check was asked for
                return None
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    self._read()
                    self._opened = self._identities()
                file, write_ahead_log = self._identities()
                if file != self._opened[0]:
                    return _FILE_REPLACED
                if write_ahead_log != self._opened[1]:
                    return _LOG_REPLACED
                self._read()
            except sqlite3.Error as error:
                if (fault := fault_of(error)) is None:
                    raise
                return fault
        return None

    def close(self) -> None:
        """Close the connection. Blocks."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._closed = None, True

    def _read(self) -> None:
        if self._connection is not None:
            self._connection.execute("PRAGMA shrink_memory").close()  # drops cached pages
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def _identities(self) -> tuple[Identity | None, Identity | None]:
        return _identity(self._paths[0]), _identity(self._paths[1])


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def fault_of(error: BaseException) -> Fault | None:
    """Return what an error tells of the files; None if nothing, as a lock that was not free in time."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int):
        return None
    name = getattr(error, "sqlite_errorname", code)
    if code & 0xFF in _DAMAGED or code in _DAMAGED_EXTENDED:
        return Fault(FaultKind.DAMAGED, f"the database file is damaged ({name}): {RESTORE}", lasting=True)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return _FILE_REPLACED
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return Fault(FaultKind.DISK_FULL, "the disk is full: changes fail until there is space", lasting=False)
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return Fault(FaultKind.IO_ERROR, f"the database file can't be read or written ({name})", lasting=False)
    return None
