"""Admission control: the maximum number of calls in progress, beyond which calls are rejected before any work.

An unbounded process under overload makes every call slow, until deadlines pass and its work is wasted. With a bound, an
admitted call stays about as fast as without overload, and a rejected caller learns of it at once.

Reads and changes have separate slots: changes may wait for password hashing or for the single writer, and must not
cause reads to be rejected. Health checks take no slot, and are always answered.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CALLS_REFUSED

RETRY_SECONDS = 1.0  # the retry delay that a rejected caller is given

Call = Callable[[bytes, Any], Awaitable[bytes]]
Reject = Callable[[Any], Awaitable[None]]


class Admission:
    """The slots of one process: `max_calls` for reads, and as many for changes."""

    def __init__(self, max_calls: int) -> None:
        self._reads = _Slots(max_calls, "reads")
        self._changes = _Slots(max_calls, "changes")

    def in_progress(self, kind: str) -> int:
        """Return the number of calls in progress of a kind: `reads` or `changes`."""
        slots = self._changes if kind == "changes" else self._reads
        return slots.max_calls - slots.free

    def limited(self, call: Call, reject: Reject, *, mutating: bool) -> Call:
        """Return the call, limited to the free slots of its kind: without one, `reject` runs instead, and raises."""
        slots = self._changes if mutating else self._reads

        async def limited(raw: bytes, context: Any) -> bytes:
            if slots.free <= 0:
                slots.rejected.record()
                await reject(context)
            slots.free -= 1
            try:
                return await call(raw, context)
            finally:
                slots.free += 1

        return limited


class _Slots:
    """The slots for one kind of calls."""

    def __init__(self, max_calls: int, kind: str) -> None:
        self.max_calls = self.free = max_calls
        self.rejected = RateLimitedWarning("calls rejected", CALLS_REFUSED.labels(kind), kind=kind, max_calls=max_calls)
