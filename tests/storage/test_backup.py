"""Backups of SQLite files that are in use, and their restoration."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postroomd.storage import backup as module
from postroomd.storage.backup import BackupFailed, Restored, Verified, back_up, checksum_path, restore
from postroomd.storage.migrations import HEAD
from tests.support.waiting import block_until

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ASIDE = "postroom.db.before-restore-20260504T030201Z"

WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint = 0")
number = 0
while True:
    number += 1
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO one VALUES (?)", (number,))
    connection.execute("INSERT INTO two VALUES (?)", (number,))
    connection.execute("COMMIT")
"""

READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT 1 FROM filler").fetchone()[0], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(sqlite_store: str, tmp_path: Path) -> Path:
    """A migrated database in write-ahead log mode, with some pages."""
    path = tmp_path / "postroom.db"
    with connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("CREATE TABLE filler (content BLOB)")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(4000))", [()] * 500)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory / "today.db"


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def make(database: Path, target: Path, *, overwrite: bool = False) -> Verified:
    return back_up(database, target, overwrite=overwrite, progress=lambda _done, _total: None)


def put_back(target: Path, database: Path) -> Restored:
    return restore(target, database, NOW)


def count(path: Path, table: str) -> int:
    with connect(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- Backing up -------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_snapshot_however_much_is_written_meanwhile(
    database: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKUP_PAGES", 16)
    with connect(database) as connection:
        connection.execute("CREATE TABLE one (number)")
        connection.execute("CREATE TABLE two (number)")
    steps: list[tuple[int, int]] = []
    written = []

    def progress(done: int, total: int) -> None:
        # Another process commits between any two steps.
        before = count(database, "two")
        block_until(lambda: count(database, "two") > before)
        written.append(count(database, "two"))
        steps.append((done, total))

    with subprocess.Popen([sys.executable, "-c", WRITE, str(database)]) as writer:
        try:
            block_until(lambda: count(database, "two") > 10)
            made = back_up(database, target, overwrite=False, progress=progress)
        finally:
            writer.kill()
    assert len(steps) >= 30
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})  # it never begins anew
    assert {total for _, total in steps} == {steps[-1][0]}
    assert 10 < made.rows["one"] == made.rows["two"] == count(target, "two") < written[0]


def test_a_backup_is_private_and_one_file_and_has_its_checksum(database: Path, target: Path) -> None:
    made = make(database, target)
    assert (made.revision, made.rows["filler"], made.size) == (HEAD, 500, target.stat().st_size)
    assert names(target.parent) == {"today.db", "today.db.sha256"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.parent.iterdir()} == {0o600}
    subprocess.run(["sha256sum", "--check", "--strict", "today.db.sha256"], cwd=target.parent, check=True)
    assert count(target, "filler") == 500
    assert names(target.parent) == {"today.db", "today.db.sha256"}  # reading it needs no write-ahead log


def test_an_existing_file_is_replaced_only_by_force(database: Path, target: Path) -> None:
    target.write_text("kept")
    with pytest.raises(BackupFailed, match=r"today\.db: it exists: choose another name, or replace it with --force"):
        make(database, target)
    assert target.read_text() == "kept"
    make(database, target, overwrite=True)
    assert count(target, "filler") == 500


def test_a_damaged_database_replaces_no_backup(database: Path, target: Path) -> None:
    make(database, target)
    before = target.read_bytes()
    with connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'domains'").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(b"\xa5" * 4_096)
    with pytest.raises(BackupFailed, match=r"today\.db: "):
        make(database, target, overwrite=True)
    assert target.read_bytes() == before
    assert names(target.parent) == {"today.db", "today.db.sha256"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("postroom.db", "postroom.db: it belongs to the database itself"),
        ("postroom.db-wal", "postroom.db-wal: it belongs to the database itself"),
        ("backups", "backups: it is a directory"),
        ("none/today.db", r"none/today\.db: can't write to its directory: No such file or directory$"),
    ],
)
def test_a_target_that_cannot_be_is_named(database: Path, target: Path, name: str, message: str) -> None:
    with pytest.raises(BackupFailed, match=message):
        make(database, database.parent / name, overwrite=True)
    assert count(database, "filler") == 500


def test_a_pipe_is_not_replaced(database: Path, target: Path) -> None:
    os.mkfifo(target)
    with pytest.raises(BackupFailed, match="it is a device or a pipe"):
        make(database, target, overwrite=True)
    assert target.is_fifo()


# --- Restoring --------------------------------------------------------------------------------------------------------


