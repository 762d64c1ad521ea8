"""Locks between the processes of one SQLite file: `FILE.serve.lock` and `FILE.worker.lock`, held by flock(2).

The holder of `FILE.serve.lock` is the one process that may checkpoint the write-ahead log. The locks are never on the
database itself: closing any descriptor of it would drop the locks that SQLite holds in the same process.

A lock file is never removed: a process that opened it before its removal would lock a file that no other process sees.
It contains the pid of its holder for messages. The kernel releases the lock when the holder exits, for whatever reason,
and the pid is then stale.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

Holder = Literal["serve", "worker"]

_held: set[int] = set()
"""The descriptors of the locks that this process holds."""


class ProcessLock:
    """One lock of one file, which this object may hold.

    The lock belongs to this process alone: neither a program that it starts nor a process that it forks inherits the
    descriptor, which would hold the lock after this process has exited.
    """

    def __init__(self, database: Path, holder: Holder) -> None:
        # The same file by another name, relative or through a link, has the same locks.
        self.path = Path(f"{database.resolve()}.{holder}.lock")
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Acquire the lock, unless another process holds it. Raises OSError if its file can't be opened or locked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._descriptor = descriptor
        _held.add(descriptor)
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # a full disk
                os.ftruncate(descriptor, 0)
            _held.discard(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not: a process just forked may have a copy still
            os.close(descriptor)

    def holder_pid(self) -> int | None:
        """Return the pid of the process that holds the lock; None if it is unknown, or not visible from here."""
        try:
            pid = int(self.path.read_text(encoding="ascii"))
            os.kill(pid, 0)  # whether it exists
        except PermissionError:  # another user's process
            return pid
        except (OSError, ValueError, OverflowError):  # the text is of an earlier holder, or of another pid namespace
            return None
        return pid


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)  # the lock stays with the parent, which shares the open file description
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
