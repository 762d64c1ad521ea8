"""Rate limits and circuit breakers per zone and per server address, shared by all validations of a process.

Tenants choose both: a name below somebody else's zone, or name servers at somebody else's address. Rates protect the
servers, and count the queries of all organizations together. Circuits are separate for each organization: a server that
answers for one's zone may be silent about names that another has made up.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from time import monotonic

from postroomd.dns.parsing import Turns
from postroomd.fair_queue import FairQueue
from postroomd.token_buckets import Clock, TokenBuckets

MAX_WAIT_SECONDS = 5.0  # for a token; beyond it a query is rejected, so that waiting validations do not pile up
MAX_CIRCUITS = 10_000  # of one kind, about 2 MB


class RateLimit:
    """Tokens by key: `rate` per second, at most `burst` at once.

    Organizations that wait for a token of one key take turns, so that none can use it up.
    """

    def __init__(self, rate: float, burst: int, clock: Clock = monotonic) -> None:
        self._buckets = TokenBuckets(rate, burst, clock)
        self._queues: dict[Hashable, FairQueue[asyncio.Future[None]]] = {}  # keys that organizations wait for

    def try_take(self, key: Hashable) -> bool:
        """Take a token if one is available and nobody waits for it."""
        return key not in self._queues and not self._buckets.take(key)

    async def take(self, key: Hashable, organization_id: str, max_wait: float = MAX_WAIT_SECONDS) -> bool:
        """Wait for an organization's turn to take a token. False, taking none, if that exceeds `max_wait` seconds."""
        if self.try_take(key):
            return True
        queue = self._queues.get(key, FairQueue())
        wait = self._buckets.seconds_until_token(key)
        if wait + queue.ahead_of(organization_id, 0, 1) / self._buckets.rate > max_wait:
            return False
        if key not in self._queues:
            self._queues[key] = queue
            asyncio.get_running_loop().call_later(wait, self._serve, key)
        turn = asyncio.get_running_loop().create_future()
        queue.push(organization_id, turn)
        try:
            await turn
        except asyncio.CancelledError:
            queue.discard(organization_id, lambda waiting: waiting is turn)
            raise
        return True

    def _serve(self, key: Hashable) -> None:
        """Give the available tokens of a key to those whose turn it is, and do so again while others wait."""
        queue = self._queues[key]
        while len(queue) and not (wait := self._buckets.seconds_until_token(key)):
            organization_id, turn = queue.pop()
            queue.finish(organization_id)
            if not turn.done():
                self._buckets.take(key)
                turn.set_result(None)
        if len(queue):
            asyncio.get_running_loop().call_later(wait, self._serve, key)
        else:
            del self._queues[key]


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    open_until: float = 0.0


class CircuitBreaker:
    """Circuits by key: open for `open_seconds` after `threshold` consecutive failures, and after each further one."""

    def __init__(self, threshold: int, open_seconds: float, clock: Clock = monotonic) -> None:
        self._threshold = threshold
        self._open_seconds = open_seconds
        self._clock = clock
        self._circuits: dict[Hashable, _Circuit] = {}

    def is_open(self, key: Hashable) -> bool:
        """Return whether a key must not be tried now."""
        circuit = self._circuits.get(key)
        return circuit is not None and self._clock() < circuit.open_until

    def succeeded(self, key: Hashable) -> None:
        """Close the circuit of a key."""
        self._circuits.pop(key, None)

    def failed(self, key: Hashable) -> None:
        """Count a failure."""
        circuit = self._circuits.pop(key, None) or _Circuit()
        while len(self._circuits) >= MAX_CIRCUITS:
            del self._circuits[next(iter(self._circuits))]
        self._circuits[key] = circuit
        circuit.failures += 1
        if circuit.failures >= self._threshold:
            circuit.open_until = self._clock() + self._open_seconds


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The limits of all queries: per second, 20 to a zone, 100 to a server, and 100 to resolvers about one domain.

    A validation sends about 13 queries to a zone, and providers serve many zones from one address. The keys of circuits
    are organization ids with zones or addresses. The names that resolvers are asked about are chosen by tenants too, in
    their delegations: made-up ones reach the servers of their domain past the resolver's cache (CVE-2020-12662). All
    responses are parsed in the turns of `parsing`.
    """

    zone_rate: RateLimit = field(default_factory=lambda: RateLimit(20, 100))
    server_rate: RateLimit = field(default_factory=lambda: RateLimit(100, 200))
    resolver_rate: RateLimit = field(default_factory=lambda: RateLimit(100, 200))
    zone_breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(3, 30))  # validations
    server_breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(5, 30))  # queries
    parsing: Turns = field(default_factory=Turns)