def test_a_restored_backup_replaces_the_database_which_is_kept(database: Path, target: Path) -> None:
    make(database, target)
    with connect(database) as connection:
        connection.execute("DELETE FROM filler")
    restored = put_back(target, database)
    assert restored.aside == database.with_name(ASIDE)
    assert restored.backup.revision == HEAD
    assert (count(database, "filler"), count(restored.aside, "filler")) == (500, 0)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert count(target, "filler") == 500


def test_a_log_left_by_a_killed_process_stays_with_the_old_database(
    database: Path, target: Path, tmp_path: Path
) -> None:
    make(database, target)
    log = tmp_path / "postroom.db-wal"
    with connect(database) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("DELETE FROM filler")
        left = {path: path.read_bytes() for path in (database, log)}  # as a kill leaves them
    for path, content in left.items():
        path.write_bytes(content)
    put_back(target, database)
    assert not log.exists()
    assert (count(database, "filler"), count(tmp_path / ASIDE, "filler")) == (500, 0)


def test_a_damaged_database_is_replaced_and_kept(database: Path, target: Path, tmp_path: Path) -> None:
    make(database, target)
    database.write_bytes(b"damaged" * 1_000)
    put_back(target, database)
    assert count(database, "filler") == 500
    assert (tmp_path / ASIDE).read_bytes() == b"damaged" * 1_000


def test_a_log_without_a_database_is_kept_and_not_replayed(database: Path, target: Path, tmp_path: Path) -> None:
    make(database, target)
    other, log = tmp_path / "lost.db", tmp_path / "lost.db-wal"
    with connect(database) as connection:
        connection.execute("DELETE FROM filler")
        log.write_bytes((tmp_path / "postroom.db-wal").read_bytes())
    content = log.read_bytes()
    assert put_back(target, other).aside is None
    assert count(other, "filler") == 500
    assert (tmp_path / "lost.db.before-restore-20260504T030201Z-wal").read_bytes() == content


def test_a_backup_is_restored_where_there_is_no_database(database: Path, target: Path, tmp_path: Path) -> None:
    make(database, target)
    other = tmp_path / "new.db"
    assert put_back(target, other).aside is None
    assert count(other, "filler") == 500


def test_a_database_that_another_process_has_open_is_not_replaced(database: Path, target: Path) -> None:
    make(database, target)
    command = [sys.executable, "-c", READ, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(BackupFailed, match="another process has it open: end it first"):
            put_back(target, database)
    assert ASIDE not in names(database.parent)


def set_revision(path: Path, revision: str) -> None:
    with connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    checksum_path(path).unlink(missing_ok=True)


def test_a_backup_of_an_older_schema_is_restored_and_a_newer_one_refused(database: Path, target: Path) -> None:
    make(database, target)
    set_revision(target, "0001")
    assert put_back(target, database).backup.revision == "0001"
    set_revision(target, "9999")
    with pytest.raises(BackupFailed, match=f"its schema is 9999, ahead of {HEAD}: run a newer Postroom"):
        put_back(target, database)


def truncate(path: Path) -> None:
    os.truncate(path, 40_960)


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8_192)
        file.write(b"\xa5" * 4_096)


def damage_without_checksum(path: Path) -> None:
    damage(path)
    checksum_path(path).unlink()


def make_other(path: Path) -> None:
    path.unlink()
    checksum_path(path).unlink()
    with connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")


def miscount_free_bytes(path: Path) -> None:
    """SQLite reports this in two lines."""
    checksum_path(path).unlink()
    with connect(path) as connection:
        query = "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'alembic_version'"
        page, size = connection.execute(query).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size + 7)  # https://sqlite.org/fileformat.html#b_tree_pages
        file.write(b"\x3c")


def add_log(path: Path) -> None:
    path.with_name("today.db-wal").write_bytes(b"log")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, r"today\.db: it differs from its checksum in today\.db\.sha256"),
        (damage, "differs from its checksum"),
        (damage_without_checksum, "damaged"),
        (miscount_free_bytes, "it is damaged: "),
        (make_other, "it is not a database of Postroom"),
        (add_log, r"today\.db-wal holds a part of it"),
        (Path.unlink, "there is no such file"),
    ],
)
def test_an_unusable_backup_changes_nothing(database: Path, target: Path, change: object, message: str) -> None:
    make(database, target)
    change(target)  # type: ignore[operator]
    shutil.copy(database, database.with_name("before.db"))
    before = names(database.parent)
    with pytest.raises(BackupFailed, match=message) as failed:
        put_back(target, database)
    assert "\n" not in str(failed.value)
    assert names(database.parent) == before
    assert database.read_bytes() == database.with_name("before.db").read_bytes()
