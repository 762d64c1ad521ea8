"""How many calls are in progress at most: what comes on top is refused before anything is done for it.

A process that takes in more than it can do makes every caller wait for all the others, until their deadlines pass and
its work is for nothing. With a bound, a call that is taken in is answered about as soon as on a calm day, and one that
is not learns so at once.

Reads and changes have places of their own: changes may wait for a password's hash or for the one writer, and reads are
not to be refused for that. Health checks take no place, and are always answered.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CALLS_REFUSED

RETRY_SECONDS = 1.0
"""What a refused caller is told to wait."""

Call = Callable[[bytes, Any], Awaitable[bytes]]
Refuse = Callable[[Any], Awaitable[None]]


class Admission:
    """The places of one process: `max_calls` for reads, and as many for changes."""

    def __init__(self, max_calls: int) -> None:
        self._reads = _Places(max_calls, "reads")
        self._changes = _Places(max_calls, "changes")

    def in_progress(self, kind: str) -> int:
        """How many `reads`, or `changes`, hold a place."""
        places = self._changes if kind == "changes" else self._reads
        return places.most - places.free

    def admitting(self, call: Call, refuse: Refuse, *, changes: bool) -> Call:
        """The same call where there is a place for it; else `refuse`, which raises."""
        places = self._changes if changes else self._reads

        async def admitted(raw: bytes, context: Any) -> bytes:
            if places.free <= 0:
                places.refused.record()
                await refuse(context)
            places.free -= 1
            try:
                return await call(raw, context)
            finally:
                places.free += 1

        return admitted


class _Places:
    """The places for calls of one kind."""

    def __init__(self, most: int, kind: str) -> None:
        self.most = self.free = most
        self.refused = RateLimitedWarning("calls refused", CALLS_REFUSED.labels(kind), kind=kind, most=most)
