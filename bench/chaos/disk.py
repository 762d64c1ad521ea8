"""Disks that fill up and are freed again: a small tmpfs, or a limit on the file size of one process."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from bench.chaos.harness import ChaosHarness, open_harness, servers_directory
from bench.engine import Engine
from bench.process import Process
from tools.postgres import PostgresServer, server_directory

TMPFS_SIZE = {Engine.SQLITE: "32m", Engine.POSTGRESQL: "192m"}
SMALL_WAL = {"min_wal_size": "64MB", "max_wal_size": "64MB"}
BALLAST_CHUNK = 65_536
PAGE = 4_096
FILE_SIZE_LIMIT = 65_536
CAP_SYS_ADMIN = 21  # capabilities(7)


class NeedsRoot(Exception):
    """Mounting a file system requires privileges that this process lacks."""


class DiskSpace(Protocol):
    """The space a database can grow by."""

    def fill(self) -> None:
        """Use up the space."""

    def free(self) -> None:
        """Free the space."""


class BallastFile:
    """A file that takes all free space of its file system."""

    def __init__(self, mount: Path) -> None:
        self._path = mount / "ballast"

    def fill(self) -> None:
        """Write until the file system is full."""
        with self._path.open("ab", buffering=0) as file:
            for size in (BALLAST_CHUNK, PAGE):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Remove the file."""
        self._path.unlink()


class FileSizeLimit:
    """A limit on the size of a process's files, beyond which writes fail as on a full disk."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def fill(self) -> None:
        """Set a limit below the size of a database in use."""
        self._set(FILE_SIZE_LIMIT)

    def free(self) -> None:
        """Remove the limit."""
        self._set(resource.RLIM_INFINITY)

    def _set(self, soft: int) -> None:
        pid = self._process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def open_on_tmpfs(engine: Engine) -> AsyncIterator[ChaosHarness]:
    """A harness whose database is on a small tmpfs. Raises NeedsRoot."""
    with server_directory() as directory:
        async with mount_tmpfs(directory / "mount", TMPFS_SIZE[engine]) as mount:
            if engine is Engine.POSTGRESQL and os.geteuid() == 0:
                # As root, PostgreSQL's programs are copied beside the server. They are linked here to save space.
                PostgresServer(servers_directory() / "unused")
                (mount / "postgresql").symlink_to(servers_directory() / "postgresql")
            async with open_harness(engine, mount, SMALL_WAL) as harness:
                yield harness


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> CAP_SYS_ADMIN & 1)


@asynccontextmanager
async def mount_tmpfs(path: Path, size: str) -> AsyncIterator[Path]:
    """Mount a tmpfs at a new directory. Raises NeedsRoot, and OSError if the mount fails."""
    if not can_mount():
        raise NeedsRoot("mounting a tmpfs requires root")
    path.mkdir()  # noqa: ASYNC240 - does not block noticeably
    await _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(path))
    try:
        yield path
    finally:
        await _run("umount", "--lazy", str(path))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise OSError(f"{command[0]} failed")
