"""Postroom on either engine, started by its command line, and looked at from behind."""

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

from tests.e2e.sdk.client import PASSWORD_MARK, Answers
from tests.e2e.support import POSTROOM, Up, clean_environment, database_url, run, terminate
from tests.support.postgres import PostgresServer
from tests.support.waiting import block_until

QUICK = {
    "POSTROOM_ARGON2_MEMORY_KIB": "8",
    "POSTROOM_ARGON2_TIME_COST": "1",
    "POSTROOM_KEY_CACHE_SECONDS": "0.2",
    "POSTROOM_WORKER_INTERVAL_SECONDS": "0.2",
}
"""Settings of a Postroom that does everything sooner than an operator would want."""


class Database(Protocol):
    """A database of an instance's own."""

    url: str

    def sql(self, statement: str) -> str:
        """The first column of the first row that a statement answers, if any; what it changes is committed."""

    def contents(self) -> bytes:
        """All that is stored."""


class SqliteDatabase:
    """An SQLite file in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.url = database_url(directory)
        self._file = directory / "data" / "postroom.db"

    def sql(self, statement: str) -> str:
        with closing(sqlite3.connect(self._file, timeout=20)) as connection, connection:
            row = connection.execute(statement).fetchone()
        return str(row[0]) if row else ""

    def contents(self) -> bytes:
        """The octets of the file and of its log."""
        return b"".join(path.read_bytes() for path in self._file.parent.iterdir())


class PostgresDatabase:
    """A new PostgreSQL database."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._name = f"sdk_{uuid4().hex}"
        server.sql(f"CREATE DATABASE {self._name}")
        self.url = server.url(self._name)

    def sql(self, statement: str) -> str:
        return self._server.sql(statement, self._name).strip()

    def contents(self) -> bytes:
        """The text of every row, in which octets stand as hexadecimal digits, and the server's log."""
        tables = self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'").split()
        rows = "".join(self.sql(f"SELECT t::text FROM {table} t") for table in tables)
        return rows.encode() + (self._server.directory / "log").read_bytes()


@dataclass(frozen=True)
class Instance:
    """A running Postroom, its database, and the secrets of all keys that were made for it."""

    up: Up
    database: Database
    secrets: list[str] = field(default_factory=list)
    _shared_keys: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it wrote when it started."""
        return self.up.environment

    @property
    def url(self) -> str:
        """Where the REST API is."""
        return self.environment["SCW_API_URL"]

    def command(self, *arguments: str) -> str:
        """What a command prints that works on the database of the running instance."""
        return command(
            *arguments,
            POSTROOM_DATABASE_URL=self.database.url,
            POSTROOM_HTTP_ADDRESS=self.url.removeprefix("http://"),
        )

    def new_key(self, *flags: str) -> dict[str, str]:
        """The variables of a new key: of an organization of its own, where the flags name none."""
        environment: dict[str, str] = json.loads(self.command("keys", "create", "--output=json", *flags))
        self.secrets.append(environment["SCW_SECRET_KEY"])
        return environment

    def shared_key(self, *flags: str) -> dict[str, str]:
        """The variables of a key that is made by the first test that asks for one of these flags."""
        if flags not in self._shared_keys:
            self._shared_keys[flags] = self.new_key(*flags)
        return self._shared_keys[flags]


def command(*arguments: str, **environment: str) -> str:
    """What one command prints."""
    ended = run(*arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def launch(directory: Path, *arguments: str, **environment: str) -> Up:
    """Start one command that goes on running; its output stands in `directory`."""
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
def running(directory: Path, database: Database, answers: Answers, **environment: str) -> Iterator[Instance]:
    """A Postroom that has just started, on a free port. Checks at its end that it has told no secret."""
    up = launch(
        directory,
        "up",
        f"--env-file={directory / 'env'}",
        **QUICK
        | {
            "POSTROOM_DATABASE_URL": database.url,
            "POSTROOM_GRPC_ADDRESS": "127.0.0.1:0",
            "POSTROOM_HTTP_ADDRESS": "127.0.0.1:0",
        }
        | environment,
    )
    try:
        block_until(lambda: up.env_file.exists() or up.process.poll() is not None)
        assert up.env_file.exists(), up.log
        instance = Instance(up, database, [up.environment["SCW_SECRET_KEY"]])
        yield instance
    finally:
        terminate(up)
    require_nothing_told(instance, answers)


def require_nothing_told(instance: Instance, answers: Answers) -> None:
    """Raise AssertionError where a password or a secret stands anywhere but in the five lines of the first start."""
    exports = {f"export {name}={value}" for name, value in instance.environment.items()}
    lines = instance.up.output.splitlines()
    assert exports < set(lines)
    told = "\n".join([*(line for line in lines if line not in exports), instance.up.log, *answers.texts]).encode()
    stored = instance.database.contents()
    for secret in (PASSWORD_MARK, *instance.secrets):
        for form in (secret.encode(), secret.encode().hex().encode()):
            assert form not in told
            assert form not in stored
    # These are stored, and told to nobody.
    assert b"$argon2id$" not in told
    assert b"PRIVATE KEY" not in told


class Apart:
    """`postroom serve` and `postroom gateway` on an SQLite file: each its own command, which nothing else watches."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._database = {"POSTROOM_DATABASE_URL": database_url(directory)}
        self._started: list[Up] = []

    def start(self) -> None:
        """Start both, and make a key."""
        command("migrate", **self._database)
        self.service = self._launch("serve", **self._database, POSTROOM_GRPC_ADDRESS="127.0.0.1:0")
        self._grpc_address = _ready_address(self.service)
        gateway = self._launch(
            "gateway",
            POSTROOM_GRPC_ADDRESS=self._grpc_address,
            POSTROOM_HTTP_ADDRESS="127.0.0.1:0",
            POSTROOM_CALL_TIMEOUT_SECONDS="1",
        )
        created = command(
            "keys", "create", "--output=json", **self._database, POSTROOM_HTTP_ADDRESS=_ready_address(gateway)
        )
        self.environment: dict[str, str] = json.loads(created)

    def kill_service(self) -> None:
        """End the service as a crash would."""
        self.service.process.kill()
        self.service.process.wait()

    def restart_service(self) -> None:
        """Start the service where it was; it is not ready yet."""
        self.service = self._launch("serve", **self._database, POSTROOM_GRPC_ADDRESS=self._grpc_address)

    def end(self) -> None:
        """End what runs, also what is stopped."""
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


def _ready_address(up: Up) -> str:
    """Where a process listens, once it does."""
    block_until(lambda: '"event": "ready"' in up.log or up.process.poll() is not None)
    (address,) = (line["address"] for line in map(json.loads, up.log.splitlines()) if line["event"] == "ready")
    return str(address)
