"""The gateway process: composes the REST gateway and runs it until it is stopped."""

import asyncio
from collections.abc import Callable

from postroomd.clock import Clock
from postroomd.gateway.app import GatewayConfig, run_gateway
from postroomd.net import join_address, split_address, split_list
from postroomd.runtime.errors import FatalError, listen_error
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
    addresses = [split_address(settings.http_address)]
    if settings.autoconfig_address is not None:
        if config.gateway_secret is None:
            raise FatalError(
                "--autoconfig-address: needs --gateway-secret, by which the service recognizes the gateway"
            )
        require_secure(settings, "--autoconfig-address", settings.autoconfig_address, None)
        addresses.append(split_address(settings.autoconfig_address))

    def on_ready(*ports: int) -> None:
        ready(*(join_address(host, port) for (host, _), port in zip(addresses, ports, strict=True)))

    try:
        async with tracing(settings, "gateway") as tracer:
            await run_gateway(
                config,
                addresses[0],
                stop,
                on_ready,
                autoconfig_address=addresses[1] if len(addresses) > 1 else None,
                reuse_port=settings.processes > 1,
                tracer=tracer,
            )
    except OSError as error:
        raise listen_error("HTTP", " or ".join(join_address(*address) for address in addresses), error) from error
