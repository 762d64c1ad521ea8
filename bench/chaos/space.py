"""Disks that fill up, and are made room on again: a small tmpfs, or a limit on the files of one process."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from bench.chaos.arena import Arena, open_arena, servers_home
from bench.engine import Engine
from bench.process import Process
from tests.support.postgres import PostgresServer, reachable_directory

ROOM = {Engine.SQLITE: "32m", Engine.POSTGRESQL: "192m"}
SMALL_LOG = {"min_wal_size": "64MB", "max_wal_size": "64MB"}
BALLAST_CHUNK = 65_536
PAGE = 4_096
FILE_LIMIT = 65_536
CAP_SYS_ADMIN = 21  # capabilities(7)


class NeedsRoot(Exception):
    """A file system can't be mounted."""


class Space(Protocol):
    """What a database may grow by."""

    def fill(self) -> None:
        """Leave none of it."""

    def free(self) -> None:
        """Give it back."""


class Ballast:
    """A file that takes whatever the file system has left."""

    def __init__(self, room: Path) -> None:
        self._path = room / "ballast"

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
        """Remove it."""
        self._path.unlink()


class FileSizeLimit:
    """A limit on how long the files of a process may become: past it, writing fails, as on a disk that is full."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def fill(self) -> None:
        """Set a limit that a database in use has passed already."""
        self._set(FILE_LIMIT)

    def free(self) -> None:
        """Lift it."""
        self._set(resource.RLIM_INFINITY)

    def _set(self, soft: int) -> None:
        pid = self._process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def open_on_tmpfs(engine: Engine) -> AsyncIterator[Arena]:
    """An arena whose database is on a small file system of its own. Raises NeedsRoot."""
    with reachable_directory() as directory:
        async with mounted(directory / "room", ROOM[engine]) as room:
            if engine is Engine.POSTGRESQL and os.geteuid() == 0:
                # A server's programs are copied beside it: these are to take no room there.
                PostgresServer(servers_home() / "unused")
                (room / "postgresql").symlink_to(servers_home() / "postgresql")
            async with open_arena(engine, room, SMALL_LOG) as arena:
                yield arena


def may_mount() -> bool:
    """Whether this process may mount a file system."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapEff"], 16) >> CAP_SYS_ADMIN & 1)


@asynccontextmanager
async def mounted(room: Path, size: str) -> AsyncIterator[Path]:
    """A tmpfs of some size at a new directory. Raises NeedsRoot."""
    if not may_mount():
        raise NeedsRoot("needs root, to mount a tmpfs")
    room.mkdir()  # noqa: ASYNC240 # takes no time
    await _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(room))
    try:
        yield room
    finally:
        await _run("umount", "--lazy", str(room))


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise OSError(f"{command[0]} failed")
