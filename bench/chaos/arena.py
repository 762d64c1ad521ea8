"""Where a fault is tried: a fresh database on one engine, one tenant in it, and processes that work on it."""

import asyncio
import atexit
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.client import Client
from bench.chaos.postgres import kill_server
from bench.chaos.writes import Writes
from bench.engine import Engine
from bench.process import POSTROOM, Process
from postroomd.runtime.keys import issue_key
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from tests.support.postgres import PostgresServer, free_port, reachable_directory

DOMAINS = 4
QUOTA = 2_000_000_000

# What an operator runs with, said aloud: nothing here may rest on a server that forgets.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

# Hashes as cheap as Argon2 permits: what is tried here is what a fault leaves, not how dear a password is.
CHEAP_HASHES = {
    "POSTROOM_ARGON2_MEMORY_KIB": "8",
    "POSTROOM_ARGON2_TIME_COST": "1",
    "POSTROOM_ARGON2_PARALLELISM": "1",
    "POSTROOM_HASH_WAIT_SECONDS": "60",  # nobody is refused for how many they are
}

_numbers = count(1)  # of servers


@dataclass(frozen=True, slots=True)
class Arena:
    """A database with one tenant, and the processes that were started on it."""

    url: str
    directory: Path
    token: str
    server: PostgresServer | None
    room: Path | None
    cleanups: AsyncExitStack
    _processes: list[Process] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        """What the database is."""
        return Engine.POSTGRESQL if self.server else Engine.SQLITE

    @property
    def postgres(self) -> PostgresServer:
        """The database's server. Raises LookupError where it is a file."""
        if self.server is None:
            raise LookupError("an SQLite file has no server")
        return self.server

    def service(self, address: str | None = None, **environment: str) -> Process:
        """A service, yet to be started, with further `POSTROOM_` settings."""
        return self._process("serve", "GRPC", address, CHEAP_HASHES | {"POSTROOM_DATABASE_URL": self.url} | environment)

    def gateway(self, service: Process) -> Process:
        """A gateway in front of a service, yet to be started."""
        return self._process("gateway", "HTTP", None, {"POSTROOM_GRPC_ADDRESS": service.address})

    def client(self, target: str, *options: tuple[str, str]) -> Client:
        """A client with connections of its own, and the tenant's key."""
        client = Client(target, self.token, options)
        self.cleanups.push_async_callback(client.close)
        return client

    async def writes(self, client: Client) -> Writes:
        """What is to be written, to domains that are made here."""
        names = [f"domain{number}.example" for number in range(DOMAINS)]
        return Writes({await client.create_domain(name): name for name in names})

    def _process(self, command: str, protocol: str, address: str | None, environment: dict[str, str]) -> Process:
        log = self.directory / f"{command}{len(self._processes)}.log"
        address = address or free_address()
        own = {"POSTROOM_LOG_FORMAT": "json", f"POSTROOM_{protocol}_ADDRESS": address}
        process = Process([POSTROOM, command], address, log, own | environment)
        self._processes.append(process)
        self.cleanups.push_async_callback(process.kill)
        return process


def free_address() -> str:
    """A loopback address that nothing listens on now."""
    return f"127.0.0.1:{free_port()}"


@cache
def servers_home() -> Path:
    """Where the servers of this process live, one beside the other: they share one copy of PostgreSQL's programs."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(reachable_directory())


@asynccontextmanager
async def open_arena(
    engine: Engine, room: Path | None = None, server_settings: Mapping[str, str] | None = None
) -> AsyncIterator[Arena]:
    """An arena, whose processes end and whose files go with it. `room` is where the database's files are to be."""
    async with AsyncExitStack() as cleanups:
        directory = Path(cleanups.enter_context(TemporaryDirectory(prefix="postroom-chaos-")))
        if engine is Engine.SQLITE:
            server = None
            url = f"sqlite+aiosqlite:///{room or directory}/postroom.db"
        else:
            place = (room or servers_home()) / f"server{next(_numbers)}"
            cleanups.callback(shutil.rmtree, place, ignore_errors=True)
            server = PostgresServer(place, settings=DURABLE | dict(server_settings or {}))
            await asyncio.to_thread(server.initialize)
            cleanups.push_async_callback(kill_server, server)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.sql, "CREATE DATABASE postroom")
            url = server.url("postroom")
        await asyncio.to_thread(migrate, url)
        yield Arena(url, directory, await _new_tenant(url), server, room, cleanups)


async def _new_tenant(url: str) -> str:
    """Make an organization with one project; the secret of its key."""
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
