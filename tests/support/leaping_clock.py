"""A system clock that a test sets."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from postroomd.clock import Clock
from postroomd.domain.clock_leaps import ClockReading


class LeapingClock(Clock):
    """The clock of a machine, which is off by `off`. Time passes as `uptime` is changed, and waiting is short."""

    def __init__(self, booted_at: datetime, uptime: timedelta, boot: str = "first") -> None:
        self.booted_at = booted_at
        self.uptime = uptime
        self.boot = boot
        self.off = timedelta(0)
        self.passes = 0
        self.caught_up = 0

    def system_time(self) -> datetime:
        return self.booted_at + self.uptime + self.off

    def elapsed(self) -> timedelta:
        return self.uptime

    def read(self) -> ClockReading:
        return ClockReading(self.system_time(), self.uptime, self.boot)

    def mark_caught_up(self, now: datetime) -> None:
        self.caught_up += 1

    async def wait(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        self.passes += 1
        await super().wait(events, 0.001)
