"""What an operator does differently on SQLite and on PostgreSQL, by the documented commands."""

import asyncio
import itertools
import os
import secrets
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.support import clean_environment
from tests.operate.installation import COMMAND_SECONDS
from tests.operate.ledger import Ledger
from tests.operate.load import under_load
from tests.operate.machine import UNITS, Machine
from tests.support.deploy_files import replaced
from tests.support.documentation import block
from tests.support.haproxy import site_behind_haproxy
from tests.support.haproxy import under_load as under_load_of_proxy
from tools.postgres import PostgresServer, server_directory

DOCUMENTED_PASSWORD = "a long random password"


class Engine(ABC):
    """An engine, with its databases in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = itertools.count()

    @abstractmethod
    def new_database(self) -> str:
        """Return the URL of a new database without tables."""

    @abstractmethod
    def backup(self, machine: Machine) -> None:
        """Back up the database of a machine, while it runs."""

    @abstractmethod
    def new_place(self) -> str:
        """Return the URL of a place to which the backup can be restored."""

    @abstractmethod
    def restore(self, machine: Machine) -> None:
        """Restore the backup as the database of another machine, whose processes do not run."""

    @abstractmethod
    def unreachable(self, machine: Machine) -> str:
        """Return a URL under which the database of a machine can't be opened."""

    @abstractmethod
    def restart(self, machine: Machine, ledger: Ledger, domain: str) -> None:
        """Restart service and gateway under load, as for an upgrade. Not one call fails in the end."""


class Sqlite(Engine):
    """One machine, and files."""

    def new_database(self) -> str:
        return f"sqlite+aiosqlite:///{self.directory}/{next(self.numbers)}.db"

    def new_place(self) -> str:
        return self.new_database()

    def backup(self, machine: Machine) -> None:
        output = machine.postroom("backup", self.directory / "backup.db")
        assert "SHA-256" in output
        subprocess.run(["sha256sum", "--check", "--quiet", "backup.db.sha256"], cwd=self.directory, check=True)

    def restore(self, machine: Machine) -> None:
        assert "is restored" in machine.postroom("restore", self.directory / "backup.db")

    def unreachable(self, machine: Machine) -> str:
        return f"{machine.database_url}.missing"

    def restart(self, machine: Machine, ledger: Ledger, domain: str) -> None:
        """Stop everything, migrate, and start again: clients retry meanwhile."""
        with under_load(machine, ledger, domain) as load:
            machine.stop(*reversed(UNITS))
            machine.postroom("migrate")
            machine.start(*UNITS)
            load.more()


class Postgresql(Engine):
    """A cluster with the role and the database of the documentation."""

    def __init__(self, directory: Path, server: PostgresServer, fresh: PostgresServer) -> None:
        super().__init__(directory)
        self.server = server
        self.fresh = fresh
        self.password = secrets.token_hex(16)
        self._create_role_and_database(server)

    def new_database(self) -> str:
        number = next(self.numbers)
        if number == 0:
            return self._url(self.server, "postroom")
        self.server.sql(f"CREATE DATABASE postroom{number} OWNER postroom")
        return self._url(self.server, f"postroom{number}")

    def backup(self, machine: Machine) -> None:
        self._shell(block("backup.md", "pg_dump --format"), "db.internal", self.server, machine)

    def new_place(self) -> str:
        self._create_role_and_database(self.fresh)
        return self._url(self.fresh, "postroom")

    def restore(self, machine: Machine) -> None:
        """Restore as documented: the only errors name the role that a dump does not hold, until it is migrated."""
        restore, migrate = block("backup.md", "pg_restore --no-owner").splitlines()
        errors = self._shell(restore, "new.internal", self.fresh, machine, code=1).stderr
        failed = [line for line in errors.splitlines() if line.startswith("pg_restore: error")]
        assert failed
        assert {line.partition("ERROR:")[2].strip() for line in failed} == {'role "postroom_tenant" does not exist'}
        found = machine.doctor(code=1)["isolation"]
        assert (found["condition"], "postroom migrate" in found["remedy"]) == ("error", True)
        self._shell(migrate, "", self.fresh, machine)

    def unreachable(self, machine: Machine) -> str:
        return machine.database_url.replace(self.password, "wrong")

    def restart(self, machine: Machine, ledger: Ledger, domain: str) -> None:
        """Restart two services and two gateways behind HAProxy, one after the other, and the worker."""
        directory = machine.directory / "proxy"
        directory.mkdir()
        secret = machine.keys["SCW_SECRET_KEY"]
        installed = machine.installation.postroom

        async def restart() -> set[str]:
            with site_behind_haproxy(directory, machine.database_url, secret, installed) as site:
                await site.all_in_use()
                async with under_load_of_proxy(site) as load:
                    await load.more()
                    for name in site.environments:
                        await site.restart(name)
                        await load.more()
                assert load.failed == []
                return load.created

        created = asyncio.run(restart())
        assert created
        ledger.domains |= created

    def _shell(
        self, commands: str, host: str, server: PostgresServer, machine: Machine, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run documented commands with PostgreSQL's programs and Postroom in the path."""
        path = f"{server.programs}:{Path(machine.installation.postroom).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eu", "-c", replaced(commands, {host: f"127.0.0.1:{server.port}"} if host else {})],
            cwd=self.directory,
            env=clean_environment(**machine.variables, PATH=path, PGPASSWORD=self.password),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def _create_role_and_database(self, server: PostgresServer) -> None:
        server.initialize()
        server.start()
        statements = replaced(block("install.md", "CREATE ROLE postroom"), {DOCUMENTED_PASSWORD: self.password})
        for statement in statements.splitlines():
            server.sql(statement)

    def _url(self, server: PostgresServer, database: str) -> str:
        return f"postgresql+asyncpg://postroom:{self.password}@127.0.0.1:{server.port}/{database}"


@contextmanager
def sqlite(directory: Path) -> Iterator[Engine]:
    """The engine SQLite."""
    yield Sqlite(directory)


@contextmanager
def postgresql(directory: Path) -> Iterator[Engine]:
    """The engine PostgreSQL, with durable servers."""
    with server_directory() as servers:
        server, fresh = PostgresServer(servers / "server"), PostgresServer(servers / "fresh")
        try:
            yield Postgresql(directory, server, fresh)
        finally:
            server.stop()
            fresh.stop()


ENGINES = {"sqlite": sqlite, "postgresql": postgresql}
