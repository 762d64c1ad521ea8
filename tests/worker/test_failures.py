"""Unexpected failures of the running worker: that of one row, or of one kind of step, delays nothing else.

The faults are injected into the database: a trigger that rejects a row, a row that can't be decoded, a missing table.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import Table, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.clock import Clock
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.model import Domain, DomainStatus, Mailbox
from postroomd.runtime.worker import run
from postroomd.settings import Settings
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.backoff import FIRST_RETRY
from tests.support.database_state import rows_of
from tests.support.factories import NOW, Tenant, new_domain, new_id, new_mailboxes
from tests.support.waiting import wait_until

DUE = NOW + timedelta(days=40)
PASSES = 20


class ManualClock(Clock):
    """A clock that the test advances. Waiting by it takes a millisecond."""

    def __init__(self) -> None:
        self.time = DUE
        self.settled: datetime | None = None
        self.waits: list[float] = []

    def now(self) -> datetime:
        return self.time

    def mark_caught_up(self, now: datetime) -> None:
        self.settled = now

    async def wait(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        self.waits.append(seconds)
        await super().wait(events, 0.001)


@dataclass
class RunningWorker:
    """A worker that runs as in `postroom worker`, its clock, its log and the injected fault."""

    clock: ManualClock
    logs: list[Any]
    faults: AsyncExitStack

    async def remove_fault(self) -> None:
        await self.faults.aclose()

    def failures(self) -> list[tuple[str, str | None, int]]:
        """The logged failures: kind, id of the row, and number of consecutive failures."""
        failed = [each for each in self.logs if each["event"] == "step failed"]
        return [(each["kind"], each.get("row_id", each.get("domain_id")), each["failures"]) for each in failed]

    async def advance(self, by: timedelta) -> None:
        """Advance the clock, and wait until the worker has done all that it can."""
        self.clock.time += by
        await wait_until(lambda: self.clock.settled == self.clock.time)

    async def run_passes(self) -> None:
        """Wait until the worker has polled PASSES times."""
        expected = len(self.clock.waits) + PASSES
        await wait_until(lambda: len(self.clock.waits) >= expected)


@asynccontextmanager
async def running_worker(
    url: str, fault: AbstractAsyncContextManager[None] | None = None
) -> AsyncIterator[RunningWorker]:
    """Run a worker over a database with a fault, and yield it once it has done all that it can."""
    stop, clock = asyncio.Event(), ManualClock()
    settings = Settings(database_url=SecretStr(url), domain_validation="trust")
    async with AsyncExitStack() as faults:
        if fault:
            await faults.enter_async_context(fault)
        with structlog.testing.capture_logs() as logs:
            task = asyncio.create_task(run(settings, stop, lambda: None, clock))
            try:
                await wait_until(lambda: clock.settled == clock.time or task.done())
                yield RunningWorker(clock, logs, faults)
                assert not task.done()
            finally:
                stop.set()
                await task
    assert all(seconds > 0 for seconds in clock.waits)


@asynccontextmanager
async def rejecting(raw: AsyncEngine, event: str, table: Table, condition: str = "true") -> AsyncIterator[None]:
    """Make the database reject an UPDATE or DELETE of rows that meet a condition on OLD."""
    name = f"fault_{new_id().replace('-', '')}"
    if raw.dialect.name == "sqlite":
        body = "BEGIN SELECT RAISE(ABORT, 'a fault'); END"
        creating = [f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} {body}"]
        dropping = [f"DROP TRIGGER {name}"]
    else:
        body = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a fault'; END $$"
        creating = [
            f"CREATE FUNCTION {name}() RETURNS trigger {body}",
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION {name}()",
        ]
        dropping = [f"DROP TRIGGER {name} ON {table}", f"DROP FUNCTION {name}"]
    await execute(raw, *map(text, creating))
    try:
        yield
    finally:
        await execute(raw, *map(text, dropping))


async def execute(raw: AsyncEngine, *statements: Any) -> None:
    async with raw.begin() as connection:
        for statement in statements:
            await connection.execute(statement)


def row(model: Domain | Mailbox) -> str:
    return f"OLD.id = '{model.id}'"


async def are_renewed(repository: Repository, tenant: Tenant, mailboxes: Iterable[Mailbox]) -> list[bool]:
    """Whether each mailbox is in its next period."""
    stored = [await repository.mailboxes.get(tenant.context, mailbox.id) for mailbox in mailboxes]
    return [mailbox.subscription_period_started_at != NOW for mailbox in stored]


async def statuses(raw: AsyncEngine, *domains: Domain) -> list[DomainStatus | None]:
    """The status of each domain; None if it is purged."""
    found: dict[str, DomainStatus] = dict(await rows_of(raw, select(t.domains.c.id, t.domains.c.status)))
    return [found.get(each.id) for each in domains]


async def store_expired_response(raw: AsyncEngine, tenant: Tenant) -> None:
    """Store the response of an idempotency key that has expired."""
    await execute(
        raw,
        insert(t.idempotency_keys).values(
            organization_id=tenant.organization.id,
            project_scope="",
            key=new_id(),
            digest=b"0" * 32,
            answer=b"",
            expires_at=NOW,
        ),
    )


async def count_responses(raw: AsyncEngine) -> int:
    return len(await rows_of(raw, select(t.idempotency_keys.c.key)))


async def deleted_domain(repository: Repository, tenant: Tenant, name: str) -> Domain:
    """A deleted domain with mailboxes, all of them to be purged."""
    domain = await new_domain(repository, tenant, name)
    await new_mailboxes(repository, domain, "ada", "bob")
    return await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)


async def validating_domain(repository: Repository, tenant: Tenant, name: str) -> Domain:
    """A domain whose lookup is due."""
    domain = await new_domain(repository, tenant, name, DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, domain.id, partial(begin_validation, now=NOW), NOW)


async def test_a_mailbox_that_can_not_be_leased_delays_no_other(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    mailboxes = await new_mailboxes(repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(5)))
    failing = mailboxes[2]
    others = [each for each in mailboxes if each is not failing]
    await store_expired_response(raw, tenant)
    async with running_worker(clean_store, rejecting(raw, "UPDATE", t.mailboxes, row(failing))) as worker:
        await worker.run_passes()
        assert await are_renewed(repository, tenant, others) == [True] * 4
        assert await are_renewed(repository, tenant, [failing]) == [False]
        assert await count_responses(raw) == 0
        assert worker.failures() == [("mailbox", failing.id, 1)]
        await worker.remove_fault()
        await worker.advance(FIRST_RETRY)
        assert await are_renewed(repository, tenant, [failing]) == [True]


async def test_a_mailbox_that_can_not_be_read_delays_no_other(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    failing, *others = await new_mailboxes(
        repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(5))
    )
    set_status = "UPDATE mailboxes SET status = '{}' WHERE id = '{}'"
    await execute(raw, text(set_status.format("unknown_to_this_release", failing.id)))
    async with running_worker(clean_store) as worker:
        await worker.run_passes()
        assert await are_renewed(repository, tenant, others) == [True] * 4
        assert worker.failures() == [("mailbox", failing.id, 1)]
        await execute(raw, text(set_status.format("ready", failing.id)))
        await worker.advance(FIRST_RETRY)
        assert await are_renewed(repository, tenant, [failing]) == [True]


@pytest.mark.parametrize("event", ["UPDATE", "DELETE"])
async def test_a_domain_that_can_not_be_purged_delays_no_other(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str, event: str
) -> None:
    domains = [await deleted_domain(repository, tenant, f"deleted{n}.test") for n in range(3)]
    failing = domains[0]
    table, condition = (
        (t.domains, row(failing)) if event == "UPDATE" else (t.mailboxes, f"OLD.domain_id = '{failing.id}'")
    )
    async with running_worker(clean_store, rejecting(raw, event, table, condition)) as worker:
        await worker.run_passes()
        assert await statuses(raw, *domains) == [DomainStatus.DELETING, None, None]
        assert worker.failures() == [("domain_purge", failing.id, 1)]
        await worker.remove_fault()
        await worker.advance(FIRST_RETRY)
        assert await statuses(raw, failing) == [None]


async def test_a_domain_that_can_not_be_activated_delays_no_other(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    domains = [await new_domain(repository, tenant, f"new{n}.test", DomainStatus.PROVISIONING) for n in range(3)]
    failing = domains[1]
    async with running_worker(clean_store, rejecting(raw, "UPDATE", t.domains, row(failing))) as worker:
        await worker.run_passes()
        assert await statuses(raw, *domains) == [DomainStatus.READY, DomainStatus.PROVISIONING, DomainStatus.READY]
        assert worker.failures() == [("domain_activation", failing.id, 1)]
        await worker.remove_fault()
        await worker.advance(FIRST_RETRY)
        assert await statuses(raw, failing) == [DomainStatus.READY]


@pytest.mark.parametrize("table", [t.domains, t.domain_records], ids=["leased", "settled"])
async def test_a_lookup_that_can_not_be_stored_delays_no_other(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str, table: Table
) -> None:
    domains = [await validating_domain(repository, tenant, f"new{n}.test") for n in range(3)]
    failing = domains[1]
    condition = row(failing) if table is t.domains else f"OLD.domain_id = '{failing.id}'"
    async with running_worker(clean_store, rejecting(raw, "UPDATE", table, condition)) as worker:
        await wait_until(worker.failures)
        await wait_until(lambda: is_ready(raw, domains[0], domains[2]))
        await worker.run_passes()
        assert await statuses(raw, *domains) == [DomainStatus.READY, DomainStatus.VALIDATING, DomainStatus.READY]
        assert worker.failures() == [("dns_lookup", failing.id, 1)]
        await worker.remove_fault()
        await worker.advance(FIRST_RETRY)
        await wait_until(lambda: is_ready(raw, failing))


async def exists(raw: AsyncEngine, table: str) -> bool:
    async with raw.connect() as connection:
        return await connection.run_sync(lambda each: inspect(each).has_table(table))


async def is_ready(raw: AsyncEngine, *domains: Domain) -> bool:
    return set(await statuses(raw, *domains)) == {DomainStatus.READY}


async def test_a_failing_kind_backs_off_while_the_others_go_on(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    deleted = await deleted_domain(repository, tenant, "deleted.test")
    mailboxes = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    await store_expired_response(raw, tenant)
    kind = "expired_response"
    async with running_worker(clean_store, rejecting(raw, "DELETE", t.idempotency_keys)) as worker:
        await worker.run_passes()
        assert await are_renewed(repository, tenant, mailboxes) == [True]
        assert await statuses(raw, deleted) == [None]
        assert worker.failures() == [(kind, None, 1)]
        await worker.advance(FIRST_RETRY)
        assert worker.failures() == [(kind, None, 1), (kind, None, 2)]
        await worker.advance(FIRST_RETRY)
        await worker.run_passes()
        assert len(worker.failures()) == 2
        await worker.advance(FIRST_RETRY)
        assert worker.failures()[2:] == [(kind, None, 3)]
        assert await count_responses(raw) == 1
        await worker.remove_fault()
        await worker.advance(4 * FIRST_RETRY)
        assert await count_responses(raw) == 0
        assert [each["kind"] for each in worker.logs if each["event"] == "steps resumed"] == [kind]


async def test_every_kind_is_tried_if_the_poll_fails(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    mailboxes = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    validating = await validating_domain(repository, tenant, "new.test")
    hide, restore = "ALTER TABLE idempotency_keys RENAME TO hidden", "ALTER TABLE hidden RENAME TO idempotency_keys"
    await execute(raw, text(hide))
    try:
        async with running_worker(clean_store) as worker:
            await worker.run_passes()
            assert await are_renewed(repository, tenant, mailboxes) == [True]
            await wait_until(lambda: is_ready(raw, validating))
            assert {kind for kind, _, _ in worker.failures()} == {"poll", "expired_response"}
            await execute(raw, text(restore))
            await worker.advance(4 * FIRST_RETRY)
            await worker.run_passes()
            again = [each["kind"] for each in worker.logs if each["event"] == "steps resumed"]
            assert again == ["poll"]  # there is no response to remove
    finally:
        if not await exists(raw, "idempotency_keys"):
            await execute(raw, text(restore))
