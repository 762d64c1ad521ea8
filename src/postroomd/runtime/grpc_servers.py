"""The gRPC servers of the service process: their options, limits, and how they are bound and stopped."""

import asyncio
from collections.abc import Sequence

from postroomd.rpc.connection_calls import Calls
from postroomd.rpc.server import Handlers, Server
from postroomd.settings import Settings
from postroomd.tls import Reloading, grpc_server_credentials

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 8 * 1024  # of a call, beyond which gRPC may reject it; always from twice as much

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Every ping is answered. For one beyond a number of strikes, gRPC would close the connection, and do that again for
    # each further ping that it has read, in quadratic time: 100 kB of pings took seconds of a core. The connection
    # guard bounds pings, as all frames without calls.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients reconnect every 30 minutes, so that calls spread to services added in the meantime.
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.max_connection_idle_ms", 120_000),  # without a call; clients reconnect with the next one
    # Floods: gRPC reads a connection's calls into memory before it asks whether anything handles them.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.http2.max_requests_per_read", 8),  # new calls that one connection adds before others get their turn
    ("grpc.server_handshake_timeout_ms", 10_000),  # until a new connection has sent its HTTP/2 settings
)


def bind(
    address: str, handlers: Handlers, settings: Settings, certificates: Reloading | None, calls: Calls | None
) -> tuple[Server, str]:
    """Return a server that is not started yet, and its HOST:PORT. Raises OSError if the address can't be bound."""
    options = (
        *_OPTIONS,
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
        # gRPC shares ports by default: a second server on this one would start, and receive half of the calls.
        ("grpc.so_reuseport", int(settings.processes > 1)),
    )
    server = Server(handlers, options, calls)
    return server, f"{address.rpartition(':')[0]}:{_bind(server, address, certificates)}"


def _bind(server: Server, address: str, certificates: Reloading | None) -> int:
    try:
        if certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, grpc_server_credentials(certificates))
    except RuntimeError:
        port = 0
    if port == 0:
        raise OSError(f"can't listen for gRPC on {address}: the address is in use, or is not one of this machine")
    return port


async def until_stopped(servers: Sequence[Server], stop: asyncio.Event) -> None:
    """Return once `stop` is set. Raises RuntimeError if a server ends by itself, rather than run without it."""
    stopped = asyncio.create_task(stop.wait())
    ended = [asyncio.create_task(server.wait_for_termination()) for server in servers]
    await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()  # but none of `ended`: that would cancel what the server's own stop waits for
    if not stop.is_set():
        raise RuntimeError("a gRPC server has ended by itself")


async def stop_servers(servers: Sequence[Server], drain_seconds: float) -> None:
    """Stop servers at once, giving their calls `drain_seconds` to finish."""
    await asyncio.gather(*(server.stop(drain_seconds) for server in servers))
