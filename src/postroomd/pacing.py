"""Pacing of clients that repeat failing calls at once: which of their calls are answered late, and how late.

A failing call costs about as much as a read. Clients that are answered together call again together, and so keep the
event loop busy for as long as all of their calls take: answers are therefore spread, also over time without end.
"""

from random import uniform
from time import monotonic

ANSWERS_PER_SECOND = 200
"""Late answers of a process: what they cost then is about a quarter of a core."""
MAX_DELAY_SECONDS = 5.0


class Frequency:
    """Tells whether something happens more often than `per_second`, with bursts as large as that."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._due = 0.0  # a token bucket by the generic cell rate algorithm

    def is_exceeded(self) -> bool:
        """Count one occurrence, unless it is one too many. Returns whether it is."""
        now = monotonic()
        due = max(self._due, now)
        if due - now >= 1.0:
            return True
        self._due = due + self._interval
        return False


class Pace:
    """When late answers are given: one after the other, `ANSWERS_PER_SECOND`, as long as none waits for too long."""

    def __init__(self) -> None:
        self._last = 0.0  # when the last one is due

    def delay(self, seconds: float, limit: float = MAX_DELAY_SECONDS) -> float:
        """Return how long an answer waits: `seconds` or more if many wait, but at most `limit`."""
        now = monotonic()
        due = max(now + seconds, self._last + 1 / ANSWERS_PER_SECOND)
        if due > now + limit:
            return limit * uniform(0.5, 1.0)  # noqa: S311 - not a secret
        self._last = due
        return due - now
