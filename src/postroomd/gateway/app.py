"""The gateway's application, and its life from the first connection to the last."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor

from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.gateway.channel import open_channel
from postroomd.gateway.endpoints import Timeouts
from postroomd.gateway.handler import Gateway, expect
from postroomd.gateway.http_server import listen

SERVICES: Sequence[ServiceDescriptor] = tuple(mailbox_service_pb2.DESCRIPTOR.services_by_name.values())
GATEWAY = web.AppKey("gateway", Gateway)


@dataclass(frozen=True)
class GatewayConfig:
    """Where the service is, and what is asked of it and of clients at most."""

    grpc_address: str
    max_body_bytes: int = 1_048_576
    body_timeout_seconds: float = 30.0
    call_timeout_seconds: float = 30.0
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.max_body_bytes < 1:  # to aiohttp, 0 is no limit at all
            raise ValueError("max_body_bytes must be at least 1")
        for name in ("body_timeout_seconds", "call_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")


def create_app(config: GatewayConfig, services: Sequence[ServiceDescriptor] = SERVICES) -> web.Application:
    """Compile the services' routes into an application. Raises Unsupported where it can't serve one of them.

    The application opens its channel as it starts and closes it after its last request.
    """
    gateway = Gateway(services, Timeouts(config.body_timeout_seconds, config.call_timeout_seconds))
    app = web.Application(client_max_size=config.max_body_bytes, middlewares=[gateway.enter])
    app[GATEWAY] = gateway
    app.router.add_route("*", "/{path:.*}", gateway.handle, expect_handler=expect)

    async def connection(_: web.Application) -> AsyncIterator[None]:
        async with open_channel(config.grpc_address) as channel:
            gateway.connect(channel)
            yield

    app.cleanup_ctx.append(connection)
    return app


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
    app = create_app(config, services)
    # The time for what is under way is spent before aiohttp's own shutdown, which would read no more of a body.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None  # noqa: S101 - setup has made it
        listener = await listen(runner.server, *http_address, reuse_port=reuse_port)
        stack.callback(listener.close)
        ready()
        await stop.wait()
        listener.close()
        await _drain(app[GATEWAY], config.drain_seconds)


async def _drain(gateway: Gateway, seconds: float) -> None:
    gateway.draining = True
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await gateway.idle.wait()
