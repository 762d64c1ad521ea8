"""Rate limits: token buckets by API key and by organization, kept in the memory of this process.

A bucket holds as many tokens as the limit is calls per second, is refilled at that rate, and starts full. Each process
has buckets of its own: with several, a caller gets up to the limit from each.
"""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CALLS_REFUSED
from postroomd.rpc.authentication import Caller

MAX_BUCKETS = 10_000  # beyond these, full ones are forgotten
ROUNDING = 1e-3  # of a token: instants are floating-point numbers

Trailing = tuple[tuple[str, str], ...]


class Taken(NamedTuple):
    """The outcome of one call: what remains, and the delay until a call is allowed again, 0 for an allowed call."""

    limit: int
    remaining: int
    retry_after_seconds: float

    @property
    def trailing(self) -> Trailing:
        """The trailing metadata, which the gateway copies to the response. A bucket is full again after one second."""
        return (
            ("x-ratelimit-limit", f"{self.limit}, {self.limit};w=1"),
            ("x-ratelimit-remaining", str(self.remaining)),
            ("x-ratelimit-reset", "1"),
        )


class TokenBuckets:
    """One bucket for each name, of `limit` tokens."""

    def __init__(self, limit: int, clock: Callable[[], float] = monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._full_at: dict[str, float] = {}  # when a bucket is full again, by name; absent if it is full now

    def __len__(self) -> int:
        """Return the number of buckets that may not be full."""
        return len(self._full_at)

    def take(self, name: str) -> Taken:
        """Take a token if there is one."""
        now = self._clock()
        missing = max(0.0, self._full_at.get(name, now) - now) * self.limit
        if missing > self.limit - 1 + ROUNDING:
            return Taken(self.limit, 0, (missing + 1 - self.limit) / self.limit)
        if name not in self._full_at and len(self._full_at) >= MAX_BUCKETS:
            self._forget_full(now)
        self._full_at[name] = now + (missing + 1) / self.limit
        return Taken(self.limit, int(self.limit - missing - 1 + ROUNDING), 0.0)

    def _forget_full(self, now: float) -> None:
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}


class RateLimits:
    """The limits of calls per second for each key and for each organization; 0 is no limit."""

    def __init__(self, key_limit: int, organization_limit: int, clock: Callable[[], float] = monotonic) -> None:
        self._keys = TokenBuckets(key_limit, clock) if key_limit else None
        self._organizations = TokenBuckets(organization_limit, clock) if organization_limit else None
        self._rejected = RateLimitedWarning("calls rejected", CALLS_REFUSED.labels("rate_limit"), kind="rate_limit")

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self._keys is not None or self._organizations is not None)

    def take(self, caller: Caller) -> Taken:
        """Count a call against the limits of its key and of its organization. Returns the stricter outcome."""
        outcomes = []
        if self._keys is not None:
            outcomes.append(self._keys.take(caller.key_id))
        if self._organizations is not None and not any(outcome.retry_after_seconds for outcome in outcomes):
            outcomes.append(self._organizations.take(caller.organization_id))
        strictest = min(outcomes, key=lambda outcome: (-outcome.retry_after_seconds, outcome.remaining))
        if strictest.retry_after_seconds:
            self._rejected.record()
        return strictest


NO_RATE_LIMITS = RateLimits(0, 0)
