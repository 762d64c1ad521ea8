"""The worker's backoff: what is delayed after a failure, for how long, and what goes on meanwhile."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest

from postroomd.domain.backoff import backoff_delay
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.work import RowFailed
from postroomd.worker.backoff import FIRST_RETRY, MAX_FAILED_ROWS, MAX_RETRY, Backoff
from tests.support.metrics import scrape_tests

NOW = datetime(2024, 1, 31, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
A, B, C = StepKind.MAILBOX, StepKind.DOMAIN_PURGE, StepKind.PROVISION


class Rows:
    """A step over rows, some of which fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = list(failing)
        self.runs = 0

    async def step(self, skipping: Collection[str]) -> int:
        self.runs += 1
        for row in self.failing:
            if row not in skipping:
                raise RowFailed(row)
        return 1


async def failing(_: Collection[str]) -> int:
    raise ZeroDivisionError


async def succeeding(_: Collection[str]) -> int:
    return 1


def test_each_delay_is_twice_the_last_up_to_the_maximum() -> None:
    delays = [backoff_delay(failures, FIRST_RETRY, MAX_RETRY) for failures in range(3)]
    assert delays == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert backoff_delay(1_000, FIRST_RETRY, MAX_RETRY) == MAX_RETRY


async def test_a_failing_kind_backs_off_and_the_others_do_not() -> None:
    backoff = Backoff()
    assert await backoff.run(A, failing, NOW) is None
    assert backoff.pending_retries(NOW) == [NOW + FIRST_RETRY]
    assert await backoff.run(B, succeeding, NOW) == 1
    assert await backoff.run(A, succeeding, NOW + FIRST_RETRY - MICROSECOND) is None
    assert await backoff.run(A, succeeding, NOW + FIRST_RETRY) == 1
    assert backoff.pending_retries(NOW) == []


async def test_a_success_resets_the_delay() -> None:
    backoff, now = Backoff(), NOW
    for step in (failing, failing, succeeding, failing):
        await backoff.run(A, step, now)
        now = max(backoff.pending_retries(now), default=now)
    assert now == NOW + 4 * FIRST_RETRY  # 10 s, 20 s, and 10 s again


async def test_a_failure_long_ago_does_not_lengthen_the_delay() -> None:
    backoff = Backoff()
    await backoff.run(A, failing, NOW)
    later = NOW + FIRST_RETRY + MAX_RETRY + MICROSECOND
    await backoff.run(A, failing, later)
    assert backoff.pending_retries(later) == [later + FIRST_RETRY]


async def test_failing_rows_are_skipped_until_their_retry() -> None:
    backoff, rows = Backoff(), Rows("x", "y")
    assert await backoff.run(A, rows.step, NOW) == 1
    assert rows.runs == 3
    assert await backoff.run(A, rows.step, NOW) == 1
    assert rows.runs == 4
    rows.failing = ["y"]
    assert await backoff.run(A, rows.step, NOW + FIRST_RETRY) == 1
    assert backoff.pending_retries(NOW + FIRST_RETRY) == [NOW + 3 * FIRST_RETRY]


async def test_the_kind_backs_off_if_too_many_of_its_rows_fail() -> None:
    backoff, rows = Backoff(), Rows(*map(str, range(2 * MAX_FAILED_ROWS)))
    assert await backoff.run(A, rows.step, NOW) is None
    assert rows.runs == MAX_FAILED_ROWS + 1
    assert await backoff.run(A, succeeding, NOW) is None


async def test_each_failure_is_counted_by_its_kind() -> None:
    before = scrape_tests()
    backoff = Backoff()
    await backoff.run(A, failing, NOW)
    await backoff.run(B, Rows("x", "y").step, NOW)
    await backoff.run(C, succeeding, NOW)
    failures = {
        kind: scrape_tests().increase(before, "postroom_worker_failures_total", kind=kind) for kind in (A, B, C)
    }
    assert failures == {A: 1, B: 2, C: 0}


async def test_an_unavailable_database_makes_no_kind_back_off() -> None:
    async def unavailable(_: Collection[str]) -> int:
        raise StorageUnavailable

    backoff = Backoff()
    with pytest.raises(StorageUnavailable):
        await backoff.run(A, unavailable, NOW)
    assert backoff.pending_retries(NOW) == []


async def test_recovered_rows_do_not_count_as_failing() -> None:
    backoff = Backoff()
    rows = Rows(*(f"row {number}" for number in range(MAX_FAILED_ROWS)))
    assert await backoff.run(A, rows.step, NOW) == 1
    rows.failing = []
    later = NOW + FIRST_RETRY
    assert await backoff.run(A, rows.step, later) == 1
    rows.failing = ["another"]
    assert await backoff.run(A, rows.step, later) == 1
    assert backoff.pending_retries(later) == [later + FIRST_RETRY]  # the row's, and not the kind's
