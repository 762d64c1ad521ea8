"""A process, started by its command line on loopback as Postroom's operators do; and what it says of itself."""

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

POSTROOM = str(Path(sys.executable).parent / "postroom")
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.005

Line = Mapping[str, Any]


class Ended(Exception):
    """A process has ended, or is silent, where it should have spoken."""


class Process:
    """One process, which may be started again after its end.

    All of its lives listen on one address, and share one log.
    """

    def __init__(self, command: Sequence[str], address: str, log: Path, environment: Mapping[str, str]) -> None:
        self.address = address
        self._command = command
        self._log = log
        self._environment = {**clean_environment(), **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._read = 0  # octets of the log

    @property
    def pid(self) -> int:
        """Its process id. Raises Ended where it has none."""
        if self._process is None:
            raise Ended(f"{shlex.join(self._command)} does not run")
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it says that it is ready. Raises Ended."""
        await self.launch()
        await self.said(lambda line: line["event"] == "ready")

    async def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self._log.open("ab") as log:
            self._read = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, stderr=log
            )

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to drain and end; its exit code."""
        return await self._end(signal.SIGTERM)

    async def said(self, wanted: Callable[[Line], bool]) -> Line:
        """The first line of its log that is wanted, among those not read yet. Raises Ended."""
        deadline = monotonic() + PATIENCE_SECONDS
        while monotonic() < deadline:
            # Asked first: what a process says before it ends is read after.
            ended = self._process is None or self._process.returncode is not None
            for line in self._new_lines():
                if wanted(line):
                    return line
            if ended:
                break
            await asyncio.sleep(POLL_SECONDS)
        raise Ended(f"{shlex.join(self._command)} has ended, or is silent; see {self._log}")

    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await process.wait()
        self._process = None
        return code

    def _new_lines(self) -> list[Line]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            unread = log.read()
        whole = unread[: unread.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]


def clean_environment() -> dict[str, str]:
    """The environment of this process without Postroom's and the SDKs' variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "SCW_"))}
