"""The calls of each gRPC connection: what explains the bytes that it has received.

The server counts a call when it begins, and the boundary adds the size of its message. Nothing here limits anything:
see `connection_guard`.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from postroomd.rpc.client_address import Endpoint, Metadata, endpoint_of

CALL_BYTES = 1_024
"""Bytes of an ordinary call: headers, message, frames, TLS records, and window updates for its response."""
CALL_IN_PROGRESS_BYTES = 32 * 1_024
"""Bytes of the message that a call in progress may be receiving: twice a batch of 100 mailboxes."""


class ConnectionCalls:
    """The calls of one connection: those in progress, the number of all, and the bytes of large ones.

    `is_measured`: metadata counts as well. `is_verified`: a call with a valid key was made since then.
    """

    __slots__ = ("endpoint", "in_progress", "is_measured", "is_missing", "is_verified", "large_bytes", "started")

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.endpoint = endpoint
        self.in_progress: set[asyncio.Task[None]] = set()
        self.started = 0
        self.large_bytes = 0
        self.is_measured = self.is_verified = False
        self.is_missing = False  # among the open connections, when these were last told

    @property
    def explained_bytes(self) -> int:
        """The bytes that the calls so far explain."""
        return self.started * CALL_BYTES + self.large_bytes

    @property
    def expected_bytes(self) -> int:
        """Further bytes that the calls in progress may have received."""
        return len(self.in_progress) * CALL_IN_PROGRESS_BYTES


class Calls:
    """The calls by connection, which gRPC names by its peer, such as `ipv4:192.0.2.1:50000`.

    `is_measuring`: the calls of at least one connection are measured.
    """

    def __init__(self) -> None:
        self.is_measuring = False
        self._by_peer: dict[str, ConnectionCalls] = {}
        self._by_endpoint: dict[Endpoint, ConnectionCalls] = {}

    def of(self, peer: str) -> ConnectionCalls:
        """Return the calls of a connection."""
        calls = self._by_peer.get(peer)
        if calls is None:
            calls = self._by_peer[peer] = ConnectionCalls(endpoint_of(peer))
            if calls.endpoint is not None:
                self._by_endpoint[calls.endpoint] = calls
        return calls

    def at(self, endpoint: Endpoint) -> ConnectionCalls | None:
        """Return the calls of a connection by its other end, None if there were none."""
        return self._by_endpoint.get(endpoint)

    def received(self, context: Any, metadata: Metadata, message: bytes) -> None:
        """Count the message of a call if it is large, and the metadata if the connection is measured."""
        if self.is_measuring or len(message) > CALL_BYTES:
            calls = self.of(context.peer())
            calls.large_bytes += len(message)
            if calls.is_measured:
                calls.large_bytes += sum(len(name) + len(value) for name, value in metadata)

    def verified(self, context: Any) -> None:
        """Note that a call had a valid key, if the connection is measured."""
        if self.is_measuring:
            calls = self.of(context.peer())
            calls.is_verified = calls.is_measured

    def forget_closed(self, open_endpoints: Collection[Endpoint]) -> None:
        """Remove connections without calls in progress that were not open twice, of those that have such an end.

        Twice: a connection may have begun calls after the open ones were collected.
        """
        for peer, calls in list(self._by_peer.items()):
            is_missing = calls.endpoint not in open_endpoints
            if is_missing and calls.is_missing and not calls.in_progress:
                del self._by_peer[peer]
                if calls.endpoint is not None:
                    del self._by_endpoint[calls.endpoint]
            calls.is_missing = is_missing
