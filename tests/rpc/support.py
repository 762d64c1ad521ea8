"""One service with its worker, on a database file of its own, and what tests ask of them."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import pytest
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from postroom.v1alpha1 import alias_pb2, domain_pb2, mailbox_pb2, mailbox_service_pb2, mailbox_service_pb2_grpc
from postroomd.clock import Clock
from postroomd.observability.logs import QUIET_LIBRARIES, configure
from postroomd.runtime import service, worker
from postroomd.runtime.keys import issue_key, new_project
from postroomd.settings import SQLITE_PREFIX, Settings, load_settings
from postroomd.storage.drivers import sqlite
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository

if TYPE_CHECKING:
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceAsyncStub

SERVICE: ServiceDescriptor = mailbox_service_pb2.DESCRIPTOR.services_by_name["MailboxService"]
METHODS: Sequence[MethodDescriptor] = SERVICE.methods
PASSWORD = "correct horse battery staple"
ABSENT_ID = "00000000-0000-4000-8000-000000000000"
PATIENCE_SECONDS = 15.0

Metadata = tuple[tuple[str, str], ...]
Options = tuple[tuple[str, int], ...]
LONG_DETAILS: Options = (("grpc.max_metadata_size", 2**20), ("grpc.absolute_max_metadata_size", 2**20))
"""What a client sets to be told more faults than fit the 8 KiB of trailing metadata that gRPC is sure to take."""
ALL_DETAILS: Metadata = (("x-accept-details", "all"),)
"""What its calls say with that."""

Found = TypeVar("Found")
Detail = TypeVar("Detail", bound=Message)

_numbers = count(1)


def fresh_name(label: str = "domain") -> str:
    """A domain name that no other test of this process has."""
    return f"{label}{next(_numbers)}.example"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a call has failed with, as a client sees it."""

    code: grpc.StatusCode
    message: str
    details: Sequence[Message]
    trailing: Mapping[str, str | bytes]

    def all(self, kind: type[Detail]) -> list[Detail]:
        """The details of one kind."""
        return [detail for detail in self.details if isinstance(detail, kind)]

    def only(self, kind: type[Detail]) -> Detail:
        """The one detail of a kind."""
        (detail,) = self.all(kind)
        return detail

    @property
    def info(self) -> ErrorInfo:
        """The ErrorInfo that every failure carries."""
        return self.only(ErrorInfo)

    @property
    def violations(self) -> set[tuple[str, str]]:
        """Field path and reason of every argument at fault."""
        return {(fault.field, fault.reason) for fault in self.only(error_details_pb2.BadRequest).field_violations}

    @property
    def text(self) -> str:
        """All that the failure says, to be searched for what it must not say."""
        return "\n".join([self.message, *map(str, self.details), str(self.trailing)])


def details_of(error: grpc.aio.AioRpcError) -> list[Message]:
    """The google.rpc details of a failure, unpacked."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # it has what is read of a call
    unpacked = []
    for packed in status.details if status else ():
        message = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(packed.TypeName()))()
        assert packed.Unpack(message)
        unpacked.append(message)
    return unpacked


async def failure_of(call: Awaitable[object]) -> Failure:
    """How a call fails; a call that succeeds fails the test."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    trailing = dict(error.trailing_metadata())
    return Failure(error.code(), error.details() or "", details_of(error), trailing)


