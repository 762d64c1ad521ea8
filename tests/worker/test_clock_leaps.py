"""The worker on a system clock that leaps: nothing is purged, renewed or stored until the clock can be trusted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import NotFound
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox
from postroomd.runtime.worker import run
from postroomd.settings import Settings
from postroomd.storage.drivers.postgresql import PostgresqlDriver
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import dump
from tests.support.factories import NOW, Tenant, new_domain, new_mailboxes
from tests.support.leaping_clock import LeapingClock
from tests.support.metrics import scrape_tests
from tests.support.waiting import wait_until
from tests.worker.test_failures import count_responses, store_expired_response

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
CENTURIES = 548 * 365 * DAY
UPTIME = 100 * DAY
PASSES = 5


@dataclass
class RunningWorker:
    """A worker that runs as in `postroom worker`, its clock and its log."""

    clock: LeapingClock
    logs: list[Any]

    async def run_passes(self) -> None:
        """Wait until the worker has run passes after what was changed before."""
        expected = self.clock.passes + PASSES
        await wait_until(lambda: self.clock.passes >= expected)

    async def catch_up(self) -> None:
        """Wait until the worker has done all that is due."""
        expected = self.clock.caught_up + 2
        await wait_until(lambda: self.clock.caught_up >= expected)

    def leaps(self) -> list[str]:
        """The kinds of the leaps that were logged as errors."""
        return [each["kind"] for each in self.logs if each["log_level"] == "error"]


@asynccontextmanager
async def running_worker(url: str, clock: LeapingClock) -> AsyncIterator[RunningWorker]:
    stop, started = asyncio.Event(), asyncio.Event()
    settings = Settings(database_url=SecretStr(url), domain_validation="trust")
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(run(settings, stop, started.set, clock))
        try:
            await wait_until(lambda: started.is_set() or task.done())
            yield RunningWorker(clock, logs)
            assert not task.done()
        finally:
            stop.set()
            await task


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeapingClock:
    """A clock that shows NOW, as PostgreSQL's server does. The server's never leaps."""
    clock = LeapingClock(NOW - UPTIME, UPTIME)

    async def server_time(_driver: PostgresqlDriver, _connection: AsyncConnection) -> datetime:
        return clock.booted_at + clock.uptime

    monkeypatch.setattr(PostgresqlDriver, "server_time", server_time)
    return clock


@dataclass
class Contents:
    """What the worker would change: each resource of one kind that is due some time after NOW, or at any time."""

    repository: Repository
    raw: AsyncEngine
    tenant: Tenant
    renewed: Mailbox
    deleted: Mailbox
    deleted_domain: Domain
    validating: Domain

    async def stored(self) -> dict[str, list[Any]]:
        """Return all rows, without the worker's heartbeats and their acceptances."""
        return {name: rows for name, rows in (await dump(self.raw)).items() if "clock" not in name}

    async def is_renewed(self) -> bool:
        mailbox = await self.repository.mailboxes.get(self.tenant.context, self.renewed.id)
        started_at = mailbox.subscription_period_started_at
        return started_at is not None and started_at > NOW

    async def is_purged(self) -> bool:
        try:
            await self.repository.mailboxes.get(self.tenant.context, self.deleted.id)
        except NotFound:
            return True
        return False


async def new_contents(repository: Repository, raw: AsyncEngine, tenant: Tenant) -> Contents:
    domain = await new_domain(repository, tenant)
    renewed, deleted = await new_mailboxes(repository, domain, "renewed", "deleted")
    deletion = partial(_delete, retention=timedelta(days=30))
    deleted = await repository.mailboxes.change(tenant.context, deleted.id, deletion)
    gone = await new_domain(repository, tenant, "deleted.test")
    await new_mailboxes(repository, gone, "ada")
    gone = await repository.domains.delete(tenant.context, gone.id, partial(delete_domain, force=True, now=NOW), NOW)
    validating = await new_domain(repository, tenant, "new.test", DomainStatus.WAITING_VALIDATION)
    rule = partial(begin_validation, now=NOW)
    validating = await repository.domains.begin_validation(tenant.context, validating.id, rule, NOW)
    await store_expired_response(raw, tenant)
    return Contents(repository, raw, tenant, renewed, deleted, gone, validating)


def _delete(mailbox: Mailbox, _domain_status: DomainStatus, retention: timedelta) -> Mailbox:
    return delete_mailbox(mailbox, retention, NOW)


def leap_state() -> tuple[float, Sequence[float]]:
    """Whether the metrics show a leap, and how many of each kind there were."""
    scrape = scrape_tests()
    kinds = ("forward", "backward", "database")
    counts = [scrape.value("postroom_clock_leaps_total", kind=kind) for kind in kinds]
    return scrape.value("postroom_clock_leap"), counts


