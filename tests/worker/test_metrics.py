"""What the worker counts of its work, and the storage of its transactions, on either engine."""

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
from postroomd.worker.probers import Prober, TrustingProber
from postroomd.worker.steps import Worker
from tests.support.factories import NOW, Tenant, mailbox, new_alias, new_domain, new_mailboxes, new_one
from tests.support.lifecycle import FREE, PLATFORM
from tests.support.metrics import Scrape, here
from tests.support.stores import Store

DUE = NOW + timedelta(days=40)  # later than a month
STEPS, FAILURES, LOOKED_UP = (
    "postroom_worker_steps_total",
    "postroom_worker_failures_total",
    "postroom_worker_domains_looked_up_total",
)


def grown(before: Scrape, name: str, label: str = "kind") -> dict[str, float]:
    """By how much the samples of a name have grown since, by label."""
    earlier, now = before.counted(name, label), here().counted(name, label)
    return {key[0]: value - earlier.get(key, 0) for key, value in now.items() if value != earlier.get(key)}


def worker_of(repository: Repository, prober: Prober | None = None) -> Worker:
    return Worker(work=repository.work, prober=prober, policy=FREE, administration=repository.administration)


async def validating(repository: Repository, tenant: Tenant) -> Domain:
    made = await new_domain(repository, tenant, "validating.test", DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, made.id, partial(begin_validation, now=NOW), NOW)


class Blind:
    """A prober that finds nothing, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def probe(self, _: Domain, wanted: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        if self.fails:
            raise RuntimeError
        return dict.fromkeys(wanted, Finding(RecordStatus.NOT_FOUND, "nothing"))


# --- The worker -------------------------------------------------------------------------------------------------------


async def test_steps_are_counted_by_kind(repository: Repository, tenant: Tenant) -> None:
    before = here()
    domain = await validating(repository, tenant)
    ada, _ = await new_mailboxes(repository, domain, "ada", "bob")
    worker = worker_of(repository, TrustingProber())
    await worker.run_once(NOW)  # it becomes ready, and its mailboxes with it
    assert grown(before, LOOKED_UP, "status") == {"provisioning": 1}
    assert grown(before, STEPS) == {"domain_provided": 1, "mailbox": 2}
    await worker.run_once(NOW)
    assert grown(before, STEPS) == {"domain_provided": 1, "mailbox": 2}
    await new_alias(repository, ada, "info")
    await worker.move_once(NOW)
    await worker.move_once(DUE)  # both are renewed
    assert grown(before, STEPS) == {"domain_provided": 1, "mailbox": 4}
    await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, now=DUE), DUE)
    await worker.move_once(DUE)
    assert grown(before, STEPS) == {"domain_provided": 1, "mailbox": 4, "domain_purge": 3}
    assert grown(before, FAILURES) == {}


async def test_domains_looked_up_are_counted_by_what_became_of_them(repository: Repository, tenant: Tenant) -> None:
    before = here()
    await validating(repository, tenant)
    await worker_of(repository, Blind()).run_once(NOW)
    assert grown(before, LOOKED_UP, "status") == {"waiting_validation": 1}
    assert grown(before, FAILURES) == {}


async def test_a_look_up_that_fails_for_a_fault_of_ours_is_counted_as_failed(
    repository: Repository, tenant: Tenant
) -> None:
    before = here()
    await validating(repository, tenant)
    await worker_of(repository, Blind(fails=True)).run_once(NOW)
    assert grown(before, FAILURES) == {"dns_lookup": 1}
    assert grown(before, LOOKED_UP, "status") == {"waiting_validation": 1}


async def test_a_step_that_fails_is_counted_as_failed_and_not_as_done(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = here()
    failing, _ = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
    advance = repository.work.advance

    async def fail(claim: Any, *arguments: Any) -> bool:
        if claim.mailbox.id == failing.id:
            raise RuntimeError
        return await advance(claim, *arguments)

    monkeypatch.setattr(repository.work, "advance", fail)
    await worker_of(repository).run_once(DUE)
    assert grown(before, STEPS) == {"mailbox": 1}
    assert grown(before, FAILURES) == {"mailbox": 1}


async def test_what_is_taken_as_provided_is_counted_and_what_fails_apart(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = await new_domain(repository, tenant)
    failing, _ = [await new_one(repository, within, mailbox(name, policy=PLATFORM)) for name in ("ada", "bob")]

    def faulty(provision: Provision, *arguments: Any, **others: Any) -> object:
        if provision.mailbox_id == failing.id:
            raise ZeroDivisionError
        return confirm_provision(provision, *arguments, **others)

    before = here()
    monkeypatch.setattr(steps, "confirm_provision", faulty)
    await worker_of(repository).move_some(NOW)
    assert grown(before, STEPS) == {"provision": 1}
    assert grown(before, FAILURES) == {"provision": 1}


async def test_answers_that_are_forgotten_are_counted(repository: Repository, tenant: Tenant) -> None:
    expires_at = NOW + timedelta(hours=1)
    key = Idempotency(key="a key", digest=b"a digest", encode=lambda _: b"", now=NOW, expires_at=expires_at)
    await new_domain(repository, tenant, idempotency=key)
    before, worker = here(), worker_of(repository)
    await worker.move_once(NOW)
    assert grown(before, STEPS) == {}
    await worker.move_once(NOW + timedelta(hours=1))
    assert grown(before, STEPS) == {"answer_forgotten": 1}


class OneLook(Clock):
    """A clock that stands still; the worker is stopped when it comes to rest."""

    def __init__(self, now: datetime) -> None:
        self.time = now
        self.stop = asyncio.Event()

    def now(self) -> datetime:
        return self.time

    async def wait(self, *_: Any) -> None:
        self.stop.set()


@pytest.fixture
def lags(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How far behind the worker says that it is, each time that it begins to take steps."""
    seen: list[float] = []
    move = Worker.move_some

    async def moving(*arguments: Any) -> int:
        seen.append(here().value("postroom_worker_lag_seconds"))
        return await move(*arguments)

    monkeypatch.setattr(Worker, "move_some", moving)
    return seen


