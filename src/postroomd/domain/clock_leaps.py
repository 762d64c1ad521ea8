"""Leaps of the system's clock: steps that no passing of time explains.

The clock is compared with the time since boot (CLOCK_BOOTTIME), which setting the clock does not change and NTP slews
as it slews the clock; with the latest time that a worker has trusted; and with the database server's clock. A process
that was down for long is no leap: the time since boot has passed as well, or is that of another boot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

MAX_DRIFT = 0.001
"""How fast the expected time follows small steps: 86 s a day, more than any clock drifts between two corrections."""


class LeapKind(StrEnum):
    """What contradicts the clock: the value of `kind` in log lines and in the labels of metrics."""

    FORWARD = "forward"  # far ahead of the time since boot
    BACKWARD = "backward"  # behind a time that a worker has trusted
    DATABASE = "database"  # far from the database server's clock


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The system's clock, and the time since boot, comparable within one `time_scale`: a boot and time namespace."""

    time: datetime
    elapsed: timedelta
    time_scale: str

    @property
    def origin(self) -> datetime:
        """The time at which the time since boot was 0, by this reading."""
        return self.time - self.elapsed


@dataclass(frozen=True, slots=True)
class LeapLimits:
    """How far the clock may be ahead of the expected time, and behind the latest trusted one."""

    forward: timedelta = timedelta(hours=1)
    backward: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Leap:
    """An unresolved leap. The clock is off `by`, negative if behind; `expected` is the right time, None if unknown."""

    kind: LeapKind
    by: timedelta
    expected: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerClock:
    """The heartbeat of the workers of one time scale: the latest time that they trusted.

    `origin` is the trusted time at which the time since boot was 0; None if there was none. While a leap is unresolved,
    `leapt_to` is the untrusted time, and the others stay as they are. `acceptance` is the last one that they have read.
    """

    time_scale: str
    trusted_at: datetime
    origin: datetime | None
    leapt_to: datetime | None = None
    acceptance: int = 0


@dataclass(frozen=True, slots=True)
class ClockAcceptance:
    """The operator's statement that a clock was right: its time, and that of the database's server if it has one."""

    id: int
    accepted_at: datetime
    database_at: datetime | None = None

    @property
    def database_difference(self) -> timedelta:
        """How far the accepted clock was ahead of the database server's."""
        return self.accepted_at - self.database_at if self.database_at else timedelta(0)


@dataclass(frozen=True, slots=True)
class ClockReference:
    """What a clock is compared with.

    `latest` is the latest trusted time, `origin` the trusted time at which the time since boot was 0, `elapsed` the
    time since boot when it was last trusted. `leapt_to` is the time that the clock had leapt to when the machine was
    shut down with an unresolved leap. Each is None if unknown.
    """

    latest: datetime | None = None
    origin: datetime | None = None
    elapsed: timedelta | None = None
    leapt_to: datetime | None = None
    acceptance: int = 0

    def expected(self, reading: ClockReading) -> datetime | None:
        """Return the right time of a reading; None if it is unknown."""
        return None if self.origin is None else self.origin + reading.elapsed


def reference_at_start(
    reading: ClockReading, heartbeats: Sequence[WorkerClock], acceptance: ClockAcceptance | None
) -> ClockReference:
    """Return the reference of a process that starts, from the workers' heartbeats.

    Heartbeats from before an acceptance that a worker has read no longer count, except the own one.
    """
    own = next((each for each in heartbeats if each.time_scale == reading.time_scale), None)
    known = acceptance.id if acceptance else 0
    counted = [each for each in heartbeats if each.acceptance >= known] or list(heartbeats)
    if not counted:
        return ClockReference(acceptance=known)
    newest = max(counted, key=lambda each: each.trusted_at)
    leapt_forward = newest.leapt_to is not None and newest.leapt_to > newest.trusted_at
    return ClockReference(
        latest=newest.trusted_at,
        origin=own.origin if own else None,
        elapsed=own.trusted_at - own.origin if own and own.origin else None,
        leapt_to=newest.leapt_to if leapt_forward and newest is not own else None,
        acceptance=own.acceptance if own else max(each.acceptance for each in heartbeats),
    )


def find_leap(reading: ClockReading, reference: ClockReference, limits: LeapLimits) -> Leap | None:
    """Return the leap that a reading shows against a reference; None if the clock can be trusted."""
    expected = reference.expected(reading)
    if expected is not None and reading.time - expected > limits.forward:
        return Leap(LeapKind.FORWARD, reading.time - expected, expected)
    if reference.latest is None:
        return None
    if reading.time < reference.latest - limits.backward:
        return Leap(LeapKind.BACKWARD, reading.time - (expected or reference.latest), expected)
    if expected is None and reference.leapt_to is not None and reading.time >= reference.leapt_to - limits.backward:
        return Leap(LeapKind.FORWARD, reading.time - reference.latest, None)
    return None


def find_database_leap(
    reading: ClockReading,
    reference: ClockReference,
    database_time: datetime,
    acceptance: ClockAcceptance | None,
    limits: LeapLimits,
) -> Leap | None:
    """Return the leap that the database server's clock shows; None if they differ little, or as much as was accepted.

    Its time is the expected one only of a process that has never trusted its own clock.
    """
    difference = reading.time - database_time
    accepted = acceptance.database_difference if acceptance else timedelta(0)
    if min(abs(difference), abs(difference - accepted)) <= limits.forward:
        return None
    return Leap(LeapKind.DATABASE, difference, reference.expected(reading) or database_time)


def followed(reference: ClockReference, reading: ClockReading) -> ClockReference:
    """Return the reference after a trusted reading. The expected time follows small steps slowly.

    So many small steps in a short time are a leap, while corrections of a clock that drifts are not.
    """
    origin = reading.origin
    if reference.origin is not None and reference.elapsed is not None:
        allowed = max(reading.elapsed - reference.elapsed, timedelta(0)) * MAX_DRIFT
        origin = min(max(origin, reference.origin - allowed), reference.origin + allowed)
    latest = reading.time if reference.latest is None else max(reference.latest, reading.time)
    return replace(reference, latest=latest, origin=origin, elapsed=reading.elapsed, leapt_to=None)


def rebased(reading: ClockReading, acceptance: ClockAcceptance) -> ClockReference:
    """Return the reference after the operator has accepted the clock."""
    return ClockReference(reading.time, reading.origin, reading.elapsed, acceptance=acceptance.id)


def is_accepted(
    leap: Leap, reading: ClockReading, reference: ClockReference, acceptance: ClockAcceptance, limits: LeapLimits
) -> bool:
    """Return whether an acceptance is of the clock that has leapt: one of another machine may show the right time."""
    if acceptance.id <= reference.acceptance or acceptance.accepted_at > reading.time + limits.backward:
        return False
    if leap.kind is not LeapKind.FORWARD:
        return True
    right = leap.expected or reference.latest
    return right is None or acceptance.accepted_at > right + limits.backward
