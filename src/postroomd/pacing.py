"""Pacing of clients that repeat failing calls at once: which of their calls are answered late, and how late.

A failing call costs about as much as a read. Clients that are answered together call again together, and so keep the
event loop busy for as long as all of their calls take: late answers are therefore given one after the other.
"""

from random import uniform
from time import monotonic

from postroomd.token_buckets import TokenBuckets

ANSWERS_PER_SECOND = 200
"""Late answers of a process: what they cost then is about a quarter of a core."""
MAX_DELAY_SECONDS = 5.0
UNAUTHENTICATED_PER_SECOND = 20
"""Calls with invalid keys that are answered at once; further ones are answered late."""
UNAUTHENTICATED_BURST = 20


class LateAnswers:
    """When failing calls are answered: each after `seconds`, or later if many wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._max_seconds = max(seconds, MAX_DELAY_SECONDS)
        self._unauthenticated = TokenBuckets(UNAUTHENTICATED_PER_SECOND, UNAUTHENTICATED_BURST)
        self._last = 0.0  # when the last one is due

    def delay(self, *, unauthenticated: bool, limit: float | None = None) -> float:
        """Return how many seconds an answer waits, at most `limit`: 0 if it is given at once."""
        if unauthenticated and not self._unauthenticated.take("all"):
            return 0.0
        limit = self._max_seconds if limit is None else min(limit, self._max_seconds)
        now = monotonic()
        due = max(now + self._seconds, self._last + 1 / ANSWERS_PER_SECOND)
        if due > now + limit:
            return limit * uniform(0.5, 1.0)  # noqa: S311 - not a secret
        self._last = due
        return due - now
