"""Rate limits: token buckets by API key and by organization, kept in the memory of this process.

A bucket holds as many tokens as the limit is calls per second, is refilled at that rate, and starts full. Each process
has buckets of its own: with several, a caller gets up to the limit from each.
"""

from time import monotonic
from typing import NamedTuple

from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CALLS_REFUSED
from postroomd.rpc.authentication import Caller
from postroomd.token_buckets import Clock, TokenBuckets

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


class RateLimits:
    """The limits of calls per second for each key and for each organization; 0 is no limit."""

    def __init__(self, key_limit: int, organization_limit: int, clock: Clock = monotonic) -> None:
        self._keys = TokenBuckets(key_limit, key_limit, clock) if key_limit else None
        self._organizations = (
            TokenBuckets(organization_limit, organization_limit, clock) if organization_limit else None
        )
        self._rejected = RateLimitedWarning("calls rejected", CALLS_REFUSED.labels("rate_limit"), kind="rate_limit")

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self._keys is not None or self._organizations is not None)

    def take(self, caller: Caller) -> Taken:
        """Count a call against the limits of its key and of its organization. Returns the stricter outcome."""
        outcomes = []
        if self._keys is not None:
            outcomes.append(_take(self._keys, caller.key_id))
        if self._organizations is not None and not any(outcome.retry_after_seconds for outcome in outcomes):
            outcomes.append(_take(self._organizations, caller.organization_id))
        strictest = min(outcomes, key=lambda outcome: (-outcome.retry_after_seconds, outcome.remaining))
        if strictest.retry_after_seconds:
            self._rejected.record()
        return strictest


def _buckets(limit: int, clock: Clock) -> TokenBuckets | None:
    return TokenBuckets(limit, limit, clock) if limit else None


def _take(buckets: TokenBuckets, name: str) -> Taken:
    wait = buckets.take(name)
    return Taken(buckets.capacity, 0 if wait else buckets.tokens(name), wait)


NO_RATE_LIMITS = RateLimits(0, 0)
