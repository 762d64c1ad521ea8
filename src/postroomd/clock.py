"""What time it is: the system's clock, and one that a trial moves on (`postroom up --clock`).

Instants come from here. How long something takes is measured by the monotonic clock, which nothing moves.
"""

import asyncio
import mmap
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
GLANCE_SECONDS = 0.005


class Clock:
    """The system's clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def settle(self, now: datetime) -> None:
        """Hear that the worker has done all that was due at `now`."""

    async def rest(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        """Sleep until one of the events, or until so many seconds have passed, or somebody waits for the worker."""
        await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


class TrialClock(Clock):
    """A clock that can be moved on, one for this process and for those that it forks after making it.

    They share three numbers, of microseconds: by how much the clock is ahead of the system's and the instant that the
    worker is waited for, which one process writes, and the instant as of which all is done, which the worker writes.
    A number is written and read whole.
    """

    def __init__(self) -> None:
        shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._ahead, self._awaited, self._settled = shared[0:1], shared[1:2], shared[2:3]

    def now(self) -> datetime:
        """The time, in UTC."""
        return super().now() + self._ahead[0] * MICROSECOND

    def settle(self, now: datetime) -> None:
        """Hear that the worker has done all that was due at `now`."""
        self._settled[0] = (now - EPOCH) // MICROSECOND

    async def rest(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        """Sleep until one of the events, or until so many seconds have passed, or somebody waits for the worker."""
        events, loop = set(events), asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (left := ends - loop.time()) > 0 and not any(event.done() for event in events):
            await super().rest(events, min(left, GLANCE_SECONDS))
            if self._settled[0] < self._awaited[0]:
                return

    async def advance(self, by: timedelta) -> datetime:
        """Move the time on, wait until the worker has done all that fell due meanwhile, and answer the time."""
        self._ahead[0] += by // MICROSECOND
        awaited = (self.now() - EPOCH) // MICROSECOND
        self._awaited[0] = max(awaited, self._awaited[0])
        while self._settled[0] < awaited:  # noqa: ASYNC110 # no event reaches another process
            await asyncio.sleep(GLANCE_SECONDS)
        return self.now()
