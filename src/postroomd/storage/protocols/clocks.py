"""The workers' heartbeats, and the operator's acceptances of a clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from postroomd.domain.clock_leaps import ClockAcceptance, WorkerClock


@dataclass(frozen=True, slots=True)
class ClockRecords:
    """The heartbeats, the latest acceptance, and the time of the database's server, None for a file."""

    heartbeats: Sequence[WorkerClock]
    acceptance: ClockAcceptance | None
    database_time: datetime | None


class Clocks(Protocol):
    """The workers' heartbeats, and the operator's acceptances of a clock."""

    async def read(self) -> ClockRecords:
        """Return all heartbeats, the latest trusted time first, with the latest acceptance."""

    async def beat(self, heartbeat: WorkerClock, forget_before: datetime) -> None:
        """Store the heartbeat of a time scale, and remove those of others that were last trusted before an instant."""

    async def accept(self, now: datetime) -> ClockAcceptance:
        """Store the operator's acceptance of a clock that shows `now`, and remove the heartbeats of unresolved leaps.

        Running workers store theirs again.
        """