async def test_the_lag_is_that_of_what_is_most_overdue(
    repository: Repository, tenant: Tenant, lags: list[float]
) -> None:
    await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    (due,) = [(await repository.work.next_due()).steps]
    assert due is not None
    clock = OneLook(due + timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [3_600]
    assert here().value("postroom_worker_lag_seconds") == 0
    assert here().value("postroom_worker_last_run_timestamp_seconds") > due.timestamp()


async def test_what_waits_for_no_instant_is_not_overdue_and_hides_nothing_that_is(
    repository: Repository, tenant: Tenant, lags: list[float]
) -> None:
    await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    due = (await repository.work.next_due()).steps
    assert due is not None
    await new_domain(repository, tenant, "provisioning.test", DomainStatus.PROVISIONING)
    clock = OneLook(due - timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [0]
    await new_domain(repository, tenant, "another.test", DomainStatus.PROVISIONING)
    clock = OneLook(due + timedelta(hours=1))
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert lags == [0, 3_600]


async def test_a_pass_without_a_database_is_counted_and_is_no_good_run(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(**_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(repository.work, "next_due", fail)
    before, clock = here(), OneLook(NOW)
    await loop.run_loop(worker_of(repository), clock.stop, clock, timedelta(hours=1))
    assert grown(before, FAILURES) == {"database": 1}
    assert here().since(before, "postroom_worker_last_run_timestamp_seconds") == 0


# --- The storage ------------------------------------------------------------------------------------------------------


class Lost(Exception):
    """A transaction has lost to another."""

    sqlstate = "40001"


async def test_transactions_begun_again_are_counted(store: Store) -> None:
    before, attempts = here(), 0

    async def work(_: AsyncConnection) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Lost
        return "done"

    database = open_database(store.url)
    try:
        assert await database.write(work) == "done"
    finally:
        await database.close()
    assert here().since(before, "postroom_transactions_retried_total") == 2
