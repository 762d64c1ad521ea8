"""Running `postroom` commands as processes, and observing them from outside."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postroomd.cli import app
from tests.support.logs import restored_logging
from tests.support.waiting import block_until

POSTROOM = str(Path(sys.executable).parent / "postroom")
START_SECONDS = 30
STOP_SECONDS = 30
VARIABLES = (
    "SCW_API_URL",
    "SCW_ACCESS_KEY",
    "SCW_SECRET_KEY",
    "SCW_DEFAULT_ORGANIZATION_ID",
    "SCW_DEFAULT_PROJECT_ID",
)


def clean_environment(**added: str) -> dict[str, str]:
    """Return the environment of this process without POSTROOM_ and SCW_ variables, plus `added`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "SCW_"))}
    return kept | added


def database_url(directory: Path) -> str:
    """Return the URL of the SQLite file in a directory."""
    return f"sqlite+aiosqlite:///{directory}/data/postroom.db"


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a thread of this process, which saves starting another. One at a time."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        for name in os.environ.keys() - clean_environment().keys():
            patched.delenv(name)
        for name, value in environment.items():
            patched.setenv(name, value)
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        # In a thread, since the test may run an event loop, as the command does.
        with restored_logging(), ThreadPoolExecutor(1) as pool:
            code = pool.submit(app.run, arguments).result()
    out.flush()
    return subprocess.CompletedProcess(arguments, code, out.buffer.getvalue().decode(), err.getvalue())


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as a process of its own."""
    return subprocess.run(
        [POSTROOM, *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def read_environment(path: Path) -> dict[str, str]:
    """Return the variables of a file of KEY=value lines."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@dataclass(frozen=True)
class Up:
    """A running `postroom up`, with its files in `directory`."""

    process: subprocess.Popen[str]
    directory: Path

    @property
    def env_file(self) -> Path:
        """The file that it writes the SCW_ variables to."""
        return self.directory / "env"

    @property
    def environment(self) -> dict[str, str]:
        """The SCW_ variables."""
        return read_environment(self.env_file)

    @property
    def output(self) -> str:
        """Its stdout so far."""
        return (self.directory / "stdout").read_text()

    @property
    def log(self) -> str:
        """Its stderr so far."""
        return (self.directory / "stderr").read_text()

    @property
    def error_lines(self) -> list[str]:
        """The lines of its stderr that are not log lines."""
        return [line for line in self.log.splitlines() if not line.startswith("{")]

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC service."""
        return self.output.split("# gRPC listens on ")[1].split()[0]

    def get(self, path: str, token: str | None = None) -> int:
        """Return the HTTP status of a GET."""
        return request(self.environment["SCW_API_URL"] + path, token)

    def call(self, method: str, path: str, body: object = None, secret: str | None = None) -> Any:
        """Return the response of a REST call, None for an empty one; by default with the key that it issued.

        Raises URLError.
        """
        variables = self.environment
        outgoing = urllib.request.Request(  # noqa: S310 - loopback
            f"{variables['SCW_API_URL']}/mailbox/v1alpha1{path}",
            None if body is None else json.dumps(body).encode(),
            {"X-Auth-Token": secret or variables["SCW_SECRET_KEY"], "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(outgoing, timeout=START_SECONDS) as response:  # noqa: S310
            text = response.read()
        return json.loads(text) if text else None

    def wait(self) -> int:
        """Wait until it has exited; returns the exit code."""
        return self.process.wait(STOP_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait until it has exited; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()


def request(url: str, token: str | None = None, body: bytes | None = None) -> int:
    """Return the HTTP status of a GET, or of a POST if there is a body."""
    headers = {"X-Auth-Token": token} if token else {}
    outgoing = urllib.request.Request(url, body, headers | {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(outgoing, timeout=START_SECONDS) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def launch(directory: Path, *flags: str, **environment: str) -> Up:
    """Start `postroom up` on free ports and a database in `directory`."""
    with (directory / "stdout").open("w") as stdout, (directory / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [
                POSTROOM,
                "up",
                f"--database-url={database_url(directory)}",
                f"--env-file={directory / 'env'}",
                *([] if any(flag.startswith("--grpc-address") for flag in flags) else ["--grpc-address=127.0.0.1:0"]),
                *([] if any(flag.startswith("--http-address") for flag in flags) else ["--http-address=127.0.0.1:0"]),
                *flags,
            ],
            env=clean_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    return Up(process, directory)


def place_database(template: Path, directory: Path) -> None:
    """Copy a migrated SQLite file to where `launch` starts a Postroom, which saves the migration."""
    data = directory / "data"
    data.mkdir(0o700)
    shutil.copy(template, data / "postroom.db")
    (data / "postroom.db").chmod(0o600)


def start(directory: Path, *flags: str, **environment: str) -> Up:
    """Start `postroom up`, and wait until it is ready."""
    (directory / "env").unlink(missing_ok=True)
    up = launch(directory, *flags, **environment)
    try:
        block_until(lambda: up.env_file.exists() or up.process.poll() is not None)
        if not up.env_file.exists():
            raise AssertionError(f"postroom up has exited: {up.log}")
    except BaseException:
        terminate(up)
        raise
    return up


def terminate(up: Up) -> None:
    """Stop it; kill it and its children if that takes too long."""
    if up.process.poll() is None:
        pids = child_pids(up.process.pid)
        try:
            up.stop()
        except subprocess.TimeoutExpired:
            for pid in (up.process.pid, *pids.values()):
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, signal.SIGKILL)
            up.wait()


def child_pids(pid: int) -> dict[str, int]:
    """Return the children of a process: name, truncated by the kernel to 15 characters with its prefix -> pid."""
    pids = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().partition(" (")[2].rpartition(") ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited meanwhile
        state, parent = rest.split()[:2]
        if int(parent) == pid and state != "Z":
            pids[name.removeprefix("postroom ")] = int(directory.name)
    return pids


def suspend(pid: int) -> None:
    """Stop a process with SIGSTOP, and return once it handles no signals any more."""
    os.kill(pid, signal.SIGSTOP)
    block_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T")


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a suspended process has been sent a signal."""
    pending = re.findall(r"^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) & 1 << (number - 1) for mask in pending)


def is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
