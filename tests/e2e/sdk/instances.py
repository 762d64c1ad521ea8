"""Postroom on either engine, started by its command line, with direct access to its database and its logs."""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from tests.e2e.sdk.client import PASSWORD_MARKER, ResponseLog
from tests.e2e.support import POSTROOM, Up, clean_environment, database_url, run, terminate
from tests.support.databases import MIGRATED
from tests.support.waiting import block_until
from tools.postgres import PostgresServer

FAST_SETTINGS = {
    "POSTROOM_ARGON2_MEMORY_KIB": "8",
    "POSTROOM_ARGON2_TIME_COST": "1",
    "POSTROOM_KEY_CACHE_SECONDS": "0.2",
    "POSTROOM_WORKER_INTERVAL_SECONDS": "0.2",
}
"""Cheap password hashes and short intervals, to keep the tests fast."""


class Database(Protocol):
    """The database of one instance."""

    url: str

    def sql(self, statement: str) -> str:
        """Execute and commit a statement. Returns the first column of the first row, or an empty string."""

    def raw_contents(self) -> bytes:
        """Return everything that is stored, in an encoding in which text can be searched."""


class SqliteDatabase:
    """An SQLite file."""

    def __init__(self, directory: Path) -> None:
        self.url = database_url(directory)
        self._file = directory / "data" / "postroom.db"

    def sql(self, statement: str) -> str:
        with closing(sqlite3.connect(self._file, timeout=20)) as connection, connection:
            row = connection.execute(statement).fetchone()
        return str(row[0]) if row else ""

    def raw_contents(self) -> bytes:
        """Return the bytes of the database file and its WAL."""
        return b"".join(path.read_bytes() for path in self._file.parent.iterdir())


class PostgresDatabase:
    """A new, migrated PostgreSQL database."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._name = f"sdk_{uuid4().hex}"
        server.sql(f"CREATE DATABASE {self._name} TEMPLATE {MIGRATED}")
        self.url = server.url(self._name)

    def sql(self, statement: str) -> str:
        return self._server.sql(statement, self._name).strip()

    def raw_contents(self) -> bytes:
        """Return the text of every row, with bytea in hexadecimal, and the server's log."""
        tables = self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").split()
        rows = "".join(self.sql(f"SELECT t::text FROM {table} t") for table in tables)
        return rows.encode() + (self._server.directory / "log").read_bytes()


@dataclass(frozen=True)
class Instance:
    """A running Postroom, its database, and the secrets of all its keys."""

    up: Up
    database: Database
    secrets: list[str] = field(default_factory=list)
    _shared_keys: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The SCW_ variables of its first key."""
        return self.up.environment

    @property
    def url(self) -> str:
        """The URL of the REST API."""
        return self.environment["SCW_API_URL"]

    def command(self, *arguments: str) -> str:
        """Run a command on the instance's database. Returns its output."""
        return command(
            *arguments,
            POSTROOM_DATABASE_URL=self.database.url,
            POSTROOM_HTTP_ADDRESS=self.url.removeprefix("http://"),
        )

    def new_key(self, *flags: str) -> dict[str, str]:
        """Create a key, in a new organization unless the flags name one. Returns its SCW_ variables."""
        named = any(flag.startswith(("--organization-id", "--project-id")) for flag in flags)
        flags = flags if named else ("--new-organization", *flags)
        environment: dict[str, str] = json.loads(self.command("keys", "create", "--output=json", *flags))
        self.secrets.append(environment["SCW_SECRET_KEY"])
        return environment

    def shared_key(self, *flags: str) -> dict[str, str]:
        """Return the SCW_ variables of a key with these flags, created at the first call."""
        if flags not in self._shared_keys:
            self._shared_keys[flags] = self.new_key(*flags)
        return self._shared_keys[flags]