async def until(look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What `look` finds, as soon as it finds something."""
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("what was waited for has not come")


class _WithMetadata(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the same metadata to every call."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        sent = (*self._metadata, *(client_call_details.metadata or ()))
        return await continuation(client_call_details._replace(metadata=grpc.aio.Metadata(*sent)), request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A caller: its key, and a stub whose calls carry it."""

    stub: "MailboxServiceAsyncStub"
    metadata: Metadata
    secret: str
    access_key: str
    organization_id: str
    project_id: str

    async def call(self, rpc: str, request: Message) -> Any:
        """Call an RPC by its name."""
        return await getattr(self.stub, rpc)(request)

    async def domain(self, name: str | None = None, **fields: str) -> domain_pb2.Domain:
        """A new domain."""
        return await self.stub.CreateDomain(domain_pb2.CreateDomainRequest(name=name or fresh_name(), **fields))

    async def ready_domain(self, name: str | None = None) -> domain_pb2.Domain:
        """A new domain, once it is ready."""
        domain = await self.domain(name)
        await self.stub.ValidateDomainRecords(domain_pb2.ValidateDomainRecordsRequest(domain_id=domain.id))
        return await self.wait_for_domain(domain.id, domain_pb2.Domain.READY)

    async def wait_for_domain(self, domain_id: str, status: "domain_pb2.Domain.Status.ValueType") -> domain_pb2.Domain:
        """The domain, once it has the status."""

        async def look() -> domain_pb2.Domain | None:
            domain = await self.stub.GetDomain(domain_pb2.GetDomainRequest(domain_id=domain_id))
            return domain if domain.status == status else None

        return await until(look)

    async def mailboxes(
        self, domain: domain_pb2.Domain, *local_parts: str, password: str = PASSWORD
    ) -> list[mailbox_pb2.Mailbox]:
        """New mailboxes of a domain."""
        created = await self.stub.BatchCreateMailboxes(batch_request(domain.id, *local_parts, password=password))
        return list(created.mailboxes)

    async def mailbox(self, domain: domain_pb2.Domain, local_part: str) -> mailbox_pb2.Mailbox:
        """A new mailbox of a domain."""
        (mailbox,) = await self.mailboxes(domain, local_part)
        return mailbox

    async def alias(self, mailbox: mailbox_pb2.Mailbox, local_part: str) -> alias_pb2.Alias:
        """A new alias of a mailbox."""
        return await self.stub.CreateAlias(alias_pb2.CreateAliasRequest(mailbox_id=mailbox.id, local_part=local_part))


def batch_request(
    domain_id: str, *local_parts: str, password: str = PASSWORD
) -> mailbox_pb2.BatchCreateMailboxesRequest:
    """A request for mailboxes that share a password."""
    item = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters
    return mailbox_pb2.BatchCreateMailboxesRequest(
        domain_id=domain_id, mailboxes=[item(local_part=name, password=password) for name in local_parts]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running service, seen from outside and from its database."""

    settings: Settings
    address: str
    admin_address: str | None
    repository: Repository
    cleanups: AsyncExitStack = field(repr=False)

    def stub(self, metadata: Metadata = (), options: Options = ()) -> "MailboxServiceAsyncStub":
        """A client of its own, whose calls carry the metadata."""
        return mailbox_service_pb2_grpc.MailboxServiceStub(self.channel(metadata, options))

    def channel(self, metadata: Metadata = (), options: Options = (), address: str | None = None) -> grpc.aio.Channel:
        """A connection of its own, closed with the service."""
        interceptors = [_WithMetadata(metadata)] if metadata else []
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
    ) -> Tenant:
        """A caller with a new key: of a new organization where none is named."""
        now = datetime.now(UTC)
        issued = await issue_key(
            self.repository.tenancy,
            organization_id=organization_id,
            project_id=project_id,
            read_only=read_only,
            expires_at=now + expires_in if expires_in is not None else None,
            mailbox_quota=mailbox_quota,
            now=now,
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
        """The id of a further project of an organization."""
        project = new_project(organization_id, "further", mailbox_quota, datetime.now(UTC))
        await self.repository.tenancy.create_project(project)
        return project.id

    @property
    def path(self) -> Path:
        """The database file."""
        return self.settings.database_path

    async def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement of the operator's answers, committed."""
        return await asyncio.to_thread(self._sql, statement, values)

    def _sql(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            return connection.execute(statement, values).fetchall()

    def connect(self) -> sqlite3.Connection:
        """A connection to the database file, in autocommit mode, that leaves the log to the service.

        Use it in a thread: a lock that it waits for may be held by a task of this event loop.
        """
        connection = sqlite3.connect(self.path, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep everybody else from writing to the database while the block runs."""
        with closing(self.connect()) as connection:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, at one instant."""

        def read() -> dict[str, list[tuple[Any, ...]]]:
            with closing(self.connect()) as connection:
                connection.execute("BEGIN")
                tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                return {
                    table: sorted(connection.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)
                    for (table,) in tables
                }

        return await asyncio.to_thread(read)


@contextmanager
def logging_to(stream: StringIO) -> Iterator[StringIO]:
    """Have all logs written to the stream, as they are in production, until the block ends."""
    levels = {name: logging.getLogger(name).level for name in ("", *QUIET_LIBRARIES)}
    with redirect_stderr(stream):
        configure("debug", "json", process="tests")
    (handler,) = logging.getLogger().handlers
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        structlog.reset_defaults()


@asynccontextmanager
async def running(
    directory: Path, flags: Mapping[str, str], *, work: bool = True, busy_ms: int = sqlite.BUSY_TIMEOUT_MS
) -> AsyncIterator[Service]:
    """A service on a new database in the directory, with cheap password hashes and, unless told off, a worker.

    It takes a database that stays locked for `busy_ms` as out of reach.
    """
    url = f"{SQLITE_PREFIX}{directory / 'postroom.db'}"
    await asyncio.to_thread(migrate, url)
    cheap = {"argon2_memory_kib": "8", "argon2_time_cost": "1", "worker_interval_seconds": "0.02"}
    here = {"database_url": url, "grpc_address": "127.0.0.1:0", "domain_validation": "trust", "drain_seconds": "1"}
    settings = load_settings({**cheap, **here, **flags})
    async with AsyncExitStack() as cleanups:
        cleanups.enter_context(pytest.MonkeyPatch.context()).setattr(sqlite, "BUSY_TIMEOUT_MS", busy_ms)
        stop = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def halt() -> None:
            stop.set()
            await asyncio.gather(*tasks)

        cleanups.push_async_callback(halt)
        bound: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        serving = service.serve(settings, stop, lambda *addresses: bound.set_result(addresses), Clock())
        tasks.append(asyncio.create_task(serving))
        waited: list[asyncio.Future[Any]] = [bound, *tasks]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if work:
            tasks.append(asyncio.create_task(worker.run(settings, stop, lambda: None, Clock())))
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
