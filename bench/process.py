"""A process started from its command line on loopback, and its JSON log."""

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
TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.005

LogRecord = Mapping[str, Any]


class ProcessFailed(Exception):
    """A process has ended, or has not logged an expected event in time."""


class Process:
    """One process, which may be started again after it has ended, on the same address and with the same log."""

    def __init__(self, command: Sequence[str], address: str, log: Path, environment: Mapping[str, str]) -> None:
        self.address = address
        self._command = command
        self._log = log
        self._environment = {**clean_environment(), **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._log_offset = 0  # bytes of the log that have been read

    @property
    def pid(self) -> int:
        """The process id. Raises ProcessFailed if it is not running."""
        if self._process is None:
            raise ProcessFailed(f"{shlex.join(self._command)} is not running")
        return self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it logs `ready`. Raises ProcessFailed."""
        await self.launch()
        await self.wait_for_log(lambda record: record["event"] == "ready")

    async def launch(self) -> None:
        """Start the process without waiting."""
        with self._log.open("ab") as log:
            self._log_offset = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, stderr=log
            )

    async def kill(self) -> None:
        """End the process with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """End the process with SIGTERM, which lets it drain. Returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def wait(self) -> tuple[int, str]:
        """Wait until the process ends by itself. Returns exit code and unread log. Raises TimeoutError."""
        if self._process is None:
            raise ProcessFailed(f"{shlex.join(self._command)} is not running")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            code = await self._process.wait()
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            return code, log.read().decode()

    async def wait_for_log(self, matches: Callable[[LogRecord], bool]) -> LogRecord:
        """Return the first unread log record that matches. Raises ProcessFailed."""
        deadline = monotonic() + TIMEOUT_SECONDS
        while monotonic() < deadline:
            # Checked before reading, so that the last records of an ended process are read too.
            has_ended = self._process is None or self._process.returncode is not None
            for record in self._read_log():
                if matches(record):
                    return record
            if has_ended:
                break
            await asyncio.sleep(POLL_SECONDS)
        raise ProcessFailed(f"{shlex.join(self._command)} has ended or does not log; see {self._log}")

    def open_files(self) -> int:
        """Return the number of its open files and sockets."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            code = await process.wait()
        self._process = None
        return code

    def _read_log(self) -> list[LogRecord]:
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            unread = log.read()
        complete = unread[: unread.rfind(b"\n") + 1]
        self._log_offset += len(complete)
        return [json.loads(line) for line in complete.splitlines() if line.startswith(b"{")]


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without Postroom's and the SDKs' variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "SCW_"))}
