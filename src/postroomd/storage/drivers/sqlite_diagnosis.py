"""What can be wrong with an SQLite file and its library, for the operator."""

import sqlite3
import stat
from pathlib import Path

import sqlalchemy as sa

from postroomd.domain.diagnosis import Condition, Finding

MIN_VERSION = (3, 35)  # of RETURNING and of the window functions that statements use
FIXED_VERSION = "3.51.3"  # before it, two connections that checkpoint at once can lose commits
MAX_LOG_BYTES = 256_000_000


def diagnose_file(connection: sa.Connection, database: Path) -> list[Finding]:
    """Return the findings on the library's version, the journal mode, and the size of the write-ahead log."""
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
    return [_version(sqlite3.sqlite_version_info), _journal_mode(mode), _log_size(_size(database))]


def diagnose_mode(database: Path) -> Finding:
    """Return the finding on the mode of the file, which holds password hashes and private keys."""
    return _mode(database.stat().st_mode)


def _mode(mode: int) -> Finding:
    text = f"mode {stat.S_IMODE(mode):04o}"
    remedy = "chmod 600, or chmod 640 with the group of the mail server; the files beside it follow"
    if mode & stat.S_IRWXO:
        detail = f"{text}: every user of this machine can read password hashes and private keys"
        return Finding(check="database file", condition=Condition.WARNING, detail=detail, remedy=remedy)
    if mode & stat.S_IWGRP:
        detail = f"{text}: its group can change it, which a mail server must not"
        return Finding(check="database file", condition=Condition.WARNING, detail=detail, remedy=remedy)
    readers = "its group" if mode & stat.S_IRGRP else "its owner alone"
    return Finding(check="database file", condition=Condition.OK, detail=f"{text}: {readers} can read it")


def _version(version: tuple[int, ...]) -> Finding:
    name = ".".join(map(str, version))
    if version < MIN_VERSION:
        remedy = "install Python with a newer SQLite library"
        return Finding(check="sqlite version", condition=Condition.ERROR, detail=f"{name} is too old", remedy=remedy)
    fixed = version >= tuple(map(int, FIXED_VERSION.split(".")))
    note = "" if fixed else f"; before {FIXED_VERSION} only the service may checkpoint: open the file with nothing else"
    return Finding(check="sqlite version", condition=Condition.OK, detail=name + note)


def _journal_mode(mode: str) -> Finding:
    if mode == "wal":
        return Finding(check="journal mode", condition=Condition.OK, detail=mode)
    remedy = "stop all processes and run `postroom migrate`; the file must not be on a network file system"
    detail = f"{mode}, where wal is needed: writers block readers"
    return Finding(check="journal mode", condition=Condition.ERROR, detail=detail, remedy=remedy)


def _log_size(size: int) -> Finding:
    detail = f"{size / 1e6:.1f} MB"
    if size <= MAX_LOG_BYTES:
        return Finding(check="write-ahead log", condition=Condition.OK, detail=detail)
    remedy = "end the backup or the other long read transaction that keeps it from being truncated"
    return Finding(check="write-ahead log", condition=Condition.WARNING, detail=detail, remedy=remedy)


def _size(database: Path) -> int:
    try:
        return Path(f"{database}-wal").stat().st_size
    except FileNotFoundError:
        return 0
