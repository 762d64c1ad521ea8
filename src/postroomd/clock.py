"""What time it is: the system's clock, and one that a trial moves on (`postroom up --clock`).

Instants come from here. How long something takes is measured by the monotonic clock, which nothing moves.
"""

import asyncio
import mmap
from datetime import UTC, datetime, timedelta
from enum import IntEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
GLANCE_SECONDS = 0.005


class Duty(IntEnum):
    """What the worker does side by side, each as of an instant of its own."""

    LOOKUPS = 0
    STEPS = 1


class Clock:
    """The system's clock."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def settle(self, duty: Duty, now: datetime) -> None:
        """Hear that the worker has done all of a duty that was due at `now`."""

    async def rest(self, duty: Duty, stop: asyncio.Event, seconds: float) -> None:
        """Sleep until `stop` is set, so many seconds have passed, or somebody waits for the duty to be done."""
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return


class TrialClock(Clock):
    """A clock that can be moved on, one for this process and for those that it forks after making it.

    They share a page of memory with three kinds of numbers, in microseconds: by how much the clock is ahead of the
    system's and the instant that is waited for, which one process writes, and the instant as of which each duty is
    done, which the worker writes. A number is written and read whole.
    """

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._ahead, self._awaited, self._settled = 0, 1, 2  # where each stands; one number a duty follows

    def now(self) -> datetime:
        """The time, in UTC."""
        return super().now() + self._numbers[self._ahead] * MICROSECOND

    def settle(self, duty: Duty, now: datetime) -> None:
        """Hear that the worker has done all of a duty that was due at `now`."""
        self._numbers[self._settled + duty] = (now - EPOCH) // MICROSECOND

    async def rest(self, duty: Duty, stop: asyncio.Event, seconds: float) -> None:
        """Sleep until `stop` is set, so many seconds have passed, or somebody waits for the duty to be done."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (left := ends - loop.time()) > 0 and not stop.is_set():
            await super().rest(duty, stop, min(left, GLANCE_SECONDS))
            if self._numbers[self._settled + duty] < self._numbers[self._awaited]:
                return

    async def advance(self, by: timedelta) -> datetime:
        """Move the time on, wait until the worker has done all that fell due meanwhile, and answer the time."""
        self._numbers[self._ahead] += by // MICROSECOND
        for duty in Duty:  # in their order: what a look-up has found, steps follow
            awaited = (self.now() - EPOCH) // MICROSECOND
            self._numbers[self._awaited] = max(awaited, self._numbers[self._awaited])
            while self._numbers[self._settled + duty] < awaited:  # noqa: ASYNC110 # no event reaches another process
                await asyncio.sleep(GLANCE_SECONDS)
        return self.now()
