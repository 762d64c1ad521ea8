"""The processes that a row needs on one engine, ended together with the row."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from bench.databases import Databases
from bench.engine import Engine
from bench.parameters import Parameters
from bench.process import POSTROOM, Process
from bench.seed import SECRET
from bench.tls import Certificates
from postroom.v1alpha1 import mailbox_service_pb2_grpc
from tools.ports import free_address

METADATA = (("x-auth-token", SECRET),)
PREFIX = "/mailbox/v1alpha1"
RPC_PREFIX = "postroom.v1alpha1.MailboxService"


@dataclass(frozen=True, slots=True)
class Harness:
    """Starts processes on databases of one engine, and creates clients for them."""

    engine: Engine
    parameters: Parameters
    databases: Databases
    directory: Path
    cleanups: AsyncExitStack
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def seeded(self, size: int) -> str:
        """Return the URL of a shared, read-only database with `size` mailboxes."""
        return await self.databases.seeded(self.engine, size)

    async def copy(self, size: int) -> str:
        """Return the URL of a writable database with `size` mailboxes."""
        return await self.databases.copy(self.engine, size)

    async def service(self, url: str, **settings: str) -> Process:
        """Start a service on a database, with additional `POSTROOM_` settings."""
        address = free_address()
        defaults = {"POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": address}
        return await self.start([POSTROOM, "serve"], address, defaults | settings)

    async def gateway(self, service: Process, **settings: str) -> Process:
        """Start a gateway in front of a service, with additional `POSTROOM_` settings."""
        address = free_address()
        addresses = {"POSTROOM_GRPC_ADDRESS": service.address, "POSTROOM_HTTP_ADDRESS": address}
        return await self.start([POSTROOM, "gateway"], address, addresses | settings)

    async def baseline_service(self) -> Process:
        """Start the baseline of the service."""
        address = free_address()
        return await self.start([sys.executable, "-m", "bench.baseline.service", address], address)

    async def baseline_gateway(self, service: Process) -> Process:
        """Start the baseline of the gateway in front of a baseline service."""
        address = free_address()
        command = [sys.executable, "-m", "bench.baseline.gateway", address, service.address]
        return await self.start(command, address)

    async def start(self, command: Sequence[str], address: str, environment: dict[str, str] | None = None) -> Process:
        """Start a process and wait until it is ready. Raises ProcessFailed."""
        process = self.process(command, address, environment)
        await process.start()
        return process

    def process(self, command: Sequence[str], address: str, environment: dict[str, str] | None = None) -> Process:
        """Return a process that the caller starts, and that is killed at the end of the row."""
        log = self.directory / f"{next(self._numbers)}.log"
        process = Process(command, address, log, {"POSTROOM_LOG_FORMAT": "json"} | (environment or {}))
        self.cleanups.push_async_callback(process.kill)
        return process

    def stub(self, process: Process, certificates: Certificates | None = None) -> Any:
        """Return a gRPC stub with its own connection, which uses TLS with `certificates`."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 * 1024 * 1024))
        if certificates is None:
            channel = grpc.aio.insecure_channel(process.address, options=options)
        else:
            credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
            channel = grpc.aio.secure_channel(process.address, credentials, options=options)
        self.cleanups.push_async_callback(channel.close)
        stub: Any = mailbox_service_pb2_grpc.MailboxServiceStub(channel)
        return stub


@asynccontextmanager
async def open_harness(engine: Engine, parameters: Parameters, databases: Databases) -> AsyncIterator[Harness]:
    """A harness; its processes end with the block."""
    async with AsyncExitStack() as cleanups:
        directory = Path(cleanups.enter_context(TemporaryDirectory(prefix="postroom-bench-")))
        yield Harness(engine, parameters, databases, directory, cleanups)
