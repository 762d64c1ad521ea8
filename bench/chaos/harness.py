"""The setup of a scenario: a new database on one engine with one tenant, and processes that use it."""

import asyncio
import atexit
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.client import Client
from bench.chaos.writes import WriteGenerator
from bench.engine import Engine
from bench.process import POSTROOM, Process
from postroomd.runtime.keys import issue_key
from postroomd.settings import SQLITE_PREFIX
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from tools.ports import free_address
from tools.postgres import PostgresServer, server_directory

DOMAINS = 4
QUOTA = 2_000_000_000

# The defaults, set explicitly: no result may depend on a server that loses commits.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

# The cheapest hashes Argon2 permits: faults are tested here, not the cost of passwords.
CHEAP_HASHES = {
    "POSTROOM_ARGON2_MEMORY_KIB": "8",
    "POSTROOM_ARGON2_TIME_COST": "1",
    "POSTROOM_ARGON2_PARALLELISM": "1",
    "POSTROOM_HASH_WAIT_SECONDS": "60",  # no rejections because of the number of concurrent calls
}

# Hundreds of faults under load store more than a tenant may by default.
LARGE_QUOTAS = {
    "POSTROOM_DOMAIN_QUOTA": "1000000",
    "POSTROOM_ALIAS_QUOTA": "1000000",
    "POSTROOM_MAILBOX_ALIAS_QUOTA": "1000000",
    "POSTROOM_IDEMPOTENCY_QUOTA": "1000000",
    "POSTROOM_IDEMPOTENCY_BYTES_QUOTA": "1073741824",
}

_server_numbers = count(1)


@dataclass(frozen=True, slots=True)
class ChaosHarness:
    """A database with one tenant, and the processes started on it."""

    url: str
    directory: Path
    token: str
    server: PostgresServer | None
    mount: Path | None
    """The small file system that holds the database, if there is one."""
    cleanups: AsyncExitStack
    _processes: list[Process] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        """The engine of the database."""
        return Engine.POSTGRESQL if self.server else Engine.SQLITE

    @property
    def database_path(self) -> Path:
        """The database file; for SQLite only."""
        return Path(self.url.removeprefix(SQLITE_PREFIX))

    @property
    def log_path(self) -> Path:
        """The write-ahead log; for SQLite only."""
        return self.database_path.with_name(f"{self.database_path.name}-wal")

    @property
    def postgres(self) -> PostgresServer:
        """The database's server. Raises LookupError on SQLite."""
        if self.server is None:
            raise LookupError("an SQLite file has no server")
        return self.server

    def service(self, address: str | None = None, **settings: str) -> Process:
        """Return a service, not started yet, with additional `POSTROOM_` settings."""
        return self._process(
            "serve", "GRPC", address, CHEAP_HASHES | LARGE_QUOTAS | {"POSTROOM_DATABASE_URL": self.url} | settings
        )

    def gateway(self, service: Process) -> Process:
        """Return a gateway in front of a service, not started yet."""
        return self._process("gateway", "HTTP", None, {"POSTROOM_GRPC_ADDRESS": service.address})

    def process_with_clock(self, command: str, clock: Path, **settings: str) -> Process:
        """Return a service or worker, not started yet, whose clock is off by what a file says."""
        environment = CHEAP_HASHES | {"POSTROOM_DATABASE_URL": self.url} | settings
        started = [sys.executable, "-m", "bench.chaos.settable_clock", command, str(clock)]
        return self._process(command, "GRPC", None, environment, started)

    def worker(self) -> Process:
        """Return a worker, not started yet."""
        return self._process("worker", "GRPC", None, {"POSTROOM_DATABASE_URL": self.url})

    def client(self, target: str, *options: tuple[str, str], token: str | None = None) -> Client:
        """Return a client with its own connections and the tenant's key, or that of another tenant."""
        client = Client(target, token or self.token, options)
        self.cleanups.push_async_callback(client.close)
        return client

    async def create_writes(self, client: Client) -> WriteGenerator:
        """Create domains; returns a generator of writes to them."""
        names = [f"domain{number}.example" for number in range(DOMAINS)]
        return WriteGenerator({await client.create_domain(name): name for name in names})

    def _process(
        self,
        command: str,
        protocol: str,
        address: str | None,
        settings: dict[str, str],
        arguments: Sequence[str] | None = None,
    ) -> Process:
        log = self.directory / f"{command}{len(self._processes)}.log"
        address = address or free_address()
        defaults = {"POSTROOM_LOG_FORMAT": "json", f"POSTROOM_{protocol}_ADDRESS": address}
        process = Process(arguments or [POSTROOM, command], address, log, defaults | settings)
        self._processes.append(process)
        self.cleanups.push_async_callback(process.kill)
        return process


@cache
def servers_directory() -> Path:
    """Return the parent directory of all PostgreSQL servers, which share one copy of PostgreSQL's programs in it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server_directory())


@asynccontextmanager
async def new_server() -> AsyncIterator[PostgresServer]:
    """A new cluster with an empty database `postroom`, removed at the end."""
    async with AsyncExitStack() as cleanups:
        home = servers_directory() / f"server{next(_server_numbers)}"
        cleanups.callback(shutil.rmtree, home, ignore_errors=True)
        yield await _start_server(PostgresServer(home, settings=DURABLE), cleanups)


async def _start_server(server: PostgresServer, cleanups: AsyncExitStack) -> PostgresServer:
    await asyncio.to_thread(server.initialize)
    cleanups.push_async_callback(asyncio.to_thread, server.kill)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.sql, "CREATE DATABASE postroom")
    return server


@asynccontextmanager
async def open_harness(
    engine: Engine, mount: Path | None = None, server_settings: Mapping[str, str] | None = None
) -> AsyncIterator[ChaosHarness]:
    """A harness, whose processes and files are removed at the end. `mount` is a directory for the database's files."""
    async with AsyncExitStack() as cleanups:
        directory = Path(cleanups.enter_context(TemporaryDirectory(prefix="postroom-chaos-")))
        if engine is Engine.SQLITE:
            server = None
            url = f"{SQLITE_PREFIX}{mount or directory}/postroom.db"
        else:
            home = (mount or servers_directory()) / f"server{next(_server_numbers)}"
            cleanups.callback(shutil.rmtree, home, ignore_errors=True)
            server = await _start_server(PostgresServer(home, settings=DURABLE | dict(server_settings or {})), cleanups)
            url = server.url("postroom")
        await asyncio.to_thread(migrate, url)
        yield ChaosHarness(url, directory, await _create_tenant(url), server, mount, cleanups)


async def _create_tenant(url: str) -> str:
    """Create an organization with one project and a key. Returns the key's secret."""
    repository = await open_repository(url)
    issued = await issue_key(
        repository.tenancy,
        organization_id=None,
        project_id=None,
        read_only=False,
        expires_at=None,
        mailbox_quota=QUOTA,
        now=datetime.now(UTC),
    )
    await repository.close()
    return issued.secret
