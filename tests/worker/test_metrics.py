"""The metrics of the worker and of retried transactions, on both engines."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.clock import Clock
from postroomd.domain.context import Idempotency
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import Provision
from postroomd.domain.records import Finding
from postroomd.storage.opening import open_database
from postroomd.storage.protocols.repository import Repository
from postroomd.worker import loop, steps
from postroomd.worker.backoff import Backoff
from postroomd.worker.probers import Prober, TrustingProber
from postroomd.worker.steps import Worker
from tests.support.factories import NOW, Tenant, mailbox, new_alias, new_domain, new_mailbox, new_mailboxes
from tests.support.lifecycle import FREE, PLATFORM
from tests.support.metrics import Scrape, scrape_tests
from tests.support.stores import Store
from tests.support.worker import drain, drain_steps

DUE = NOW + timedelta(days=40)  # later than a month
STEPS, FAILURES, LOOKED_UP = (
    "postroom_worker_steps_total",
    "postroom_worker_failures_total",
    "postroom_worker_domains_looked_up_total",
)


def increases(before: Scrape, name: str, label: str = "kind") -> dict[str, float]:
    """The increase of each sample of a metric since a scrape, by label."""
    earlier, now = before.nonzero(name, label), scrape_tests().nonzero(name, label)
    return {key[0]: value - earlier.get(key, 0) for key, value in now.items() if value != earlier.get(key)}


def worker_of(repository: Repository, prober: Prober | None = None) -> Worker:
    return Worker(work=repository.work, prober=prober, policy=FREE, administration=repository.administration)


async def validating_domain(repository: Repository, tenant: Tenant) -> Domain:
    domain = await new_domain(repository, tenant, "validating.test", DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, domain.id, partial(begin_validation, now=NOW), NOW)


class FailingProber:
    """A prober that finds no record, or raises."""

    def __init__(self, *, raises: bool = False) -> None:
        self.raises = raises

    async def probe(self, _: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        if self.raises:
            raise RuntimeError
        return dict.fromkeys(records, Finding(RecordStatus.NOT_FOUND, "no record"))


# --- The worker -------------------------------------------------------------------------------------------------------


async def test_steps_are_counted_by_kind(repository: Repository, tenant: Tenant) -> None:
    before = scrape_tests()
    domain = await validating_domain(repository, tenant)
    ada, _ = await new_mailboxes(repository, domain, "ada", "bob")
    worker = worker_of(repository, TrustingProber())
    await drain(worker, NOW)  # the domain becomes ready, and its mailboxes with it
    assert increases(before, LOOKED_UP, "status") == {"provisioning": 1}
    assert increases(before, STEPS) == {"domain_activation": 1, "domain_propagation": 2}
    await drain(worker, NOW)
    assert increases(before, STEPS) == {"domain_activation": 1, "domain_propagation": 2}
    await new_alias(repository, ada, "info")
    await drain_steps(worker, NOW)
    await drain_steps(worker, DUE)  # both are renewed
    taken = {"domain_activation": 1, "domain_propagation": 2, "mailbox": 2}
    assert increases(before, STEPS) == taken
    await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=DUE), DUE)
    await drain_steps(worker, DUE)
    assert increases(before, STEPS) == taken | {"domain_purge": 3}
    assert increases(before, FAILURES) == {}


async def test_looked_up_domains_are_counted_by_their_status(repository: Repository, tenant: Tenant) -> None:
    before = scrape_tests()
    await validating_domain(repository, tenant)
    await drain(worker_of(repository, FailingProber()), NOW)
    assert increases(before, LOOKED_UP, "status") == {"waiting_validation": 1}
    assert increases(before, FAILURES) == {}


async def test_a_prober_that_raises_is_counted_as_a_failure(repository: Repository, tenant: Tenant) -> None:
    before = scrape_tests()
    await validating_domain(repository, tenant)
    await drain(worker_of(repository, FailingProber(raises=True)), NOW)
    assert increases(before, FAILURES) == {"dns_lookup": 1}
    assert increases(before, LOOKED_UP, "status") == {"waiting_validation": 1}


async def test_a_failed_step_is_counted_as_a_failure_only(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scrape_tests()
    failing, _ = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
    advance = repository.work.advance

    async def fail(lease: Any, *arguments: Any) -> bool:
        if lease.mailbox.id == failing.id:
            raise RuntimeError
        return await advance(lease, *arguments)

    monkeypatch.setattr(repository.work, "advance", fail)
    await drain(worker_of(repository), DUE)
    assert increases(before, STEPS) == {"mailbox": 1}
    assert increases(before, FAILURES) == {"mailbox": 1}


async def test_confirmed_and_failed_provisions_are_counted_separately(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = await new_domain(repository, tenant)
    failing, _ = [await new_mailbox(repository, domain, mailbox(name, policy=PLATFORM)) for name in ("ada", "bob")]

    def fail(provision: Provision, *arguments: Any, **others: Any) -> object:
        if provision.mailbox_id == failing.id:
            raise ZeroDivisionError
        return confirm_provision(provision, *arguments, **others)

    before = scrape_tests()
    monkeypatch.setattr(steps, "confirm_provision", fail)
    await worker_of(repository).run_steps(NOW, Backoff())
    assert increases(before, STEPS) == {"provision": 1}
    assert increases(before, FAILURES) == {"provision": 1}


async def test_removed_responses_are_counted(repository: Repository, tenant: Tenant) -> None:
    expires_at = NOW + timedelta(hours=1)
    key = Idempotency(key="a key", digest=b"a digest", encode=lambda _: b"", now=NOW, expires_at=expires_at)
    await new_domain(repository, tenant, idempotency=key)
    before, worker = scrape_tests(), worker_of(repository)
    await drain_steps(worker, NOW)
    assert increases(before, STEPS) == {}
    await drain_steps(worker, NOW + timedelta(hours=1))
    assert increases(before, STEPS) == {"expired_response": 1}


class OnePassClock(Clock):
    """A clock that stands still, and stops the worker when it waits."""

    def __init__(self, now: datetime) -> None:
        self.time = now
        self.stop = asyncio.Event()

    def now(self) -> datetime:
        return self.time

    async def wait(self, *_: Any) -> None:
        self.stop.set()


@pytest.fixture
def lags(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The worker's lag metric at the start of each pass with steps."""
    observed: list[float] = []
    run_steps = Worker.run_steps

    async def observe_lag(worker: Worker, now: datetime, backoff: Backoff) -> int:
        observed.append(scrape_tests().value("postroom_worker_lag_seconds"))
        return await run_steps(worker, now, backoff)

    monkeypatch.setattr(Worker, "run_steps", observe_lag)
    return observed


