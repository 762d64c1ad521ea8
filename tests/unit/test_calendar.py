"""The ends of periods: the month's last day, leap years, and no drift over any number of renewals."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroomd.domain.calendar import MONTHS, add_months, period_end
from postroomd.domain.model import SubscriptionPeriod

MONTHLY, YEARLY = SubscriptionPeriod.MONTHLY, SubscriptionPeriod.YEARLY

ANCHORS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
PERIODS = st.sampled_from([MONTHLY, YEARLY])


def day(text: str) -> datetime:
    """Midnight of a day in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ends(anchor: datetime, period: SubscriptionPeriod, count: int) -> list[datetime]:
    """The ends of the first `count` periods, each of which starts at the end of the one before."""
    found = [anchor]
    for _ in range(count):
        found.append(period_end(anchor, found[-1], period))
    return found[1:]


@pytest.mark.parametrize(
    ("anchor", "months", "expected"),
    [
        ("2023-01-15", 0, "2023-01-15"),
        ("2023-01-15", 1, "2023-02-15"),
        ("2023-01-31", 1, "2023-02-28"),
        ("2023-01-31", 2, "2023-03-31"),
        ("2023-01-31", 3, "2023-04-30"),
        ("2024-01-31", 1, "2024-02-29"),
        ("2024-01-30", 1, "2024-02-29"),
        ("2023-01-29", 1, "2023-02-28"),
        ("2023-01-28", 1, "2023-02-28"),
        ("2023-08-31", 1, "2023-09-30"),
        ("2023-12-31", 1, "2024-01-31"),
        ("2023-12-31", 2, "2024-02-29"),
        ("2023-11-30", 1, "2023-12-30"),
        ("2023-11-15", 2, "2024-01-15"),
        ("2023-12-01", 12, "2024-12-01"),
        ("2023-12-01", 13, "2025-01-01"),
        ("2024-02-29", 12, "2025-02-28"),
        ("2024-02-29", 48, "2028-02-29"),
        ("2024-02-29", 12 * 76, "2100-02-28"),  # no leap year
        ("2000-02-29", 12 * 400, "2400-02-29"),  # a leap year
    ],
)
def test_months_later_is_the_same_day_or_the_months_last_day(anchor: str, months: int, expected: str) -> None:
    assert add_months(day(anchor), months) == day(expected)


def test_the_time_of_day_is_kept_to_the_microsecond() -> None:
    anchor = datetime(2023, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert add_months(anchor, 1) == datetime(2023, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    assert add_months(anchor, 1).tzinfo is UTC


@pytest.mark.parametrize(
    ("anchor", "period", "expected"),
    [
        ("2023-01-31", MONTHLY, ["2023-02-28", "2023-03-31", "2023-04-30", "2023-05-31", "2023-06-30"]),
        ("2024-01-31", MONTHLY, ["2024-02-29", "2024-03-31", "2024-04-30"]),
        ("2023-10-31", MONTHLY, ["2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31"]),
        ("2023-12-30", MONTHLY, ["2024-01-30", "2024-02-29", "2024-03-30"]),
        ("2024-02-29", YEARLY, ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"]),
        ("2096-02-29", YEARLY, ["2097-02-28", "2098-02-28", "2099-02-28", "2100-02-28", "2101-02-28"]),
        ("2023-12-31", YEARLY, ["2024-12-31", "2025-12-31"]),
    ],
)
def test_periods_are_anchored_to_the_first_start(anchor: str, period: SubscriptionPeriod, expected: list[str]) -> None:
    assert ends(day(anchor), period, len(expected)) == [day(text) for text in expected]


def test_a_yearly_period_after_monthly_ones_ends_on_the_anchors_day() -> None:
    anchor = day("2023-01-31")
    assert period_end(anchor, day("2023-02-28"), YEARLY) == day("2024-02-29")
    assert period_end(anchor, day("2024-02-29"), MONTHLY) == day("2024-03-31")


def test_a_canceled_subscription_has_no_length() -> None:
    assert SubscriptionPeriod.CANCELED not in MONTHS
    assert set(MONTHS) == set(SubscriptionPeriod) - {SubscriptionPeriod.CANCELED}


@settings(deadline=None)
@given(anchor=ANCHORS, count=st.integers(min_value=1, max_value=60))
def test_monthly_periods_never_drift_from_the_anchor(anchor: datetime, count: int) -> None:
    assert ends(anchor, MONTHLY, count) == [add_months(anchor, number) for number in range(1, count + 1)]


@settings(deadline=None)
@given(anchor=ANCHORS, periods=st.lists(PERIODS, min_size=1, max_size=24))
def test_periods_of_mixed_lengths_never_drift(anchor: datetime, periods: list[SubscriptionPeriod]) -> None:
    start = anchor
    for period in periods:
        start = period_end(anchor, start, period)
    assert start == add_months(anchor, sum(MONTHS[period] for period in periods))


@settings(deadline=None)
@given(anchor=ANCHORS, months=st.integers(min_value=0, max_value=1_200))
def test_a_month_has_28_to_31_days_and_ends_on_the_anchors_day_or_before(anchor: datetime, months: int) -> None:
    this, following = add_months(anchor, months), add_months(anchor, months + 1)
    assert timedelta(days=28) <= following - this <= timedelta(days=31)
    assert this.day <= anchor.day
    assert this.time() == anchor.time()
    # An earlier day than the anchor's is always the last day of its month.
    assert this.day == anchor.day or (this + timedelta(days=1)).day == 1
