"""The gateway process: composes the REST gateway and runs it until it is stopped."""

import asyncio
from collections.abc import Callable

from postroomd.clock import Clock
from postroomd.gateway.app import GatewayConfig, run_gateway
from postroomd.net import join_address, split_address, split_list
from postroomd.runtime.errors import listen_error
from postroomd.runtime.security import channel_files, gateway_files, require_secure
from postroomd.runtime.tracing import tracing
from postroomd.settings import Settings


async def run(settings: Settings, stop: asyncio.Event, ready: Callable[..., None], _clock: Clock) -> None:
    """Serve HTTP until `stop` is set. Calls `ready` with the bound HOST:PORT.

    Raises FatalError and CertificateError.
    """
    files = gateway_files(settings)
    require_secure(settings, "--http-address", settings.http_address, files)
    config = GatewayConfig(
        grpc_address=settings.grpc_address,
        tls=files,
        grpc_tls=channel_files(settings),
        grpc_tls_server_name=settings.grpc_tls_server_name,
        max_body_bytes=settings.max_body_bytes,
        max_requests=settings.max_requests,
        max_streams=settings.max_streams,
        gateway_secret=settings.gateway_secret.get_secret_value() if settings.gateway_secret else None,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        header_timeout_seconds=settings.header_timeout_seconds,
        idle_timeout_seconds=settings.idle_timeout_seconds,
        body_timeout_seconds=settings.body_timeout_seconds,
        min_body_rate=settings.min_body_rate,
        write_timeout_seconds=settings.write_timeout_seconds,
        cors_origins=split_list(settings.cors_origins),
        trusted_proxies=split_list(settings.trusted_proxies),
        call_timeout_seconds=settings.call_timeout_seconds,
        drain_seconds=settings.drain_seconds,
    )
    host, port = split_address(settings.http_address)

    def on_ready(bound_port: int) -> None:
        ready(join_address(host, bound_port))

    try:
        async with tracing(settings, "gateway") as tracer:
            await run_gateway(config, (host, port), stop, on_ready, reuse_port=settings.processes > 1, tracer=tracer)
    except OSError as error:
        raise listen_error("HTTP", join_address(host, port), error) from error
