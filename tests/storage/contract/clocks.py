"""Contract of the workers' heartbeats and the operator's acceptances."""

from datetime import timedelta

import pytest

from postroomd.domain.clock_leaps import ClockAcceptance, WorkerClock
from postroomd.storage.protocols.clocks import ClockRecords
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import NOW

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def heartbeat(boot: str, trusted_at: timedelta = timedelta(0), leapt_to: timedelta | None = None) -> WorkerClock:
    return WorkerClock(boot, NOW + trusted_at, NOW - DAY, None if leapt_to is None else NOW + leapt_to)


class ClocksContract:
    """The contract of `Clocks`."""

    async def test_an_empty_database_has_no_heartbeats(self, repository: Repository) -> None:
        records = await repository.clocks.read()
        assert (records.heartbeats, records.acceptance) == ([], None)

    async def test_a_heartbeat_replaces_that_of_its_boot(self, repository: Repository) -> None:
        first, second = heartbeat("first"), heartbeat("second", HOUR)
        for each in (heartbeat("first", -HOUR), second, first):
            await repository.clocks.beat(each, NOW - DAY)
        assert (await repository.clocks.read()).heartbeats == [second, first]

    async def test_heartbeats_of_boots_long_ago_are_removed(self, repository: Repository) -> None:
        for each in (heartbeat("old"), heartbeat("recent", HOUR), heartbeat("own", DAY)):
            await repository.clocks.beat(each, NOW + HOUR)
        assert [each.time_scale for each in (await repository.clocks.read()).heartbeats] == ["own", "recent"]

    async def test_an_acceptance_removes_the_heartbeats_of_unresolved_leaps(self, repository: Repository) -> None:
        trusted = heartbeat("trusted")
        for each in (trusted, heartbeat("leapt", leapt_to=40 * DAY)):
            await repository.clocks.beat(each, NOW - DAY)
        first = await repository.clocks.accept(NOW + HOUR)
        assert await self._read(repository) == ([trusted], first)
        second = await repository.clocks.accept(NOW)
        assert second.id == first.id + 1
        assert await self._read(repository) == ([trusted], second)

    async def test_the_time_of_a_server_is_read_with_the_records(
        self, repository: Repository, request: pytest.FixtureRequest
    ) -> None:
        acceptance = await repository.clocks.accept(NOW)
        time = (await repository.clocks.read()).database_time
        if "sqlite" in request.node.name:
            assert (time, acceptance.database_at) == (None, None)
        else:
            assert time is not None
            assert acceptance.database_at is not None
            assert timedelta(0) <= time - acceptance.database_at < HOUR

    @staticmethod
    async def _read(repository: Repository) -> tuple[list[WorkerClock], ClockAcceptance | None]:
        records: ClockRecords = await repository.clocks.read()
        return list(records.heartbeats), records.acceptance