def command(*arguments: str, **environment: str) -> str:
    """Run a command that must succeed. Returns its output."""
    completed = run(*arguments, **environment)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def launch(directory: Path, *arguments: str, **environment: str) -> Up:
    """Start a long-running command, with its output in `directory`."""
    with (directory / "stdout").open("a") as stdout, (directory / "stderr").open("a") as stderr:
        process = subprocess.Popen(
            [POSTROOM, *arguments],
            env=clean_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    return Up(process, directory)


@contextmanager
def running(directory: Path, database: Database, responses: ResponseLog, **settings: str) -> Iterator[Instance]:
    """A new Postroom on free ports. Checks at the end that no secret has leaked."""
    up = launch(
        directory,
        "up",
        f"--env-file={directory / 'env'}",
        **FAST_SETTINGS
        | {
            "POSTROOM_DATABASE_URL": database.url,
            "POSTROOM_GRPC_ADDRESS": "127.0.0.1:0",
            "POSTROOM_HTTP_ADDRESS": "127.0.0.1:0",
        }
        | settings,
    )
    try:
        block_until(lambda: up.env_file.exists() or up.process.poll() is not None)
        assert up.env_file.exists(), up.log
        instance = Instance(up, database, [up.environment["SCW_SECRET_KEY"]])
        yield instance
    finally:
        terminate(up)
    check_no_secret_leaked(instance, responses)


def check_no_secret_leaked(instance: Instance, responses: ResponseLog) -> None:
    """Check that no password or secret is in responses, output, logs or the database.

    The first start prints the SCW_ variables of the first key, but its secret goes to the file of --env-file only.
    """
    secret_key = instance.environment["SCW_SECRET_KEY"]
    exports = {f"export {name}={value}" for name, value in instance.environment.items() if value != secret_key}
    assert exports < set(instance.up.output.splitlines())
    visible = "\n".join([instance.up.output, instance.up.log, *responses.texts]).encode()
    stored = instance.database.raw_contents()
    for secret in (PASSWORD_MARKER, secret_key, *instance.secrets):
        for form in (secret.encode(), secret.encode().hex().encode()):
            assert form not in visible
            assert form not in stored
    # Password hashes and DKIM keys are stored, but must not be visible.
    assert b"$argon2id$" not in visible
    assert b"PRIVATE KEY" not in visible


class SeparateProcesses:
    """`postroom serve` and `postroom gateway` on an SQLite file, without a supervisor."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._database = {"POSTROOM_DATABASE_URL": database_url(directory)}
        self._started: list[Up] = []

    def start(self) -> None:
        """Start both, and create a key."""
        command("migrate", **self._database)
        self.service = self._launch("serve", **self._database, POSTROOM_GRPC_ADDRESS="127.0.0.1:0")
        self._grpc_address = ready_address(self.service)
        gateway = self._launch(
            "gateway",
            POSTROOM_GRPC_ADDRESS=self._grpc_address,
            POSTROOM_HTTP_ADDRESS="127.0.0.1:0",
            POSTROOM_CALL_TIMEOUT_SECONDS="1",
        )
        created = command(
            *("keys", "create", "--new-organization", "--output=json"),
            **self._database,
            POSTROOM_HTTP_ADDRESS=ready_address(gateway),
        )
        self.environment: dict[str, str] = json.loads(created)

    def kill_service(self) -> None:
        """End the service with SIGKILL."""
        self.service.process.kill()
        self.service.process.wait()

    def restart_service(self) -> None:
        """Start the service again on the same address, without waiting until it is ready."""
        self.service = self._launch("serve", **self._database, POSTROOM_GRPC_ADDRESS=self._grpc_address)

    def terminate(self) -> None:
        """Terminate what is running, including stopped processes."""
        for up in reversed(self._started):
            if up.process.poll() is None:
                up.process.send_signal(signal.SIGCONT)
            terminate(up)

    def _launch(self, name: str, **environment: str) -> Up:
        directory = self._directory / f"{len(self._started)}-{name}"
        directory.mkdir()
        up = launch(directory, name, **environment)
        self._started.append(up)
        return up


def ready_address(up: Up) -> str:
    """Wait until a process is ready. Returns the address it listens on."""
    block_until(lambda: '"event": "ready"' in up.log or up.process.poll() is not None)
    (address,) = (line["address"] for line in map(json.loads, up.log.splitlines()) if line["event"] == "ready")
    return str(address)