async def test_the_lag_is_that_of_the_most_overdue_work(
    repository: Repository, tenant: Tenant, lags: list[float]
) -> None:
    await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    (due,) = [(await repository.work.next_due()).steps]
    assert due is not None
    clock = OnePassClock(due + timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [3_600]
    assert scrape_tests().value("postroom_worker_lag_seconds") == 0
    assert scrape_tests().value("postroom_worker_last_run_timestamp_seconds") > due.timestamp()


async def test_work_without_a_due_date_neither_has_nor_hides_a_lag(
    repository: Repository, tenant: Tenant, lags: list[float]
) -> None:
    await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    due = (await repository.work.next_due()).steps
    assert due is not None
    await new_domain(repository, tenant, "provisioning.test", DomainStatus.PROVISIONING)
    clock = OnePassClock(due - timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [0]
    await new_domain(repository, tenant, "another.test", DomainStatus.PROVISIONING)
    clock = OnePassClock(due + timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [0, 3_600]


async def test_a_pass_without_a_database_is_a_failure_and_no_run(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(repository.work, "next_due", fail)
    before, clock = scrape_tests(), OnePassClock(NOW)
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert increases(before, FAILURES) == {"database": 1}
    assert scrape_tests().increase(before, "postroom_worker_last_run_timestamp_seconds") == 0


# --- The storage ------------------------------------------------------------------------------------------------------


class SerializationFailure(Exception):
    """The error of a transaction that conflicts with another."""

    sqlstate = "40001"


async def test_retried_transactions_are_counted(store: Store) -> None:
    before, attempts = scrape_tests(), 0

    async def work(_: AsyncConnection) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise SerializationFailure
        return "done"

    database = open_database(store.url)
    try:
        assert await database.write(work) == "done"
    finally:
        await database.close()
    assert scrape_tests().increase(before, "postroom_transactions_retried_total") == 2
