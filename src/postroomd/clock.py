"""The wall clock: the system's, and a trial clock that tests advance (`postroom up --clock`).

Timestamps come from here. Elapsed time is measured with the monotonic clock, which a trial clock does not change.
"""

import asyncio
import mmap
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from postroomd.domain.clock_leaps import ClockReading

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
POLL_SECONDS = 0.005
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""The latest time that a clock returns. Every date derived from it, at most centuries later, is a valid datetime."""

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # which includes time in suspend, on Linux


class Clock:
    """The system's clock."""

    def now(self) -> datetime:
        """Return the current time in UTC, from EPOCH to LATEST."""
        return self.system_time()

    def system_time(self) -> datetime:
        """Return the time of the system's clock in UTC, from EPOCH to LATEST."""
        try:
            return min(max(datetime.now(UTC), EPOCH), LATEST)
        except (ValueError, OverflowError):  # beyond year 9999
            return LATEST

    def elapsed(self) -> timedelta:
        """Return the time since the machine booted, which setting the system's clock does not change."""
        return timedelta(microseconds=time.clock_gettime_ns(_BOOT_CLOCK) // 1_000)

    def read(self) -> ClockReading:
        """Return the system's time together with the time since boot."""
        return ClockReading(self.system_time(), self.elapsed(), time_scale())

    def mark_caught_up(self, now: datetime) -> None:
        """Record that the worker has completed all work that was due at `now`. The system's clock ignores it."""

    async def wait(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        """Return when one of the events is done, or after the timeout."""
        await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


class TrialClock(Clock):
    """A clock that can be advanced, shared by this process and those forked from it afterwards.

    They share three integers in microseconds, each read and written atomically: the offset to the system's clock and
    the instant up to which the worker is awaited, both written by one process, and the instant up to which the worker
    has caught up, written by the worker.
    """

    def __init__(self) -> None:
        shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._offset, self._awaited, self._caught_up = shared[0:1], shared[1:2], shared[2:3]

    def now(self) -> datetime:
        """Return the current time in UTC, at most LATEST."""
        return min(self.system_time() + self._offset[0] * MICROSECOND, LATEST)

    def mark_caught_up(self, now: datetime) -> None:
        """Record that the worker has completed all work that was due at `now`."""
        self._caught_up[0] = (now - EPOCH) // MICROSECOND

    async def wait(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        """Return when one of the events is done, after the timeout, or when `advance` waits for the worker."""
        events, loop = set(events), asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (left := deadline - loop.time()) > 0 and not any(event.done() for event in events):
            await super().wait(events, min(left, POLL_SECONDS))
            if self._caught_up[0] < self._awaited[0]:
                return

    async def advance(self, by: timedelta) -> datetime:
        """Advance the time, wait until the worker has completed all work due by then, and return the current time."""
        self._offset[0] += by // MICROSECOND
        awaited = (self.now() - EPOCH) // MICROSECOND
        self._awaited[0] = max(awaited, self._awaited[0])
        while self._caught_up[0] < awaited:  # noqa: ASYNC110 # no asyncio primitive spans processes
            await asyncio.sleep(POLL_SECONDS)
        return self.now()


@cache
def time_scale() -> str:
    """Return an id of the boot, and of the time namespace, within which values of `elapsed` are comparable.

    Where the system has none, it is an id of this process.
    """
    with suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        with suppress(OSError):
            return f"{boot_id}/{os.readlink('/proc/self/ns/time')}"  # noqa: PTH115 # not a path
        return boot_id
    return str(uuid4())
