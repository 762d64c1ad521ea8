"""One service with its worker, in the process of the tests and on its own SQLite database."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from postroom.v1alpha1 import mailbox_service_pb2_grpc
from postroomd.clock import Clock
from postroomd.observability.logs import configure
from postroomd.runtime import service, worker
from postroomd.runtime.keys import issue_key, new_project
from postroomd.settings import SQLITE_PREFIX, Settings, load_settings
from postroomd.storage.drivers import sqlite
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from tests.rpc.client import Metadata, Options, Tenant
from tests.support.logs import restored_logging

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceAsyncStub

LOCK_SECONDS = 15.0


class _AddMetadata(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the same metadata to every call."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        metadata = (*self._metadata, *(client_call_details.metadata or ()))
        return await continuation(client_call_details._replace(metadata=grpc.aio.Metadata(*metadata)), request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running service: its addresses, clients of it, and access to its database."""

    settings: Settings
    address: str
    admin_address: str | None
    repository: Repository
    cleanups: AsyncExitStack = field(repr=False)

    def stub(self, metadata: Metadata = (), options: Options = ()) -> "MailboxServiceAsyncStub":
        """A stub with its own connection, whose calls carry the metadata."""
        return mailbox_service_pb2_grpc.MailboxServiceStub(self.channel(metadata, options))

    def channel(self, metadata: Metadata = (), options: Options = (), address: str | None = None) -> grpc.aio.Channel:
        """A new connection, which is closed with the service."""
        interceptors = [_AddMetadata(metadata)] if metadata else []
        channel = grpc.aio.insecure_channel(address or self.address, options=options, interceptors=interceptors)
        self.cleanups.push_async_callback(channel.close)
        return channel

    async def tenant(
        self,
        *,
        organization_id: str | None = None,
        project_id: str | None = None,
        read_only: bool = False,
        expires_in: timedelta | None = None,
        mailbox_quota: int = 1_000,
        password_hashes: bool = False,
    ) -> Tenant:
        """A caller with a new API key, by default of a new organization."""
        now = datetime.now(UTC)
        issued = await issue_key(
            self.repository.tenancy,
            organization_id=organization_id,
            project_id=project_id,
            read_only=read_only,
            expires_at=now + expires_in if expires_in is not None else None,
            mailbox_quota=mailbox_quota,
            now=now,
            password_hashes=password_hashes,
        )
        metadata = (("x-auth-token", issued.secret),)
        return Tenant(
            stub=self.stub(metadata),
            metadata=metadata,
            secret=issued.secret,
            access_key=issued.key.access_key,
            organization_id=issued.key.organization_id,
            project_id=issued.key.default_project_id,
        )

    async def project(self, organization_id: str, mailbox_quota: int = 1_000) -> str:
        """Create a further project of an organization, and return its id."""
        project = new_project(organization_id, "further", mailbox_quota, datetime.now(UTC))
        await self.repository.tenancy.create_project(project)
        return project.id

    @property
    def path(self) -> Path:
        """The database file."""
        return self.settings.database_path

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run and commit a statement, and return its rows."""
        return await asyncio.to_thread(self._sql, statement, values)

    def _sql(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            return connection.execute(statement, values).fetchall()

    def connect(self) -> sqlite3.Connection:
        """Connect to the database file, in autocommit mode and without checkpoints, which are the service's.

        Use the connection in a thread: a task of this event loop may hold a lock that it waits for.
        """
        connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    @asynccontextmanager
    async def write_lock(self) -> AsyncIterator[None]:
        """Hold the database's write lock during the block: every other write waits."""
        with closing(self.connect()) as connection:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, in one snapshot, but for the workers' clocks, which no call changes."""

        def read() -> dict[str, list[tuple[Any, ...]]]:
            with closing(self.connect()) as connection:
                connection.execute("BEGIN")
                tables = connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'worker_clocks'"
                ).fetchall()
                return {
                    table: sorted(connection.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)
                    for (table,) in tables
                }

        return await asyncio.to_thread(read)


@contextmanager
def logging_to(stream: StringIO) -> Iterator[StringIO]:
    """Write all logs to the stream as in production, until the block ends."""
    with restored_logging():
        with redirect_stderr(stream):
            configure("debug", "json", process="tests")
        yield stream


@asynccontextmanager
async def running_service(
    directory: Path,
    overrides: Mapping[str, str],
    *,
    with_worker: bool = True,
    busy_timeout_ms: int = sqlite.BUSY_TIMEOUT_MS,
    clock: Clock | None = None,
) -> AsyncIterator[Service]:
    """Run a service on a new database in the directory, with cheap password hashes.

    `overrides` are further settings. A write fails when the database stays locked for `busy_timeout_ms`.
    """
    url = f"{SQLITE_PREFIX}{directory / 'postroom.db'}"
    await asyncio.to_thread(migrate, url)
    cheap = {"argon2_memory_kib": "8", "argon2_time_cost": "1", "worker_interval_seconds": "0.02"}
    local = {"database_url": url, "grpc_address": "127.0.0.1:0", "domain_validation": "trust", "drain_seconds": "1"}
    settings = load_settings({**cheap, **local, **overrides})
    async with AsyncExitStack() as cleanups:
        cleanups.enter_context(pytest.MonkeyPatch.context()).setattr(sqlite, "BUSY_TIMEOUT_MS", busy_timeout_ms)
        stop = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def shut_down() -> None:
            stop.set()
            await asyncio.gather(*tasks)

        cleanups.push_async_callback(shut_down)
        bound: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        serving = service.serve(settings, stop, lambda *addresses: bound.set_result(addresses), clock or Clock())
        tasks.append(asyncio.create_task(serving))
        started: list[asyncio.Future[Any]] = [bound, *tasks]
        await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
        if with_worker:
            tasks.append(asyncio.create_task(worker.run(settings, stop, lambda: None, clock or Clock())))
        repository = await open_repository(url)
        cleanups.push_async_callback(repository.close)
        address, *further = bound.result()
        yield Service(
            settings=settings,
            address=address,
            admin_address=further[0] if further else None,
            repository=repository,
            cleanups=cleanups,
        )
