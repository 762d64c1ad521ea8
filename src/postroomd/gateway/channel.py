"""gRPC connections from the gateway to the service."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import grpc

from postroomd.tls import Reloading

CLIENT_ADDRESS = "x-client-address"
GATEWAY_SECRET = "x-gateway-secret"  # noqa: S105 # the name of a metadata entry

PREFERRED_CALLS = 16
"""Concurrent calls on a connection before the next one is used. Calls that share a connection share system calls:
32 on one connection take 5 % less processor time than on four. A service of several processes has a connection each."""


MAX_DETAILS_BYTES = 1024 * 1024
REPLACED_SECONDS = 60.0
"""Time for calls to finish on a connection that was replaced."""

# Reconnect within 3 s of the service's return: by default gRPC backs off up to 120 s between attempts and allows 20 s
# for each. Here an attempt and the backoff after it take at most 1 s each. Calls in between fail immediately.
Options = tuple[tuple[str, int | str], ...]

_OPTIONS: Options = (
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


@dataclass(frozen=True, slots=True)
class ChannelSecurity:
    """TLS of the connections: certificates that follow their files, and the name to expect in the service's."""

    certificates: Reloading
    server_name: str | None = None

    def open(self, address: str, options: Options) -> grpc.aio.Channel:
        """Open a connection with the current certificates."""
        current = self.certificates.current
        if self.server_name is not None:
            options = (*options, ("grpc.ssl_target_name_override", self.server_name))
        credentials = grpc.ssl_channel_credentials(current.ca, current.key, current.cert)
        return grpc.aio.secure_channel(address, credentials, options=options)


class ServiceChannel:
    """Several connections to the service: each call on the first with few calls in progress, or with the fewest.

    The service limits the concurrent calls of a connection (`--max-streams`); a further call would wait in the client,
    behind calls that may take long. Taking turns would not prevent that: slow calls could meet on one connection.
    """

    def __init__(
        self,
        address: str,
        connections: int,
        preferred_calls: int,
        gateway_secret: str | None,
        security: ChannelSecurity | None = None,
    ) -> None:
        self._address = address
        self._security = security
        self._preferred_calls = preferred_calls
        self._secret = ((GATEWAY_SECRET, gateway_secret),) if gateway_secret else ()
        self._stubs: list[_Stubs] = []
        self._closing: set[asyncio.Task[None]] = set()
        self.connections = [self._open() for _ in range(connections)]
        if security is not None:
            security.certificates.add_listener(self._reconnect)

    async def __aenter__(self) -> "ServiceChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(connection.channel.close() for connection in self.connections))

    def _open(self) -> "_Connection":
        # Without a pool of its own, each channel would share the one connection that an address has.
        options = (*_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        if self._security is not None:
            return _Connection(self._security.open(self._address, options))
        return _Connection(grpc.aio.insecure_channel(self._address, options=options))

    def _reconnect(self, _certificates: object) -> None:
        """Replace the connections by new ones with renewed certificates. Calls in progress finish on the old ones."""
        for connection in self.connections:
            task = asyncio.create_task(connection.channel.close(REPLACED_SECONDS))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self.connections = [self._open() for _ in self.connections]
        for stubs in self._stubs:
            stubs.create(self.connections)

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
        created = _Stubs(method, request_serializer, response_deserializer)
        created.create(self.connections)
        self._stubs.append(created)
        stubs, preferred_calls = created.stubs, self._preferred_calls

        def call(
            request: Any,
            *,
            timeout: float,
            metadata: grpc.aio.Metadata | None = None,
            wait_for_ready: bool | None = None,
        ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
            connection, stub = _choose(stubs, preferred_calls)
            started: grpc.aio.UnaryUnaryCall[Any, Any] = stub(
                request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready
            )
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


class _Stubs:
    """The callables of one method, one per connection: the same list after the connections are replaced."""

    def __init__(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None,
        response_deserializer: Callable[[bytes], Any] | None,
    ) -> None:
        self._arguments = (method, request_serializer, response_deserializer)
        self.stubs: list[tuple[_Connection, Any]] = []

    def create(self, connections: Iterable[_Connection]) -> None:
        """Replace the callables by those of the connections."""
        self.stubs[:] = [(connection, connection.channel.unary_unary(*self._arguments)) for connection in connections]


def _choose(stubs: Sequence[tuple[_Connection, Any]], preferred_calls: int) -> tuple[_Connection, Any]:
    """Return the first connection with fewer calls in progress than preferred, else that with the fewest."""
    for each in stubs:
        if each[0].calls < preferred_calls:
            return each
    return min(stubs, key=_calls_in_progress)


def _calls_in_progress(stub: tuple[_Connection, object]) -> int:
    return stub[0].calls


def open_channel(
    address: str,
    *,
    max_calls: int = 256,
    max_streams: int = 100,
    gateway_secret: str | None = None,
    security: ChannelSecurity | None = None,
) -> ServiceChannel:
    """Open connections for `max_calls` concurrent calls, which connect and reconnect by themselves.

    The service allows `max_streams` calls per connection. One more connection leaves room for health checks, and for
    calls that the service has not yet finished. With a `gateway_secret` the service believes the client addresses that
    calls carry. `security` is TLS; None: plain text. Requires a running event loop.
    """
    connections = ceil(max_calls / max_streams) + 1
    return ServiceChannel(address, connections, min(PREFERRED_CALLS, max_streams), gateway_secret, security)
