"""Admission control: the maximum number of calls in progress, shared fairly by organizations.

An unbounded process under overload makes every call slow, until deadlines pass and its work is wasted. With a bound, an
admitted call stays about as fast as without overload. A call beyond it waits in a short queue, and beyond that is
rejected at once.

Reads and changes have separate slots: changes may wait for password hashing or for the single writer, and must not
cause reads to be rejected. Health checks take no slot, and are always answered.
"""

from postroomd.domain.errors import TooManyRequests
from postroomd.observability.logs import RateLimitedWarning
from postroomd.observability.metrics import CALLS_REFUSED
from postroomd.rpc.fairness import FairSlots

SLOTS_PER_WAITING_CALL = 4  # a full queue makes calls a quarter slower


class Slots(FairSlots):
    """Slots of one kind of calls. Rejected calls are counted and logged."""

    def __init__(self, kind: str, slots: int, max_waiting: int) -> None:
        super().__init__(slots, max_waiting)
        self._rejected = RateLimitedWarning("calls rejected", CALLS_REFUSED.labels(kind), kind=kind, slots=slots)

    async def acquire(self, key: str) -> None:
        """Take a slot for an organization or an address. Raises TooManyRequests."""
        try:
            await super().acquire(key)
        except TooManyRequests:
            self._rejected.record()
            raise


class Admission:
    """The slots of one process: `max_calls` for reads, and as many for changes."""

    def __init__(self, max_calls: int) -> None:
        max_waiting = max_calls // SLOTS_PER_WAITING_CALL
        self.reads = Slots("reads", max_calls, max_waiting)
        self.changes = Slots("changes", max_calls, max_waiting)

    def in_progress(self, kind: str) -> int:
        """Return the number of calls in progress of a kind: `reads` or `changes`."""
        slots = self.changes if kind == "changes" else self.reads
        return slots.slots - slots.free
