"""Watches the system's clock for leaps, on which a worker pauses and a service counts on from the last trusted time.

The trial clock's offset is no leap: only the system's clock is compared.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from postroomd.clock import Clock
from postroomd.domain.clock_leaps import (
    ClockAcceptance,
    ClockReading,
    ClockReference,
    Leap,
    LeapKind,
    LeapLimits,
    WorkerClock,
    find_database_leap,
    find_leap,
    followed,
    is_accepted,
    rebased,
    reference_at_start,
)
from postroomd.domain.errors import TimeUnknown
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import CLOCK_LEAP, CLOCK_LEAPS
from postroomd.storage.protocols.clocks import ClockRecords, Clocks

UPDATE_INTERVAL = timedelta(seconds=10)
HEARTBEAT_RETENTION = timedelta(days=30)  # of boots that have ended: each leaves one

log = get_logger()


class ClockWatch:
    """The state of one process's clock. `start` comes first. A worker also stores heartbeats."""

    def __init__(self, clock: Clock, clocks: Clocks, limits: LeapLimits, *, is_worker: bool) -> None:
        self._clock = clock
        self._clocks = clocks
        self._limits = limits
        self._is_worker = is_worker
        self._reference = ClockReference()
        self._acceptance: ClockAcceptance | None = None
        self._database_origin: datetime | None = None  # its server's time at which the time since boot was 0
        self._leap: Leap | None = None
        self._next_update = timedelta(0)

    async def start(self) -> None:
        """Compare the clock with the workers' heartbeats and the database server's clock. Raises StorageUnavailable."""
        records = await self._clocks.read()
        self._reference = reference_at_start(self._clock.read(), records.heartbeats, records.acceptance)
        await self._apply(records)

    async def update(self) -> None:
        """Read acceptances and the database server's clock, and store the heartbeat. Raises StorageUnavailable.

        Does nothing until this is due: after UPDATE_INTERVAL, or at once during a leap.
        """
        if self._leap or self._clock.elapsed() >= self._next_update:
            await self._apply(await self._clocks.read())

    def check(self) -> Leap | None:
        """Return the unresolved leap of the clock as it is now; None if it can be trusted."""
        return self._check(self._clock.read())

    def trusted_now(self) -> datetime | None:
        """Return the current time; None during a leap."""
        # Compared before and after, so that no leap between two readings goes unnoticed.
        before, now, after = self.check(), self._clock.now(), self.check()
        return None if before or after else now

    @property
    def knows_time(self) -> bool:
        """Whether the time was known at the last check: the clock was trusted, or could be corrected."""
        return self._leap is None or self._leap.expected is not None

    def now(self) -> datetime:
        """Return the current time, during a leap the expected one. Raises TimeUnknown."""
        reading = self._clock.read()
        leap = self._check(reading)
        if leap is None:
            return self._clock.now()
        if leap.expected is None:
            raise TimeUnknown
        return self._clock.now() + (leap.expected - reading.time)

    def _check(self, reading: ClockReading) -> Leap | None:
        leap = self._find_leap(reading)
        if leap is None:
            self._reference = followed(self._reference, reading)
        if (leap and leap.kind) is not (self._leap and self._leap.kind):
            _report(leap, reading)
        self._leap = leap
        return leap

    def _find_leap(self, reading: ClockReading) -> Leap | None:
        leap = find_leap(reading, self._reference, self._limits)
        if self._database_origin is None:
            return leap
        database_time = self._database_origin + reading.elapsed
        if leap is None:
            return find_database_leap(reading, self._reference, database_time, self._acceptance, self._limits)
        return leap if leap.expected else replace(leap, expected=database_time)

    async def _apply(self, records: ClockRecords) -> None:
        reading = self._clock.read()
        self._next_update = reading.elapsed + UPDATE_INTERVAL
        self._acceptance = records.acceptance
        self._database_origin = records.database_time - reading.elapsed if records.database_time else None
        if records.acceptance and records.acceptance.id > self._reference.acceptance:
            self._read_acceptance(records.acceptance, reading)
        leap = self._check(reading)
        trusted_at = self._reference.latest
        if not self._is_worker or trusted_at is None:
            return
        heartbeat = WorkerClock(
            time_scale=reading.time_scale,
            trusted_at=trusted_at,
            origin=self._reference.origin,
            leapt_to=reading.time if leap else None,
            acceptance=self._reference.acceptance,
        )
        await self._clocks.beat(heartbeat, trusted_at - HEARTBEAT_RETENTION)

    def _read_acceptance(self, acceptance: ClockAcceptance, reading: ClockReading) -> None:
        leap = self._find_leap(reading)
        if leap is None or leap.kind is LeapKind.DATABASE:  # of which the accepted difference is compared
            self._reference = replace(self._reference, acceptance=acceptance.id)
        elif is_accepted(leap, reading, self._reference, acceptance, self._limits):
            log.warning("clock accepted", clock=reading.time.isoformat(), kind=leap.kind)
            self._reference = rebased(reading, acceptance)
        else:
            log.warning(
                "acceptance ignored: it is of another clock",
                clock=reading.time.isoformat(),
                accepted=acceptance.accepted_at.isoformat(),
            )
            self._reference = replace(self._reference, acceptance=acceptance.id)


def _report(leap: Leap | None, reading: ClockReading) -> None:
    CLOCK_LEAP.set(leap is not None)
    if leap is None:
        log.warning("clock trusted again", clock=reading.time.isoformat())
        return
    CLOCK_LEAPS.labels(leap.kind).inc()
    log.error(
        "the clock has leapt: set it, or run `postroom clock accept` if it is right",
        kind=leap.kind,
        clock=reading.time.isoformat(),
        expected=leap.expected and leap.expected.isoformat(),
        off_by_seconds=round(leap.by.total_seconds()),
    )
