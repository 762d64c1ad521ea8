"""The gateway's application, and its life from the first connection to the last."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor

from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.gateway.channel import open_channel
from postroomd.gateway.endpoints import Timeouts
from postroomd.gateway.handler import Gateway
from postroomd.gateway.http_server import listen, serving
from postroomd.observability.metrics import HTTP_CONNECTIONS, sampling

SERVICES: Sequence[ServiceDescriptor] = tuple(mailbox_service_pb2.DESCRIPTOR.services_by_name.values())
# What drains ends before this begins: within it aiohttp would read no more of a body.
CLOSING_SECONDS = 0.5


@dataclass(frozen=True)
class GatewayConfig:
    """Where the service is, and what is asked of it and of clients at most."""

    grpc_address: str
    max_body_bytes: int = 1_048_576
    max_requests: int = 128
    max_connections: int = 1_000
    body_timeout_seconds: float = 30.0
    call_timeout_seconds: float = 30.0
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.max_body_bytes < 1:  # to aiohttp, 0 is no limit at all
            raise ValueError("max_body_bytes must be at least 1")
        for name in ("body_timeout_seconds", "call_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")


@asynccontextmanager
async def open_gateway(
    config: GatewayConfig, services: Sequence[ServiceDescriptor] = SERVICES
) -> AsyncIterator[tuple[Gateway, web.Server]]:
    """Compile the services' routes, open the channel behind them, and make the HTTP server in front of them.

    The server listens nowhere yet. Its last request is answered, or canceled, before the channel is closed. Raises
    Unsupported where the gateway can't serve one of the services.
    """
    timeouts = Timeouts(config.body_timeout_seconds, config.call_timeout_seconds)
    gateway = Gateway(services, timeouts, config.max_requests)
    async with open_channel(config.grpc_address) as channel:
        gateway.connect(channel)
        async with serving(gateway.handle, config.max_body_bytes, CLOSING_SECONDS) as server:
            yield gateway, server


async def run_gateway(
    config: GatewayConfig,
    http_address: tuple[str, int],
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
    *,
    reuse_port: bool = False,
    services: Sequence[ServiceDescriptor] = SERVICES,
) -> None:
    """Serve until `stop` is set, then drain. Raises OSError where the address can't be had, and Unsupported.

    `ready` is called once connections are accepted. Draining accepts no more of them, gives the requests under way
    `drain_seconds` to end, and cancels what is left.
    """
    async with AsyncExitStack() as stack:
        gateway, server = await stack.enter_async_context(open_gateway(config, services))
        listener = await listen(server, *http_address, most=config.max_connections, reuse_port=reuse_port)
        stack.callback(listener.close)
        await stack.enter_async_context(sampling([(HTTP_CONNECTIONS.labels(), lambda: len(server.connections))]))
        ready()
        await stop.wait()
        listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(config.drain_seconds):
                await gateway.drain()
