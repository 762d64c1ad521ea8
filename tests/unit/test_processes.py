"""How a child learns that whoever started it is gone."""

import asyncio
import socket
from pathlib import Path

import pytest

from postroomd.observability.exposition import DIRECTORY_VARIABLE
from postroomd.runtime.processes import _stop_at_end


@pytest.mark.parametrize("unread", [b"", b"ready 127.0.0.1:1\n"])
async def test_a_child_stops_with_its_parent_whatever_that_has_left_unread(
    unread: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = tmp_path / "metrics"
    counted.mkdir()
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(counted))
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    stop = asyncio.Event()
    with ours:
        ours.sendall(unread)
        theirs.close()
        async with asyncio.timeout(10):
            await _stop_at_end(ours, stop)
    assert stop.is_set()
    assert not counted.exists()