@pytest.mark.parametrize("off", [40 * DAY, CENTURIES, -40 * DAY], ids=["forward", "centuries", "backward"])
async def test_a_leap_pauses_every_step_until_the_clock_returns(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str, off: timedelta
) -> None:
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
        _, before = leap_state()
        clock.off = off
        await worker.run_passes()
        contents = await new_contents(repository, raw, tenant)
        stored = await contents.stored()
        await worker.run_passes()
        assert await contents.stored() == stored
        kind = "backward" if off < timedelta(0) else "forward"
        assert worker.leaps() == [kind]
        leapt, after = leap_state()
        assert (leapt, sum(after) - sum(before)) == (1, 1)
        clock.off = timedelta(0)
        await worker.catch_up()
        assert leap_state()[0] == 0
        assert (await contents.is_renewed(), await contents.is_purged()) == (False, False)
        assert await count_responses(raw) == 0
        clock.uptime += 31 * DAY  # the retention and the month have passed
        await worker.catch_up()
        assert (await contents.is_renewed(), await contents.is_purged()) == (True, True)
        assert worker.leaps() == [kind]


async def test_an_accepted_leap_ends_the_pause(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str
) -> None:
    contents = await new_contents(repository, raw, tenant)
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
        clock.off = 40 * DAY
        await worker.run_passes()
        await repository.clocks.accept(NOW)  # on a machine whose clock is right
        await worker.run_passes()
        assert (await contents.is_renewed(), await contents.is_purged()) == (False, False)
        await repository.clocks.accept(clock.system_time())
        await worker.catch_up()
        assert (await contents.is_renewed(), await contents.is_purged()) == (True, True)


async def test_a_worker_goes_on_after_a_clock_of_centuries_ahead_is_accepted(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str
) -> None:
    (deleted,) = await new_mailboxes(repository, await new_domain(repository, tenant), "deleted")
    rule = partial(_delete, retention=timedelta(days=30))
    await repository.mailboxes.change(tenant.context, deleted.id, rule)
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
        clock.off = CENTURIES
        await worker.run_passes()
        await repository.clocks.accept(clock.system_time())
        await worker.catch_up()
        with pytest.raises(NotFound):
            await repository.mailboxes.get(tenant.context, deleted.id)


async def test_a_step_back_pauses_until_the_clock_has_caught_up(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str
) -> None:
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
        clock.off = -HOUR
        await worker.run_passes()
        await store_expired_response(raw, tenant)
        clock.uptime += HOUR - 6 * SECOND
        await worker.run_passes()
        assert await count_responses(raw) == 1
        clock.uptime += 6 * SECOND
        await worker.catch_up()
        assert await count_responses(raw) == 0
        assert worker.leaps() == ["backward"]


@pytest.mark.parametrize("off", [40 * DAY, -40 * DAY], ids=["forward", "backward"])
async def test_a_restart_does_not_resolve_a_leap(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str, off: timedelta
) -> None:
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
        clock.off = off
        await worker.run_passes()
    contents = await new_contents(repository, raw, tenant)
    stored = await contents.stored()
    for boot, elapsed in (("first", clock.elapsed()), ("second", SECOND)):
        restarted = LeapingClock(clock.system_time() - elapsed, elapsed, boot)
        async with running_worker(clean_store, restarted) as worker:
            await worker.run_passes()
            assert await contents.stored() == stored
            assert len(worker.leaps()) == 1


async def test_a_leap_while_no_worker_ran_is_found_at_the_start(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str
) -> None:
    contents = await new_contents(repository, raw, tenant)
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
    clock.uptime += DAY
    clock.off = 40 * DAY
    async with running_worker(clean_store, clock) as worker:
        await worker.run_passes()
        assert worker.leaps() == ["forward"]
        assert (await contents.is_renewed(), await contents.is_purged()) == (False, False)


@pytest.mark.parametrize("boot", ["first", "second"])
async def test_a_worker_catches_up_with_a_year_of_downtime(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, clock: LeapingClock, clean_store: str, boot: str
) -> None:
    contents = await new_contents(repository, raw, tenant)
    async with running_worker(clean_store, clock) as worker:
        await worker.catch_up()
    clock.uptime += 365 * DAY
    started = LeapingClock(clock.booted_at, clock.uptime, boot)
    if boot == "second":
        started = LeapingClock(clock.system_time() - SECOND, SECOND, boot)
    async with running_worker(clean_store, started) as worker:
        await worker.catch_up()
        assert worker.leaps() == []
    assert (await contents.is_renewed(), await contents.is_purged()) == (True, True)


async def test_a_clock_far_from_the_servers_is_a_leap_until_it_is_accepted(
    postgresql_store: str, raw: AsyncEngine, repository: Repository, tenant: Tenant, clean_store: str
) -> None:
    if clean_store != postgresql_store:
        return
    contents = await new_contents(repository, raw, tenant)
    stored = await contents.stored()
    clock = LeapingClock(NOW - UPTIME, UPTIME)
    async with running_worker(clean_store, clock) as worker:
        await worker.run_passes()
        assert worker.leaps() == ["database"]
        assert await contents.stored() == stored
        await repository.clocks.accept(clock.system_time())
        await worker.catch_up()
        assert await count_responses(raw) == 0
