"""Locks between the processes of one SQLite file, held by real processes."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroomd.storage.process_locks import ProcessLock

HOLD = """
import sys, pathlib
from postroomd.storage.process_locks import ProcessLock
print(ProcessLock(pathlib.Path(sys.argv[1]), "serve").try_acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "postroom.db"
    path.touch()
    return path


@contextmanager
def holder(database: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the service's lock."""
    command = [sys.executable, "-c", HOLD, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process


def test_a_lock_is_refused_until_its_holder_is_killed(database: Path) -> None:
    lock = ProcessLock(database, "serve")
    with holder(database) as process:
        assert lock.try_acquire() is False
        assert lock.holder_pid() == process.pid
        process.send_signal(signal.SIGKILL)
    # The text is of the killed holder, and the lock is free.
    assert int(lock.path.read_text()) == process.pid
    assert lock.holder_pid() is None
    assert lock.try_acquire() is True
    assert lock.holder_pid() == os.getpid()
    lock.release()
    assert lock.holder_pid() is None


def test_the_locks_of_service_and_worker_are_independent(database: Path) -> None:
    worker = ProcessLock(database, "worker")
    with holder(database):
        assert worker.try_acquire() is True
    worker.release()


@pytest.mark.parametrize("name", ["link", "relative"])
def test_every_name_of_a_file_has_the_same_locks(
    database: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    monkeypatch.chdir(directory)
    other = Path("../postroom.db")
    if name == "link":
        other = directory / "link.db"
        other.symlink_to(database)
    with holder(database):
        assert ProcessLock(other, "serve").try_acquire() is False


def test_lock_files_are_private_and_stay(database: Path) -> None:
    lock = ProcessLock(database, "serve")
    assert lock.path == database.with_name("postroom.db.serve.lock")
    assert lock.try_acquire()
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    lock.release()
    assert lock.path.exists()


def test_neither_a_fork_nor_a_started_program_keeps_the_lock(database: Path) -> None:
    lock = ProcessLock(database, "serve")
    assert lock.try_acquire()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)  # until the parent closes the pipe
        os._exit(0)
    os.close(read)
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE):
        assert ProcessLock(database, "serve").try_acquire() is False  # the child has closed no more than its copy
        lock.release()
        again = ProcessLock(database, "serve")
        assert again.try_acquire() is True
        again.release()
    os.close(write)
    os.waitpid(pid, 0)


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        ProcessLock(tmp_path / "none" / "postroom.db", "serve").try_acquire()
    assert raised.value.filename == f"{tmp_path}/none/postroom.db.serve.lock"


def test_a_lock_file_is_never_followed_to_another_file(database: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "postroom.db.serve.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"postroom\.db\.serve\.lock"):
        ProcessLock(database, "serve").try_acquire()
    assert victim.read_text() == "kept"
