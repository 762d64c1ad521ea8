"""Token buckets by key, such as API keys or server addresses, as the generic cell rate algorithm.

Of a bucket only the moment when it is full again is kept. They are in the memory of this process.
"""

from collections.abc import Callable, Hashable
from time import monotonic

MAX_BUCKETS = 10_000
"""Buckets that may not be full, about 2 MB. Beyond these the full ones are forgotten, then the oldest ones."""
ROUNDING = 1e-3  # of a token: moments are floating-point numbers

Clock = Callable[[], float]


class TokenBuckets:
    """One bucket for each key: it starts with `capacity` tokens, its most, and gains `rate` tokens per second."""

    def __init__(self, rate: float, capacity: int, clock: Clock = monotonic) -> None:
        self.rate = rate
        self.capacity = capacity
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}  # absent if it is full now

    def __len__(self) -> int:
        """Return the number of buckets that may not be full."""
        return len(self._full_at)

    def take(self, key: Hashable) -> float:
        """Take a token. Returns 0.0, or if there is none, the seconds until there is one."""
        now = self._clock()
        wait = self._wait(key, now)
        if not wait:
            if key not in self._full_at and len(self._full_at) >= MAX_BUCKETS:
                self._forget(now)
            self._full_at[key] = max(self._full_at.get(key, now), now) + 1 / self.rate
        return wait

    def seconds_until_token(self, key: Hashable) -> float:
        """Return how long a bucket will have no token: 0.0 if it has one."""
        return self._wait(key, self._clock())

    def tokens(self, key: Hashable) -> int:
        """Return the number of whole tokens in a bucket."""
        return int(self._tokens(key, self._clock()) + ROUNDING)

    def _wait(self, key: Hashable, now: float) -> float:
        tokens = self._tokens(key, now)
        return 0.0 if tokens >= 1 - ROUNDING else (1 - tokens) / self.rate

    def _tokens(self, key: Hashable, now: float) -> float:
        return self.capacity - max(0.0, self._full_at.get(key, now) - now) * self.rate

    def _forget(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        while len(self._full_at) >= MAX_BUCKETS:
            del self._full_at[next(iter(self._full_at))]
