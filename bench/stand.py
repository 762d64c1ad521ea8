"""Where a row is measured: the processes that it needs, on one engine, each ended with it."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from bench.databases import Databases
from bench.engine import Engine
from bench.plan import Plan
from bench.process import POSTROOM, Process
from bench.seed import SECRET
from postroom.v1alpha1 import mailbox_service_pb2_grpc
from tests.support.postgres import free_port

METADATA = (("x-auth-token", SECRET),)
PREFIX = "/mailbox/v1alpha1"
RPC_PREFIX = "postroom.v1alpha1.MailboxService"


@dataclass(frozen=True, slots=True)
class Stand:
    """Starts processes, and calls them."""

    engine: Engine
    plan: Plan
    databases: Databases
    directory: Path
    cleanups: AsyncExitStack
    _numbers: Any = field(default_factory=lambda: count(1))

    async def seeded(self, count: int) -> str:
        """The URL of a database with so many mailboxes, which is not to be written to."""
        return await self.databases.seeded(self.engine, count)

    async def copy(self, count: int) -> str:
        """The URL of a database with so many mailboxes, to be written to."""
        return await self.databases.copy(self.engine, count)

    async def service(self, url: str, **environment: str) -> Process:
        """A service that runs on a database, with further `POSTROOM_` settings."""
        address = free_address()
        settings = {"POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": address}
        return await self.start([POSTROOM, "serve"], address, settings | environment)

    async def gateway(self, service: Process, **environment: str) -> Process:
        """A gateway that runs in front of a service."""
        address = free_address()
        settings = {"POSTROOM_GRPC_ADDRESS": service.address, "POSTROOM_HTTP_ADDRESS": address}
        return await self.start([POSTROOM, "gateway"], address, settings | environment)

    async def floor_service(self) -> Process:
        """The floor of the service."""
        address = free_address()
        return await self.start([sys.executable, "-m", "bench.floor.service", address], address)

    async def floor_gateway(self, service: Process) -> Process:
        """The floor of the gateway, in front of the floor of the service."""
        address = free_address()
        command = [sys.executable, "-m", "bench.floor.gateway", address, service.address]
        return await self.start(command, address)

    async def start(self, command: Sequence[str], address: str, environment: dict[str, str] | None = None) -> Process:
        """A process that has said that it is ready. Raises Ended."""
        process = self.process(command, address, environment)
        await process.start()
        return process

    def process(self, command: Sequence[str], address: str, environment: dict[str, str] | None = None) -> Process:
        """A process, yet to be started."""
        log = self.directory / f"{next(self._numbers)}.log"
        process = Process(command, address, log, {"POSTROOM_LOG_FORMAT": "json"} | (environment or {}))
        self.cleanups.push_async_callback(process.kill)
        return process

    def stub(self, process: Process) -> Any:
        """A client's stub, with a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 * 1024 * 1024))
        channel = grpc.aio.insecure_channel(process.address, options=options)
        self.cleanups.push_async_callback(channel.close)
        stub: Any = mailbox_service_pb2_grpc.MailboxServiceStub(channel)
        return stub


@asynccontextmanager
async def open_stand(engine: Engine, plan: Plan, databases: Databases) -> AsyncIterator[Stand]:
    """A stand, whose processes end with it."""
    async with AsyncExitStack() as cleanups:
        directory = Path(cleanups.enter_context(TemporaryDirectory(prefix="postroom-bench-")))
        yield Stand(engine, plan, databases, directory, cleanups)


def free_address() -> str:
    """A loopback address that nothing listens on now."""
    return f"127.0.0.1:{free_port()}"
