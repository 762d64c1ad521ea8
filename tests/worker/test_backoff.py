"""What rests after a failure, for how long, and what goes on meanwhile."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pytest

from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.protocols.work import RowFailed
from postroomd.worker.backoff import FIRST_RETRY, LAST_RETRY, MOST_ROWS, Rests, retry_after

NOW = datetime(2024, 1, 31, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


class Rows:
    """Steps over some rows, of which some fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = list(failing)
        self.taken = 0

    async def step(self, skipping: Collection[str]) -> int:
        """Take those that are not to be skipped."""
        self.taken += 1
        for row in self.failing:
            if row not in skipping:
                raise RowFailed(row)
        return 1


async def failing(_: Collection[str]) -> int:
    raise ZeroDivisionError


async def working(_: Collection[str]) -> int:
    return 1


def test_each_rest_is_twice_as_long_up_to_the_last() -> None:
    assert [retry_after(failures) for failures in range(3)] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY]
    assert retry_after(1_000) == LAST_RETRY


async def test_a_kind_that_fails_rests_and_the_others_do_not() -> None:
    rests = Rests()
    assert await rests.take("a", failing, NOW) is None
    assert rests.ends(NOW) == [NOW + FIRST_RETRY]
    assert await rests.take("b", working, NOW) == 1
    assert await rests.take("a", working, NOW + FIRST_RETRY - MOMENT) is None
    assert await rests.take("a", working, NOW + FIRST_RETRY) == 1
    assert rests.ends(NOW) == []


async def test_success_ends_the_growth() -> None:
    rests, now = Rests(), NOW
    for step in (failing, failing, working, failing):
        await rests.take("a", step, now)
        now = max(rests.ends(now), default=now)
    assert now == NOW + 4 * FIRST_RETRY  # 10 s, 20 s, and 10 s again


async def test_what_has_not_failed_for_long_rests_as_if_for_the_first_time() -> None:
    rests = Rests()
    await rests.take("a", failing, NOW)
    later = NOW + FIRST_RETRY + LAST_RETRY + MOMENT
    await rests.take("a", failing, later)
    assert rests.ends(later) == [later + FIRST_RETRY]


async def test_rows_that_fail_are_passed_over_until_they_are_tried_again() -> None:
    rests, rows = Rests(), Rows("x", "y")
    assert await rests.take("a", rows.step, NOW) == 1
    assert rows.taken == 3
    assert await rests.take("a", rows.step, NOW) == 1
    assert rows.taken == 4
    rows.failing = ["y"]
    assert await rests.take("a", rows.step, NOW + FIRST_RETRY) == 1
    assert rests.ends(NOW + FIRST_RETRY) == [NOW + 3 * FIRST_RETRY]


async def test_where_too_many_rows_fail_the_kind_rests() -> None:
    rests, rows = Rests(), Rows(*map(str, range(2 * MOST_ROWS)))
    assert await rests.take("a", rows.step, NOW) is None
    assert rows.taken == MOST_ROWS + 1
    assert await rests.take("a", working, NOW) is None


async def test_each_failure_is_told_of_by_its_kind() -> None:
    told: list[str] = []
    rests = Rests(told.append)
    await rests.take("a", failing, NOW)
    await rests.take("b", Rows("x", "y").step, NOW)
    await rests.take("c", working, NOW)
    assert told == ["a", "b", "b"]


async def test_a_database_out_of_reach_is_no_fault_of_a_kind() -> None:
    async def out_of_reach(_: Collection[str]) -> int:
        raise StorageUnavailable

    rests = Rests()
    with pytest.raises(StorageUnavailable):
        await rests.take("a", out_of_reach, NOW)
    assert rests.ends(NOW) == []


async def test_rows_that_have_recovered_do_not_count_among_those_that_fail() -> None:
    rests = Rests()
    once = Rows(*(f"row {number}" for number in range(MOST_ROWS)))
    assert await rests.take("a", once.step, NOW) == 1
    once.failing = []
    later = NOW + FIRST_RETRY
    assert await rests.take("a", once.step, later) == 1
    once.failing = ["another"]
    assert await rests.take("a", once.step, later) == 1
    assert rests.ends(later) == [later + FIRST_RETRY]  # the row's, and not the kind's
