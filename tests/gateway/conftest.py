import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import structlog
import uvloop
from google.protobuf.descriptor import ServiceDescriptor

from postroomd.gateway.app import SERVICES, GatewayConfig, open_gateway
from postroomd.gateway.connection_table import ConnectionTable
from postroomd.gateway.http_server import listen
from tests.gateway.client import TOKEN, Client, Start
from tests.gateway.stub_service import StubService


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run all tests of the gateway in uvloop, as production does: its transports differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a stub service, unless one is given, and a gateway in front of it, each on a free port."""
    async with AsyncExitStack() as stack:

        async def starter(
            services: Sequence[ServiceDescriptor] = SERVICES,
            *,
            token: str | None = TOKEN,
            stub: StubService | None = None,
            **config: Any,
        ) -> Client:
            if stub is None:
                stub = StubService(services)
                await stub.start()
                stack.push_async_callback(stub.stop)
            settings = GatewayConfig(grpc_address=stub.address, **config)
            _, server = await stack.enter_async_context(open_gateway(settings, services))
            listener = await listen(server, ConnectionTable(settings.connection_limits), "127.0.0.1", 0)
            stack.callback(listener.close)
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            return Client(session, listener.sockets[0].getsockname()[1], token, stub)

        yield starter


@pytest.fixture
async def call(start: Start) -> Client:
    """Client of a gateway that serves Postroom's own contract."""
    return await start()


@pytest.fixture
def logs() -> Any:
    """Log lines of the test, as dictionaries."""
    with structlog.testing.capture_logs() as captured:
        yield captured
