"""The end of a PostgreSQL server as a power cut would have it: every process of it at once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from tests.support.postgres import PostgresServer

GONE_SECONDS = 5.0
REVIVAL_SECONDS = 3.0
LOG_SEGMENTS = 3


async def kill_server(server: PostgresServer) -> None:
    """kill -9 of the postmaster and its children, which lead sessions of their own. Does nothing where it is dead."""
    postmaster = _postmaster(server)
    if postmaster is None:
        return
    os.kill(postmaster, signal.SIGSTOP)  # or it would have new ones, while we look for those it has
    children = list(_children(postmaster))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(server.kill)
    deadline = monotonic() + GONE_SECONDS
    while any(map(_lives, children)):
        if monotonic() > deadline:
            raise TimeoutError("PostgreSQL's processes live on")
        await asyncio.sleep(0.01)


async def revive(server: PostgresServer) -> bool:
    """Start a server that has ended by itself. False where it had not."""
    deadline = monotonic() + REVIVAL_SECONDS
    while monotonic() < deadline:
        if await asyncio.to_thread(server.accepts):
            return False
        await asyncio.sleep(0.1)
    await kill_server(server)
    await asyncio.to_thread(server.start)
    return True


def lay_in_log(server: PostgresServer) -> None:
    """Have segments of its log ready for what is written next.

    A server that can't begin a segment ends by itself, reads and all: its log belongs on a disk of its own.
    """
    for _ in range(LOG_SEGMENTS):
        server.sql("SELECT pg_switch_wal()")
        server.sql("CHECKPOINT")  # what lies before it is used again


def _postmaster(server: PostgresServer) -> int | None:
    """The process that leads a server: it works in the directory of its data."""
    try:
        pid = int((server.data / "postmaster.pid").read_text().split()[0])
        return pid if Path(f"/proc/{pid}/cwd").readlink() == server.data else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _lives(pid: int) -> bool:
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2])[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(parent: int) -> Iterator[int]:
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(fields[1]) == parent:
            yield int(directory.name)
