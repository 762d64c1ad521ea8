"""Configuration and life cycle of the gateway: start, serve, drain, stop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aiohttp import web
from google.protobuf.descriptor import ServiceDescriptor

from postroom.v1alpha1 import mailbox_service_pb2
from postroomd.gateway.autoconfiguration import MAX_BODY_BYTES, MAX_REQUESTS, autoconfiguration_endpoints
from postroomd.gateway.body import BodyLimits
from postroomd.gateway.channel import ChannelSecurity, ServiceChannel, open_channel
from postroomd.gateway.connection_table import ConnectionLimits, ConnectionTable
from postroomd.gateway.endpoints import EndpointOptions
from postroomd.gateway.handler import Gateway, api_endpoints
from postroomd.gateway.http_server import listen, open_server
from postroomd.observability.metrics import HTTP_CONNECTIONS, sampling
from postroomd.tls import PemFiles, Reloading, http_context

if TYPE_CHECKING:
    from postroomd.observability.tracing import Tracer

SERVICES: Sequence[ServiceDescriptor] = tuple(mailbox_service_pb2.DESCRIPTOR.services_by_name.values())
# Time for open connections to close after the drain. The drain comes first: aiohttp stops reading bodies at this point.
SHUTDOWN_SECONDS = 0.5
BODY_GRACE_SECONDS = 5.0
"""Time before the minimum rate of a body applies."""


@dataclass(frozen=True)
class GatewayConfig:
    """Address of the gRPC service, and the limits on clients."""

    grpc_address: str
    max_body_bytes: int = 1_048_576
    max_requests: int = 128
    max_streams: int = 100
    gateway_secret: str | None = field(default=None, repr=False)
    tls: PemFiles | None = None
    """Certificate and key of HTTPS, and the authorities of client certificates; None: plain HTTP."""
    grpc_tls: PemFiles | None = None
    """Authorities of the service's certificate, and the gateway's own certificate; None: plain text."""
    grpc_tls_server_name: str | None = None
    max_connections: int = 1_000
    max_connections_per_address: int = 0  # 0: no limit
    header_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 75.0
    body_timeout_seconds: float = 30.0
    min_body_rate: int = 1_024  # bytes per second
    write_timeout_seconds: float = 30.0
    call_timeout_seconds: float = 30.0
    rejection_delay_seconds: float = 0.5
    drain_seconds: float = 10.0
    cors_origins: Collection[str] = ()
    trusted_proxies: Collection[str] = ()  # networks in CIDR notation

    def __post_init__(self) -> None:
        if self.max_body_bytes < 1:  # aiohttp reads 0 as unlimited
            raise ValueError("max_body_bytes must be at least 1")
        for timeout in ("header", "idle", "body", "write", "call"):
            name = f"{timeout}_timeout_seconds"
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.min_body_rate < 1:
            raise ValueError("min_body_rate must be at least 1")

    @property
    def endpoint_options(self) -> EndpointOptions:
        """Options of the endpoints."""
        body = BodyLimits(self.body_timeout_seconds, self.min_body_rate, BODY_GRACE_SECONDS)
        return EndpointOptions(self.call_timeout_seconds, self.rejection_delay_seconds, body)

    @property
    def connection_limits(self) -> ConnectionLimits:
        """Limits of the connections."""
        return ConnectionLimits(
            max_connections=self.max_connections,
            max_connections_per_address=self.max_connections_per_address,
            header_timeout_seconds=self.header_timeout_seconds,
            idle_timeout_seconds=self.idle_timeout_seconds,
            write_timeout_seconds=self.write_timeout_seconds,
            trusted_proxies=self.trusted_proxies,
        )


def open_gateway(
    config: GatewayConfig, services: Sequence[ServiceDescriptor] = SERVICES, tracer: "Tracer | None" = None
) -> AbstractAsyncContextManager[tuple[Gateway, web.Server]]:
    """Compile the routes of `services`, open the gRPC channel and create the HTTP server, without listening yet.

    On exit, the remaining requests are answered or cancelled before the channel is closed. Raises UnsupportedContract
    and CertificateError.
    """
    endpoints = api_endpoints(services, config.endpoint_options, config.max_requests, traced=tracer is not None)
    gateway = Gateway(endpoints, config.cors_origins, tracer)
    return _opened(gateway, gateway.handle if tracer is None else gateway.handle_traced, config)


def open_autoconfiguration(config: GatewayConfig) -> AbstractAsyncContextManager[tuple[Gateway, web.Server]]:
    """Open what `open_gateway` opens, for the documents that mail clients configure themselves from.

    Its requests have connections, slots and a channel of their own, since anyone can send them.
    """
    gateway = Gateway(autoconfiguration_endpoints(config.endpoint_options))
    return _opened(gateway, gateway.handle, replace(config, max_requests=MAX_REQUESTS, max_body_bytes=MAX_BODY_BYTES))


@asynccontextmanager
async def _opened(
    gateway: Gateway, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], config: GatewayConfig
) -> AsyncIterator[tuple[Gateway, web.Server]]:
    async with _open_channels(config) as channel:
        gateway.connect(channel)
        async with open_server(handle, config.max_body_bytes, SHUTDOWN_SECONDS) as server:
            yield gateway, server


@asynccontextmanager
async def _open_channels(config: GatewayConfig) -> AsyncIterator[ServiceChannel]:
    """Open the connections to the service. Raises CertificateError."""
    async with AsyncExitStack() as stack:
        security = None
        if config.grpc_tls is not None:
            certificates = await asyncio.to_thread(Reloading, config.grpc_tls, "grpc-client")
            security = ChannelSecurity(certificates, config.grpc_tls_server_name)
        channel = await stack.enter_async_context(
            open_channel(
                config.grpc_address,
                max_calls=2 * config.max_requests,  # reads, and changes
                max_streams=config.max_streams,
                gateway_secret=config.gateway_secret,
                security=security,
            )
        )
        if security is not None:
            await stack.enter_async_context(security.certificates.watching())
        yield channel


async def run_gateway(
    config: GatewayConfig,
    http_address: tuple[str, int],
    stop: asyncio.Event,
    ready: Callable[..., None] = lambda *_ports: None,
    *,
    autoconfig_address: tuple[str, int] | None = None,
    reuse_port: bool = False,
    services: Sequence[ServiceDescriptor] = SERVICES,
    tracer: "Tracer | None" = None,
) -> None:
    """Serve until `stop` is set, then drain.

    Raises OSError if the address is not available, CertificateError and UnsupportedContract.

    `ready` is called with the ports once connections are accepted; port 0 selects a free one. The drain closes the
    listeners, waits up to `drain_seconds` for requests in progress, and cancels the rest. Documents for mail clients
    are served at `autoconfig_address`, in plain HTTP: a proxy in front holds the certificates of the domains.
    """
    async with AsyncExitStack() as stack:
        tls = None
        if config.tls is not None:
            certificates = await asyncio.to_thread(Reloading, config.tls, "http")
            await stack.enter_async_context(certificates.watching())
            tls = http_context(certificates)
        gateways, listeners, tables = [], [], []
        for opened, address, context in (
            (open_gateway(config, services, tracer), http_address, tls),
            (open_autoconfiguration(config), autoconfig_address, None),
        ):
            if address is None:
                continue
            gateway, server = await stack.enter_async_context(opened)
            table = ConnectionTable(config.connection_limits)
            listener = await listen(server, table, *address, tls=context, reuse_port=reuse_port)
            stack.callback(listener.close)
            gateways.append(gateway)
            listeners.append(listener)
            tables.append(table)
        await stack.enter_async_context(sampling([(HTTP_CONNECTIONS.labels(), lambda: sum(map(len, tables)))]))
        ready(*(listener.sockets[0].getsockname()[1] for listener in listeners))
        await stop.wait()
        for listener in listeners:
            listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(config.drain_seconds):
                await asyncio.gather(*(gateway.drain() for gateway in gateways))
