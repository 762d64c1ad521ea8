"""Backups of an SQLite database while it is in use, and their restoration.

A backup is copied in steps of BACKUP_PAGES within one read transaction. In write-ahead log mode that blocks nobody, and
the snapshot stays the same however much is written: `sqlite3 .backup` begins anew whenever another process has
committed. It needs the free space of one database, and keeps the write-ahead log from being truncated meanwhile.

Both directions verify the new file before they give it its name, which replaces nothing half-way: files are written
under a temporary name beside it, synchronized, and renamed.
"""

import hashlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from postroomd.storage.migrations import COPY_PROGRESS, HEAD

BACKUP_PAGES = 2_048  # 8 MiB a step, so that progress can be shown
CHUNK_BYTES = 1024 * 1024
BUSY_TIMEOUT_SECONDS = 5.0
MAX_FINDINGS = 3  # of an integrity check, in a message

Progress = Callable[[int, int], None]
"""Called with the number of pages copied and of all pages."""


class BackupFailed(Exception):
    """A backup could not be made or restored; nothing was changed. The text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified database file: its schema revision, its size in bytes, its SHA-256 digest, and rows by table."""

    revision: str
    size: int
    sha256: str
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored backup, and the name that the replaced database file has now, if there was one."""

    backup: Verified
    aside: Path | None


def checksum_path(backup: Path) -> Path:
    """Return the path of a backup's checksum, in the format of `sha256sum --check`."""
    return backup.with_name(f"{backup.name}.sha256")


def back_up(database: Path, target: Path, *, overwrite: bool, progress: Progress) -> Verified:
    """Back up a database, of whatever revision, to a new file that only its owner can read.

    Raises BackupFailed, also if the target exists and is not to be overwritten.
    """
    _require_apart(database, target)
    if target.is_dir():
        raise BackupFailed(f"{target}: it is a directory: expected the name of a file")
    if target.exists() and not target.is_file():  # such as /dev/null, which the backup would take the place of
        raise BackupFailed(f"{target}: it is a device or a pipe: expected the name of a file")
    if target.exists() and not overwrite:
        raise BackupFailed(f"{target}: it exists: choose another name, or replace it with --force")
    if not os.access(database, os.R_OK):
        raise BackupFailed(f"{database}: this user can't read it: change its owner or mode")
    with _errors_of(target, database), _temporary(target) as temporary:
        snapshot = _copy_snapshot(database, temporary, progress)
        backup = _verify(temporary, target)
        if backup.rows != snapshot:
            raise BackupFailed(f"{target}: the copy has other rows than the database: check the disk, and repeat it")
        checksum_path(target).unlink(missing_ok=True)  # of the file that is replaced
        _install(temporary, target)
        _write_checksum(target, backup.sha256)
    return backup


def restore(backup: Path, database: Path, now: datetime) -> Restored:
    """Replace a database, which the caller has locked, by a verified copy of a backup. The old one is kept.

    A backup of an older schema revision is restored as it is. Raises BackupFailed.
    """
    _require_apart(database, backup)
    if not backup.is_file():
        raise BackupFailed(f"{backup}: there is no such file")
    log = _log_of(backup)
    if log.exists() and log.stat().st_size:
        raise BackupFailed(f"{backup}: {log.name} holds a part of it: use a backup that `postroom backup` has made")
    target = database.resolve()
    with _errors_of(target, target), _temporary(target) as temporary:
        with backup.open("rb") as source, temporary.open("r+b") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
        _require_checksum(backup, _digest(temporary))
        restored = _verify(temporary, backup)
        if restored.revision > HEAD:
            raise BackupFailed(f"{backup}: its schema is {restored.revision}, ahead of {HEAD}: run a newer Postroom")
        aside = _put_aside(target, now)
        _install(temporary, target)
    return Restored(restored, aside)


def _copy_snapshot(database: Path, temporary: Path, progress: Progress) -> Mapping[str, int]:
    """Copy a database. Returns its rows by table."""
    with closing(_connect(database)) as source, closing(_connect(temporary)) as target:
        source.execute("PRAGMA query_only = ON")
        source.execute("PRAGMA wal_autocheckpoint = 0")
        target.execute("PRAGMA synchronous = OFF")  # the whole file is synchronized at the end
        source.execute("BEGIN")
        try:
            rows = _rows(source)  # begins the read transaction that every step then shares
            source.backup(
                target,
                pages=BACKUP_PAGES,
                progress=lambda _status, remaining, total: progress(total - remaining, total),
            )
        finally:
            source.execute("ROLLBACK")
    return rows


