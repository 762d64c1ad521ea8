"""gRPC connections from the gateway to the service."""

import asyncio
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, TypeVar

import grpc

Stub = TypeVar("Stub")

CLIENT_ADDRESS = "x-client-address"
GATEWAY_SECRET = "x-gateway-secret"  # noqa: S105 # the name of a metadata entry

PREFERRED_CALLS = 16
"""Concurrent calls on a connection before the next one is used. Calls that share a connection share system calls:
32 on one connection take 5 % less processor time than on four. A service of several processes has a connection each."""

MAX_DETAILS_BYTES = 1024 * 1024

# Reconnect within 3 s of the service's return: by default gRPC backs off up to 120 s between attempts and allows 20 s
# for each. Here an attempt and the backoff after it take at most 1 s each. Calls in between fail immediately.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # despite its name, the timeout of one connection attempt
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Detect a peer that vanished without closing. The service must permit this ping interval, or it sends GOAWAY.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # Error details are metadata, which gRPC limits to 8 KiB by default; the violations of a batch can exceed that.
    ("grpc.max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_DETAILS_BYTES),
    ("grpc.enable_http_proxy", 0),  # the service is never behind the proxy that http_proxy names
)


class ServiceChannel:
    """Several connections to the service: each call on the first with few calls in progress, or with the fewest.

    The service limits the concurrent calls of a connection (`--max-streams`); a further call would wait in the client,
    behind calls that may take long. Taking turns would not prevent that: slow calls could meet on one connection.
    """

    def __init__(self, address: str, connections: int, preferred_calls: int, gateway_secret: str | None) -> None:
        # Without a pool of its own, each channel would share the one connection that an address has.
        options = (*_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        self.connections = [
            _Connection(grpc.aio.insecure_channel(address, options=options)) for _ in range(connections)
        ]
        self._preferred_calls = preferred_calls
        self._secret = ((GATEWAY_SECRET, gateway_secret),) if gateway_secret else ()

    async def __aenter__(self) -> "ServiceChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(connection.channel.close() for connection in self.connections))

    def client_metadata(self, address: str) -> tuple[tuple[str, str], ...]:
        """Return the metadata that tells the service a client's address: none without a secret, on which it insists."""
        return ((CLIENT_ADDRESS, address), *self._secret) if self._secret else ()

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
    ) -> Callable[..., "grpc.aio.UnaryUnaryCall[Any, Any]"]:
        """Return the function that calls a method; its arguments are those of grpc.aio."""
        preferred_calls = self._preferred_calls
        stubs = [
            (connection, connection.channel.unary_unary(method, request_serializer, response_deserializer))
            for connection in self.connections
        ]

        def call(
            request: Any, *, timeout: float, metadata: grpc.aio.Metadata | None = None
        ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
            connection, stub = _choose(stubs, preferred_calls)
            started = stub(request, timeout=timeout, metadata=metadata)
            connection.calls += 1
            started.add_done_callback(connection.on_done)
            return started

        return call


class _Connection:
    """One channel, which has one connection, and the number of its calls in progress."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0

    def on_done(self, _call: object) -> None:
        self.calls -= 1


def _choose(stubs: Sequence[tuple[_Connection, Stub]], preferred_calls: int) -> tuple[_Connection, Stub]:
    """Return the first connection with fewer calls in progress than preferred, else that with the fewest."""
    for each in stubs:
        if each[0].calls < preferred_calls:
            return each
    return min(stubs, key=_calls_in_progress)


def _calls_in_progress(stub: tuple[_Connection, object]) -> int:
    return stub[0].calls


def open_channel(
    address: str, *, max_calls: int = 256, max_streams: int = 100, gateway_secret: str | None = None
) -> ServiceChannel:
    """Open connections for `max_calls` concurrent calls, which connect and reconnect by themselves.

    The service allows `max_streams` calls per connection. One more connection leaves room for health checks, and for
    calls that the service has not yet finished. With a `gateway_secret` the service believes the client addresses that
    calls carry. Requires a running event loop.
    """
    connections = ceil(max_calls / max_streams) + 1
    return ServiceChannel(address, connections, min(PREFERRED_CALLS, max_streams), gateway_secret)
