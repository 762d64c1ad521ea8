"""The guard of the gRPC port: bounds what a connection sends beyond its calls, and makes room for new connections.

gRPC answers PING and SETTINGS frames, reads header blocks without end, and discards streams that are reset at once, all
in its own threads and at any rate. None of these is a call that Postroom sees. The guard therefore compares the bytes
that each connection has received with those that its calls explain. What remains is limited by a token bucket, far
above what keepalive pings, window updates and TLS take.

The calls of a connection beyond it are measured from then on, with all their metadata, and the bucket is filled once
more. If it is emptied again, the connection is paused until it is full: the kernel drops what the client sends, so that
it costs nothing. It is not closed: the client would reconnect at once, and one that is paused wrongly loses nothing.

No address is blocked, since many clients may share it. But connections of an address of which one was paused lately, or
was measured and closed before it showed a valid key, get a smaller burst, are checked more often, and are paused at
once if they have made no call. Its new connections are limited by a token bucket, as each may flood until its first
check: while the bucket is empty, the kernel drops the packets that open one (SYN), which clients repeat after a second.

gRPC limits the number of connections, and closes new ones beyond it. Shortly before, the guard closes those of the
address with the most that have been without a call for the longest time.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, thread_time

from postroomd.observability.logs import RateLimitedWarning, get_logger
from postroomd.observability.metrics import GRPC_CONNECTIONS_EVICTED, GRPC_CONNECTIONS_PAUSED, GRPC_NETWORKS_LIMITED
from postroomd.rpc.client_address import client_network
from postroomd.rpc.connection_calls import Calls, ConnectionCalls
from postroomd.rpc.socket_filters import MAX_NETWORKS
from postroomd.rpc.tcp_connections import AcceptedConnections, TcpConnection

log = get_logger()

UNEXPLAINED_BYTES_PER_SECOND = 32 * 1_024
"""Two thousand pings a second. A client sends a few a minute, and some window updates a second."""
BURST_BYTES = 256 * 1_024
"""Calls that have arrived, but have not begun, are unexplained as well: 100 calls with 2 KiB each fit in."""
VERIFIED_BURST_BYTES = 4 * 1_024 * 1_024
"""Of a connection with a valid key: for 100 batches of 100 mailboxes that wait for a busy process."""
SUSPECT_BURST_BYTES = 64 * 1_024
SUSPECT_SECONDS = 600.0
SUSPECT_CONNECTIONS_PER_SECOND, SUSPECT_CONNECTIONS_BURST = 5.0, 10.0
"""Each may flood until its first check. A limit of 5 a second halves the cost of such floods; 2 saves little more."""
MAX_SUSPECT_CONNECTIONS_DEBT = 50.0
"""Of connections that were opened before the first check that saw them: the network waits for 10 seconds at most."""
MAX_PAUSE_SECONDS = 60.0
MIN_PAUSE_SECONDS = 1.0

CHECK_SECONDS, SUSPECT_CHECK_SECONDS = 0.2, 0.05
FAILURE_SECONDS = 10.0
MAX_CHECK_SHARE, MAX_CHECK_SECONDS = 0.05, 2.0  # of a core, for checks; but no longer than this between two
CONNECTIONS_PER_STEP = 100  # checked at once, before the event loop gets its turn: about 0.3 ms

RESERVED_SHARE = 0.1
"""Of the maximum number of connections, kept free for new ones by closing idle ones."""
HEAVY_SHARE = 0.25
"""An address with more than this share of the maximum also loses connections whose calls take longer than:"""
LONG_CALL_SECONDS = 60.0


@dataclass(eq=False, slots=True)
class _Watched:
    """A connection, its token bucket, and when it was last seen with a new call."""

    connection: TcpConnection
    network: str
    checked_at: float
    active_at: float
    unexplained_bytes: int = 0  # since the beginning
    debt_bytes: float = 0.0  # what the bucket lacks
    is_measured: bool = False
    paused_until: float = 0.0
    started_calls: int = 0
    has_calls: bool = False


@dataclass(eq=False, slots=True)
class _Suspect:
    """A network that has flooded lately: until when that counts, and the token bucket of its new connections.

    `tokens` is negative for connections that were opened before the bucket was seen to be empty.
    """

    until: float
    refilled_at: float
    tokens: float = SUSPECT_CONNECTIONS_BURST

    def refill(self, now: float) -> None:
        earned = SUSPECT_CONNECTIONS_PER_SECOND * (now - self.refilled_at)
        self.tokens, self.refilled_at = min(self.tokens + earned, SUSPECT_CONNECTIONS_BURST), now

    def take(self) -> None:
        self.tokens = max(self.tokens - 1, -MAX_SUSPECT_CONNECTIONS_DEBT)


class ConnectionGuard:
    """Checks the connections of this process. `max_connections` is by port."""

    def __init__(self, calls: Calls, max_connections: Mapping[int, int]) -> None:
        self._calls = calls
        self._max_connections = max_connections
        self._accepted = AcceptedConnections(max_connections)
        self._watched: dict[TcpConnection, _Watched] = {}
        self._suspects: dict[str, _Suspect] = {}  # by network
        self._limited: frozenset[str] = frozenset()  # suspect networks whose new connections are refused
        self._paused = RateLimitedWarning("connections paused", GRPC_CONNECTIONS_PAUSED.labels())
        self._evicted = RateLimitedWarning("connections closed", GRPC_CONNECTIONS_EVICTED.labels(), reason="evicted")
        self._limits = RateLimitedWarning("new connections limited", GRPC_NETWORKS_LIMITED.labels())

    @property
    def connections(self) -> int:
        """The number of open connections at the last check."""
        return len(self._watched)

    async def run(self) -> None:
        """Check again and again, until canceled."""
        try:
            while True:
                used = 0.0
                try:
                    used = await self.check(monotonic())
                except Exception:  # such as too many open files: a later check may succeed
                    log.exception("connections not checked")
                    self._accepted.refuse(frozenset())
                    await asyncio.sleep(FAILURE_SECONDS)
                seconds = SUSPECT_CHECK_SECONDS if self._suspects else CHECK_SECONDS
                await asyncio.sleep(max(seconds, min(used / MAX_CHECK_SHARE, MAX_CHECK_SECONDS)))
        finally:
            self._accepted.refuse(frozenset())

    async def check(self, now: float) -> float:
        """Check every connection once, at a time of `monotonic`. Returns the seconds of processor time that it took.

        Time does not tell: it passes in other tasks, and in other processes, above all during a flood.
        """
        begun, used = thread_time(), 0.0
        self._suspects = {network: suspect for network, suspect in self._suspects.items() if suspect.until > now}
        for suspect in self._suspects.values():
            suspect.refill(now)
        found: dict[TcpConnection, _Watched] = {}
        for number, (connection, received) in enumerate(self._accepted.scan(), 1):
            watched = self._watched.get(connection)
            if watched is None:
                watched = _Watched(connection, client_network(connection.endpoint[0]), now, now)
                if watched.network in self._suspects:
                    self._suspects[watched.network].take()
            found[connection] = watched
            self._check(watched, received, self._calls.at(connection.endpoint), now)
            if not number % CONNECTIONS_PER_STEP:
                used += thread_time() - begun
                await asyncio.sleep(0)
                begun = thread_time()
        for watched in self._watched.values():
            if watched.is_measured and watched.connection not in found:
                self._closed_early(watched, now)
        self._watched = found
        self._calls.is_measuring = any(watched.is_measured for watched in self._watched.values())
        self._calls.forget_closed({connection.endpoint for connection in self._watched})
        self._limit_suspects()
        for port, maximum in self._max_connections.items():
            self._make_room(port, maximum, now)
        return used + thread_time() - begun

    def _check(self, watched: _Watched, received: int, calls: ConnectionCalls | None, now: float) -> None:
        explained = expected = 0
        is_suspect = watched.network in self._suspects
        burst = SUSPECT_BURST_BYTES if is_suspect else BURST_BYTES
        if calls is not None:
            explained, expected = calls.explained_bytes, calls.expected_bytes
            calls.is_measured = watched.is_measured
            if calls.is_verified:
                burst = VERIFIED_BURST_BYTES
            watched.has_calls = bool(calls.in_progress)
            if calls.started != watched.started_calls:
                watched.started_calls = calls.started
                watched.active_at = now
        unexplained = received - explained
        earned = UNEXPLAINED_BYTES_PER_SECOND * (now - watched.checked_at)
        debt = watched.debt_bytes + unexplained - watched.unexplained_bytes - earned
        watched.debt_bytes, watched.unexplained_bytes, watched.checked_at = max(0.0, debt), unexplained, now
        if watched.paused_until:
            if now >= watched.paused_until:
                watched.connection.resume()
                watched.paused_until, watched.debt_bytes = 0.0, 0.0
        elif watched.debt_bytes > burst + expected:
            if watched.is_measured or (is_suspect and not watched.started_calls):
                self._pause(watched, now)
            else:
                watched.is_measured, watched.debt_bytes = True, 0.0
                self._calls.is_measuring = True
                if calls is not None:
                    calls.is_measured = True

    def _pause(self, watched: _Watched, now: float) -> None:
        seconds = min(max(MIN_PAUSE_SECONDS, watched.debt_bytes / UNEXPLAINED_BYTES_PER_SECOND), MAX_PAUSE_SECONDS)
        watched.connection.pause()
        watched.paused_until = now + seconds
        self._suspect(watched.network, now)
        self._paused.record(client_address=watched.connection.endpoint[0], seconds=round(seconds, 1))

    def _closed_early(self, watched: _Watched, now: float) -> None:
        """Suspect the network of a connection that was measured, but closed before it could be paused."""
        calls = self._calls.at(watched.connection.endpoint)
        if calls is None or not calls.is_verified:
            self._suspect(watched.network, now)

    def _suspect(self, network: str, now: float) -> None:
        self._suspects.setdefault(network, _Suspect(now, now)).until = now + SUSPECT_SECONDS

    def _limit_suspects(self) -> None:
        """Refuse new connections of the networks whose buckets are empty; if these are too many, of the worst ones."""
        tokens = {network: suspect.tokens for network, suspect in self._suspects.items() if suspect.tokens < 1}
        limited = frozenset(heapq.nsmallest(MAX_NETWORKS, tokens, key=tokens.__getitem__))
        for network in limited - self._limited:
            self._limits.record(client_address=network)
        self._limited = limited
        self._accepted.refuse(limited)

    def _make_room(self, port: int, maximum: int, now: float) -> None:
        """Close connections of a port, if there are almost as many as gRPC accepts."""
        connections = [watched for watched in self._watched.values() if watched.connection.port == port]
        excess = len(connections) - (maximum - max(1, int(maximum * RESERVED_SHARE)))
        if excess <= 0:
            return
        shares = Counter(watched.network for watched in connections)
        evictable: dict[str, list[_Watched]] = {}
        for watched in sorted(connections, key=_usefulness, reverse=True):
            is_heavy = shares[watched.network] > HEAVY_SHARE * maximum
            if not watched.has_calls or (is_heavy and now - watched.active_at > LONG_CALL_SECONDS):
                evictable.setdefault(watched.network, []).append(watched)
        for _ in range(excess):
            network = max(evictable, key=shares.__getitem__, default=None)
            if network is None:
                return
            watched = evictable[network].pop()
            if not evictable[network]:
                del evictable[network]
            shares[network] -= 1
            watched.connection.close()
            del self._watched[watched.connection]
            self._evicted.record(client_address=watched.connection.endpoint[0])


def _usefulness(watched: _Watched) -> tuple[bool, bool, float]:
    """Order connections: those that are paused first, then those without calls, each by the time of their last call."""
    return not watched.paused_until, watched.has_calls, watched.active_at
