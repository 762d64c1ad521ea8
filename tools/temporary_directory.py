"""`python -m tools.temporary_directory`: print where tests put their files, in memory if there is room.

Commits of SQLite and PostgreSQL then wait for no disk, which takes half the time of the tests of the storage.
"""

import os
import sys
import tempfile

MEMORY = "/dev/shm"  # noqa: S108 - a file system in memory, on Linux
FREE_BYTES = 4_000_000_000
"""Three processes with a PostgreSQL server each take less than half of it."""


def temporary_directory() -> str:
    """Return `MEMORY` if it has room and may hold programs, as PostgreSQL's are copied; else that of the system.

    TMPDIR takes precedence.
    """
    if "TMPDIR" in os.environ or sys.platform != "linux" or not os.access(MEMORY, os.W_OK):
        return tempfile.gettempdir()
    status = os.statvfs(MEMORY)
    if status.f_flag & os.ST_NOEXEC or status.f_bavail * status.f_frsize < FREE_BYTES:
        return tempfile.gettempdir()
    return MEMORY


if __name__ == "__main__":
    sys.stdout.write(temporary_directory() + "\n")
