"""Leaps of the system's clock, as far as they follow from readings, heartbeats and acceptances."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from postroomd.clock import EPOCH, LATEST, Clock, TrialClock
from postroomd.domain.calendar import add_months
from postroomd.domain.clock_leaps import (
    ClockAcceptance,
    ClockReading,
    ClockReference,
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
from postroomd.observability.metrics import LEAPS

LIMITS = LeapLimits()
BOOT = datetime(2026, 3, 1, tzinfo=UTC)
DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
YEAR = 365 * DAY
UPTIME = 10 * DAY


def reading(uptime: timedelta = UPTIME, *, off: timedelta = timedelta(0), boot: str = "first") -> ClockReading:
    """A reading of a machine that booted at BOOT, and whose clock is off."""
    return ClockReading(BOOT + uptime + off, uptime, boot)


TRUSTED = followed(ClockReference(), reading())


def heartbeat(reference: ClockReference, boot: str = "first", leapt_to: datetime | None = None) -> WorkerClock:
    assert reference.latest is not None
    return WorkerClock(boot, reference.latest, reference.origin, leapt_to, reference.acceptance)


@pytest.mark.parametrize(
    ("off", "kind"),
    [
        (timedelta(0), None),
        (HOUR, None),
        (HOUR + SECOND, LeapKind.FORWARD),
        (40 * DAY, LeapKind.FORWARD),
        (548 * YEAR, LeapKind.FORWARD),
        (-5 * SECOND, None),
        (-6 * SECOND, LeapKind.BACKWARD),
        (-40 * DAY, LeapKind.BACKWARD),
    ],
)
def test_a_running_process_compares_the_clock_with_the_time_since_boot(off: timedelta, kind: LeapKind | None) -> None:
    leap = find_leap(reading(off=off), TRUSTED, LIMITS)
    assert (leap and leap.kind) == kind
    if leap:
        assert (leap.by, leap.expected) == (off, reading().time)


def test_a_leap_ends_when_the_clock_returns() -> None:
    later = UPTIME + HOUR
    assert find_leap(reading(later, off=40 * DAY), TRUSTED, LIMITS) is not None
    assert find_leap(reading(later), TRUSTED, LIMITS) is None


def test_a_step_back_ends_when_the_clock_has_caught_up_with_the_latest_trusted_time() -> None:
    off = -10 * MINUTE
    assert find_leap(reading(UPTIME + 9 * MINUTE, off=off), TRUSTED, LIMITS) is not None
    assert find_leap(reading(UPTIME + 10 * MINUTE, off=off), TRUSTED, LIMITS) is None


def test_many_small_steps_in_a_short_time_are_a_leap() -> None:
    reference = TRUSTED
    for steps in range(1, 6):
        step = reading(UPTIME + steps * MINUTE, off=steps * 15 * MINUTE)
        if find_leap(step, reference, LIMITS):
            break
        reference = followed(reference, step)
    assert steps == 5


@pytest.mark.parametrize("daily_step", [SECOND, -SECOND])
def test_years_of_daily_corrections_of_a_drifting_clock_are_no_leap(daily_step: timedelta) -> None:
    reference = TRUSTED
    for days in range(10_000):
        corrected = reading(UPTIME + days * DAY, off=days * daily_step)
        assert find_leap(corrected, reference, LIMITS) is None
        reference = followed(reference, corrected)


def start(own: ClockReading, *heartbeats: WorkerClock, acceptance: ClockAcceptance | None = None) -> LeapKind | None:
    """The leap that a worker finds when it starts."""
    leap = find_leap(own, reference_at_start(own, heartbeats, acceptance), LIMITS)
    return leap.kind if leap else None


def test_the_first_start_trusts_the_clock() -> None:
    assert start(reading(off=-20 * YEAR)) is None


@pytest.mark.parametrize("boot", ["first", "second"])
def test_a_year_of_downtime_is_no_leap(boot: str) -> None:
    uptime = UPTIME + YEAR
    elapsed = uptime if boot == "first" else MINUTE
    assert start(ClockReading(BOOT + uptime, elapsed, boot), heartbeat(TRUSTED)) is None


@pytest.mark.parametrize("boot", ["first", "second"])
def test_a_clock_behind_the_last_heartbeat_at_the_start_is_a_leap(boot: str) -> None:
    assert start(reading(off=-6 * SECOND, boot=boot), heartbeat(TRUSTED)) is LeapKind.BACKWARD
    assert start(reading(off=-5 * SECOND, boot=boot), heartbeat(TRUSTED)) is None


def test_a_leap_while_no_worker_ran_is_found_within_the_same_boot() -> None:
    assert start(reading(UPTIME + HOUR, off=40 * DAY), heartbeat(TRUSTED)) is LeapKind.FORWARD


def test_a_reboot_during_a_leap_does_not_resolve_it() -> None:
    leapt = heartbeat(TRUSTED, leapt_to=reading(off=40 * DAY).time)
    rebooted = ClockReading(reading(off=40 * DAY).time + MINUTE, MINUTE, "second")
    assert start(rebooted, leapt) is LeapKind.FORWARD
    corrected = ClockReading(reading().time + HOUR, MINUTE, "second")
    assert start(corrected, leapt) is None
    afterwards = heartbeat(followed(ClockReference(), corrected), "second")
    much_later = ClockReading(reading().time + YEAR, MINUTE, "third")
    assert start(much_later, leapt, afterwards) is None


def accepted_at(time: datetime, number: int = 1) -> ClockAcceptance:
    return ClockAcceptance(number, time)


@pytest.mark.parametrize("off", [40 * DAY, -40 * DAY])
def test_an_acceptance_is_of_the_clock_that_has_leapt(off: timedelta) -> None:
    later = UPTIME + HOUR
    leapt = reading(later, off=off)
    leap = find_leap(leapt, TRUSTED, LIMITS)
    assert leap is not None

    def accepts(acceptance: ClockAcceptance, reference: ClockReference = TRUSTED) -> bool:
        return is_accepted(leap, leapt, reference, acceptance, LIMITS)

    assert accepts(accepted_at(leapt.time - SECOND))
    assert accepts(accepted_at(leapt.time - 30 * MINUTE))
    assert not accepts(accepted_at(reading(later).time))  # on a machine whose clock is right
    assert not accepts(accepted_at(leapt.time - SECOND), replace(TRUSTED, acceptance=1))  # read before the leap
    after = rebased(leapt, accepted_at(leapt.time))
    assert find_leap(reading(later + MINUTE, off=off), after, LIMITS) is None


def test_heartbeats_from_before_an_acceptance_no_longer_count() -> None:
    acceptance = accepted_at(reading(off=-40 * DAY).time)
    earlier, accepted = heartbeat(TRUSTED, "earlier"), heartbeat(rebased(reading(off=-40 * DAY), acceptance))
    rebooted = ClockReading(acceptance.accepted_at + HOUR, MINUTE, "second")
    assert start(rebooted, earlier, accepted, acceptance=acceptance) is None
    assert start(rebooted, earlier, acceptance=acceptance) is LeapKind.BACKWARD  # until the worker has read it


@pytest.mark.parametrize("off", [2 * HOUR, -2 * HOUR])
def test_the_database_servers_clock_may_not_differ_much_unless_that_was_accepted(off: timedelta) -> None:
    server = BOOT + UPTIME

    def find(own: ClockReading, acceptance: ClockAcceptance | None = None) -> LeapKind | None:
        leap = find_database_leap(own, ClockReference(), server, acceptance, LIMITS)
        assert leap is None or leap.expected == server
        return leap.kind if leap else None

    assert find(reading(off=off / 2)) is None
    assert find(reading(off=off)) is LeapKind.DATABASE
    accepted = ClockAcceptance(1, server + off, server)
    assert find(reading(off=off), accepted) is None
    assert find(reading(), accepted) is None
    assert find(reading(off=-off), accepted) is LeapKind.DATABASE


def test_a_process_that_has_trusted_its_clock_expects_it_rather_than_the_servers() -> None:
    leap = find_database_leap(reading(), TRUSTED, BOOT + UPTIME + 40 * DAY, None, LIMITS)
    assert leap is not None
    assert leap.expected == reading().time


def test_every_kind_of_leap_has_its_metric() -> None:
    assert set(LEAPS) == set(LeapKind)


def test_a_clock_is_bounded_so_that_every_date_derived_from_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            raise ValueError("year 10000 is out of range")

    monkeypatch.setattr("postroomd.clock.datetime", Broken)
    for clock in (Clock(), TrialClock()):
        assert clock.now() == LATEST
    assert LATEST + 200 * YEAR > LATEST
    assert add_months(LATEST, 12).year == LATEST.year + 1
    monkeypatch.setattr(Broken, "now", classmethod(lambda cls, tz: EPOCH - DAY))
    assert Clock().now() == EPOCH


def test_the_time_since_boot_does_not_follow_the_systems_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.read()
    monkeypatch.setattr(Clock, "system_time", lambda _: before.time + 40 * DAY)
    after = clock.read()
    assert after.time == before.time + 40 * DAY
    assert timedelta(0) <= after.elapsed - before.elapsed < DAY
    assert after.time_scale == before.time_scale
