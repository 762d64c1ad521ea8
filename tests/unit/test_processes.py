"""How a child process learns that its parent has exited, and the limit of open files."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from postroomd.observability.exposition import DIRECTORY_VARIABLE
from postroomd.runtime.channel import READY, Channel
from postroomd.runtime.child import stop_with_parent


@pytest.mark.parametrize("unread", [(), ("127.0.0.1:1",)], ids=["nothing unread", "unread message"])
async def test_a_child_stops_when_its_parent_exits(
    unread: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "metrics"
    shared.mkdir()
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(shared))
    parent_end, child_end = socket.socketpair()
    parent, stop = Channel(child_end), asyncio.Event()
    if unread:
        parent.send(READY, *unread)
    parent_end.close()
    async with asyncio.timeout(10):
        await stop_with_parent(parent, stop)
    parent.close()
    assert stop.is_set()
    assert not shared.exists()


async def test_messages_arrive_one_by_one_whatever_their_packets() -> None:
    parent_end, child_end = socket.socketpair()
    parent = Channel(child_end)
    with parent_end:
        parent_end.sendall(b"ready\nready 127.0.0.1:1 127.0.0.1:2\nfai")
        assert await parent.receive() == ("ready", "")
        assert await parent.receive() == ("ready", "127.0.0.1:1 127.0.0.1:2")
        receiving = asyncio.create_task(parent.receive())
        await asyncio.sleep(0)
        parent_end.sendall(b"led no database\n")
        assert await receiving == ("failed", "no database")
    assert await parent.receive() is None
    parent.close()


@pytest.mark.parametrize(("hard", "expected"), [(512, 512), (1_000_000, 65_536)])
def test_a_process_may_open_as_many_files_as_the_system_allows_it(hard: int, expected: int) -> None:
    program = f"""
import resource
from postroomd.runtime import processes
resource.getrlimit = lambda _: (64, {hard})
limits = []
resource.setrlimit = lambda _, both: limits.append(both)
print(processes.raise_open_files_limit(), limits)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{expected} [({expected}, {hard})]"


def test_the_supervisor_forks_before_grpc_is_loaded() -> None:
    # A process that has loaded gRPC must not be forked, and reads its settings, such as the verbosity, only once.
    program = "import postroomd.runtime.supervisor, postroomd.storage.sql, sys; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