def _verify(path: Path, name: Path) -> Verified:
    """Check the pages, indexes and references of a file. Raises BackupFailed about the file as `name`."""
    try:
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a write-ahead log
            findings = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})")]
            if findings != ["ok"]:
                lines = "\n".join(findings).splitlines()  # one finding may have several
                raise BackupFailed(f"{name}: it is damaged: {'; '.join(lines[:MAX_FINDINGS])}")
            references = connection.execute("PRAGMA foreign_key_check").fetchmany(MAX_FINDINGS)
            if references:
                tables = ", ".join(sorted({str(row[0]) for row in references}))
                raise BackupFailed(f"{name}: it is damaged: rows of {tables} refer to rows that do not exist")
            rows = _rows(connection)
            if "alembic_version" not in rows:
                raise BackupFailed(f"{name}: it is not a database of Postroom")
            if COPY_PROGRESS in rows:
                raise BackupFailed(f"{name}: it is an unfinished copy: run the same `postroom copy` again first")
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise BackupFailed(f"{name}: it is not an SQLite database, or is damaged") from error
        raise
    return Verified(str(revision), path.stat().st_size, _digest(path), rows)


def _rows(connection: sqlite3.Connection) -> Mapping[str, int]:
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall()
    # Names from the schema itself.
    return {name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for (name,) in names}  # noqa: S608


def _put_aside(database: Path, now: datetime) -> Path | None:
    """Give the database another name as well, and remove its write-ahead log. Returns the name, None without a file.

    At every instant there is a whole database under its own name, if the file system has hard links.
    """
    log, shared = _log_of(database), database.with_name(f"{database.name}-shm")
    aside = database.with_name(f"{database.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise BackupFailed(f"{aside}: it exists: repeat the command in a second")
    exists = database.exists()
    if exists:
        _store_log(database)
    if log.exists():  # of a database that is gone: a new one must not replay it
        log.rename(_log_of(aside))
    shared.unlink(missing_ok=True)
    if not exists:
        return None
    try:
        os.link(database, aside)
    except OSError:  # a file system without hard links
        database.rename(aside)
    return aside


def _store_log(database: Path) -> None:
    """Store the write-ahead log in the database. Raises BackupFailed if another process has it open."""
    try:
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise BackupFailed(f"{database}: another process has it open: end it first") from error
        # Otherwise it is damaged, and kept as it is.


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _require_apart(database: Path, file: Path) -> None:
    """Raise BackupFailed for a name that belongs to the database itself."""
    resolved = database.resolve()
    if file.resolve() in {resolved, *(resolved.with_name(resolved.name + suffix) for suffix in ("-wal", "-shm"))}:
        raise BackupFailed(f"{file}: it belongs to the database itself: choose another file")


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a new file beside the target that only its owner can read, which is removed unless it was renamed."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise BackupFailed(f"{target}: can't write to its directory: {error.strerror}") from error
    try:
        yield path
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _install(temporary: Path, target: Path) -> None:
    """Give a file its name, durably. A file that root restores keeps the owner of the one it replaces."""
    if os.geteuid() == 0:
        like = (target if target.exists() else target.parent).stat()
        os.chown(temporary, like.st_uid, like.st_gid)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    _synchronize_directory(target.parent)


def _write_checksum(backup: Path, digest: str) -> None:
    with _temporary(checksum_path(backup)) as temporary:
        temporary.write_text(f"{digest}  {backup.name}\n", encoding="utf-8")
        _install(temporary, checksum_path(backup))


def _require_checksum(backup: Path, digest: str) -> None:
    try:
        expected = checksum_path(backup).read_text(encoding="utf-8").split()[:1]
    except FileNotFoundError:
        return
    if expected != [digest]:
        raise BackupFailed(
            f"{backup}: it differs from its checksum in {checksum_path(backup).name}: use another backup"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synchronize_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system that can't
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors_of(target: Path, database: Path) -> Iterator[None]:
    """Raise BackupFailed for errors of files and of SQLite."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:  # the target is new
            message = "this user can't write to the file or its directory, which reading needs too"
            raise BackupFailed(f"{database}: {message}: change their owner or mode") from error
        raise BackupFailed(f"{target}: {error}") from error
    except OSError as error:
        raise BackupFailed(f"{error.filename or target}: {error.strerror or error}") from error
