"""Rate limits and circuit breakers per zone and per server address, shared by all validations of a process.

Tenants choose both: a name below somebody else's zone, or name servers at somebody else's address.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic

MAX_WAIT_SECONDS = 5.0  # for a token; beyond it a query is rejected, so that waiting validations do not pile up
MAX_KEYS = 10_000  # per limit, about 2 MB

Clock = Callable[[], float]


class RateLimit:
    """Token buckets by key: `rate` tokens per second, at most `burst` at once (as the generic cell rate algorithm)."""

    def __init__(self, rate: float, burst: int, clock: Clock = monotonic) -> None:
        self._interval = 1 / rate
        self._tolerance = (burst - 1) * self._interval
        self._clock = clock
        self._arrivals: dict[Hashable, float] = {}  # key -> when its bucket is full again

    def reserve(self, key: Hashable, max_wait: float = MAX_WAIT_SECONDS) -> float | None:
        """Take a token. Returns the seconds until it is available, or None, taking none, if that exceeds `max_wait`."""
        now = self._clock()
        arrival = max(self._arrivals.get(key, now), now)
        wait = max(0.0, arrival - self._tolerance - now)
        if wait > max_wait:
            return None
        if key not in self._arrivals and len(self._arrivals) >= MAX_KEYS:
            self._evict(now)
        self._arrivals[key] = arrival + self._interval
        return wait

    def _evict(self, now: float) -> None:
        self._arrivals = {key: arrival for key, arrival in self._arrivals.items() if arrival > now}
        while len(self._arrivals) >= MAX_KEYS:
            del self._arrivals[next(iter(self._arrivals))]


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
        while len(self._circuits) >= MAX_KEYS:
            del self._circuits[next(iter(self._circuits))]
        self._circuits[key] = circuit
        circuit.failures += 1
        if circuit.failures >= self._threshold:
            circuit.open_until = self._clock() + self._open_seconds


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """The limits of all queries to authoritative servers: 20 per second and zone, 100 per second and address.

    A validation sends about 13 queries to a zone, and providers serve many zones from one address.
    """

    zone_rate: RateLimit = field(default_factory=lambda: RateLimit(20, 100))
    server_rate: RateLimit = field(default_factory=lambda: RateLimit(100, 200))
    zone_breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(3, 30))  # validations
    server_breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(5, 30))  # queries
