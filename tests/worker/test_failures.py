"""A worker outlasts what it did not expect: one row's fault, or one kind of step's, keeps nothing else waiting.

Faults are the database's own: a trigger that refuses a row, a row that nobody can read, a table that is away.
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
from tests.support.factories import NOW, Tenant, new_domain, new_id, new_mailboxes
from tests.support.stored import eventually, rows_of

DUE = NOW + timedelta(days=40)
ROUNDS = 20


class StillClock(Clock):
    """Stands still until it is moved on. Whoever rests by it waits for moments."""

    def __init__(self) -> None:
        self.time = DUE
        self.settled: datetime | None = None
        self.rests: list[float] = []

    def now(self) -> datetime:
        return self.time

    def mark_caught_up(self, now: datetime) -> None:
        self.settled = now

    async def wait(self, events: Iterable[asyncio.Future[Any]], seconds: float) -> None:
        self.rests.append(seconds)
        await super().wait(events, 0.001)


@dataclass
class Running:
    """A worker at work, as `postroom worker` has one, and what it logs."""

    clock: StillClock
    logs: list[Any]
    faults: AsyncExitStack

    async def lift_fault(self) -> None:
        """Make what was refused possible."""
        await self.faults.aclose()

    def failures(self) -> list[tuple[str, str | None, int]]:
        """What has failed: kind, row, and how often in a row by then."""
        failed = [each for each in self.logs if each["event"] == "step failed"]
        return [(each["kind"], each.get("row_id", each.get("domain_id")), each["failures"]) for each in failed]

    async def pass_time(self, by: timedelta) -> None:
        """Move the time on, and wait until all is done that can be."""
        self.clock.time += by
        await eventually(lambda: self.clock.settled == self.clock.time)

    async def rounds(self) -> None:
        """Wait until the worker has looked for work many times."""
        wanted = len(self.clock.rests) + ROUNDS
        await eventually(lambda: len(self.clock.rests) >= wanted)


@asynccontextmanager
async def worker_on(url: str, fault: AbstractAsyncContextManager[None] | None = None) -> AsyncIterator[Running]:
    """A worker over a database that has a fault, once it has done all that can be done. It is stopped at the end."""
    stop, clock = asyncio.Event(), StillClock()
    settings = Settings(database_url=SecretStr(url), domain_validation="trust")
    async with AsyncExitStack() as faults:
        if fault:
            await faults.enter_async_context(fault)
        with structlog.testing.capture_logs() as logs:
            working = asyncio.create_task(run(settings, stop, lambda: None, clock))
            try:
                await eventually(lambda: clock.settled == clock.time or working.done())
                yield Running(clock, logs, faults)
                assert not working.done()
            finally:
                stop.set()
                await working
    assert all(seconds > 0 for seconds in clock.rests)


@asynccontextmanager
async def refused(raw: AsyncEngine, event: str, table: Table, condition: str = "true") -> AsyncIterator[None]:
    """The database refuses to UPDATE or DELETE the rows that meet a condition, on OLD."""
    name = f"fault_{new_id().replace('-', '')}"
    if raw.dialect.name == "sqlite":
        body = "BEGIN SELECT RAISE(ABORT, 'a fault'); END"
        making = [f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition} {body}"]
        lifting = [f"DROP TRIGGER {name}"]
    else:
        body = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a fault'; END $$"
        making = [
            f"CREATE FUNCTION {name}() RETURNS trigger {body}",
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW WHEN ({condition})"
            f" EXECUTE FUNCTION {name}()",
        ]
        lifting = [f"DROP TRIGGER {name} ON {table}", f"DROP FUNCTION {name}"]
    await execute(raw, *map(text, making))
    try:
        yield
    finally:
        await execute(raw, *map(text, lifting))


async def execute(raw: AsyncEngine, *statements: Any) -> None:
    async with raw.begin() as connection:
        for statement in statements:
            await connection.execute(statement)


def row(model: Domain | Mailbox) -> str:
    return f"OLD.id = '{model.id}'"


async def renewed(repository: Repository, tenant: Tenant, mailboxes: Iterable[Mailbox]) -> list[bool]:
    """Whether each of some mailboxes is in its next period."""
    found = [await repository.mailboxes.get(tenant.context, each.id) for each in mailboxes]
    return [each.subscription_period_started_at > NOW for each in found]


async def statuses(raw: AsyncEngine, *domains: Domain) -> list[DomainStatus | None]:
    """The status of each of some domains; None where it is gone."""
    found: dict[str, DomainStatus] = dict(await rows_of(raw, select(t.domains.c.id, t.domains.c.status)))
    return [found.get(each.id) for each in domains]


async def keep_answer(raw: AsyncEngine, tenant: Tenant) -> None:
    """An answer under an idempotency key, which has expired."""
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


async def answers(raw: AsyncEngine) -> int:
    return len(await rows_of(raw, select(t.idempotency_keys.c.key)))


async def going_domain(repository: Repository, tenant: Tenant, name: str) -> Domain:
    """A domain with mailboxes that has been deleted, and is to be purged."""
    made = await new_domain(repository, tenant, name)
    await new_mailboxes(repository, made, "ada", "bob")
    return await repository.domains.delete(tenant.context, made.id, partial(delete_domain, now=NOW), NOW)


async def validating_domain(repository: Repository, tenant: Tenant, name: str) -> Domain:
    """A domain whose records are to be looked up."""
    made = await new_domain(repository, tenant, name, DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, made.id, partial(begin_validation, now=NOW), NOW)


async def test_a_mailbox_that_cannot_be_claimed_keeps_nobody_elses_renewal_waiting(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    made = await new_mailboxes(repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(5)))
    bad = made[2]
    others = [each for each in made if each is not bad]
    await keep_answer(raw, tenant)
    async with worker_on(clean_store, refused(raw, "UPDATE", t.mailboxes, row(bad))) as worker:
        await worker.rounds()
        assert await renewed(repository, tenant, others) == [True] * 4
        assert await renewed(repository, tenant, [bad]) == [False]
        assert await answers(raw) == 0
        assert worker.failures() == [("mailbox", bad.id, 1)]
        await worker.lift_fault()
        await worker.pass_time(FIRST_RETRY)
        assert await renewed(repository, tenant, [bad]) == [True]


async def test_a_mailbox_that_cannot_be_read_keeps_nobody_elses_renewal_waiting(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    bad, *others = await new_mailboxes(repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(5)))
    its_status = "UPDATE mailboxes SET status = '{}' WHERE id = '{}'"
    await execute(raw, text(its_status.format("of a later release", bad.id)))
    async with worker_on(clean_store) as worker:
        await worker.rounds()
        assert await renewed(repository, tenant, others) == [True] * 4
        assert worker.failures() == [("mailbox", bad.id, 1)]
        await execute(raw, text(its_status.format("ready", bad.id)))
        await worker.pass_time(FIRST_RETRY)
        assert await renewed(repository, tenant, [bad]) == [True]


@pytest.mark.parametrize("event", ["UPDATE", "DELETE"])
async def test_a_domain_that_cannot_be_purged_keeps_no_other_from_it(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str, event: str
) -> None:
    domains = [await going_domain(repository, tenant, f"going{n}.test") for n in range(3)]
    bad = domains[0]
    table, condition = (t.domains, row(bad)) if event == "UPDATE" else (t.mailboxes, f"OLD.domain_id = '{bad.id}'")
    async with worker_on(clean_store, refused(raw, event, table, condition)) as worker:
        await worker.rounds()
        assert await statuses(raw, *domains) == [DomainStatus.DELETING, None, None]
        assert worker.failures() == [("domain_purge", bad.id, 1)]
        await worker.lift_fault()
        await worker.pass_time(FIRST_RETRY)
        assert await statuses(raw, bad) == [None]


async def test_a_domain_that_cannot_be_taken_into_use_keeps_no_other_from_it(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    domains = [await new_domain(repository, tenant, f"new{n}.test", DomainStatus.PROVISIONING) for n in range(3)]
    bad = domains[1]
    async with worker_on(clean_store, refused(raw, "UPDATE", t.domains, row(bad))) as worker:
        await worker.rounds()
        assert await statuses(raw, *domains) == [DomainStatus.READY, DomainStatus.PROVISIONING, DomainStatus.READY]
        assert worker.failures() == [("domain_provided", bad.id, 1)]
        await worker.lift_fault()
        await worker.pass_time(FIRST_RETRY)
        assert await statuses(raw, bad) == [DomainStatus.READY]


@pytest.mark.parametrize("table", [t.domains, t.domain_records], ids=["claimed", "settled"])
async def test_a_domain_whose_look_up_cannot_be_stored_keeps_no_other_from_it(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str, table: Table
) -> None:
    domains = [await validating_domain(repository, tenant, f"new{n}.test") for n in range(3)]
    bad = domains[1]
    condition = row(bad) if table is t.domains else f"OLD.domain_id = '{bad.id}'"
    async with worker_on(clean_store, refused(raw, "UPDATE", table, condition)) as worker:
        await worker.rounds()
        assert await statuses(raw, *domains) == [DomainStatus.READY, DomainStatus.VALIDATING, DomainStatus.READY]
        assert worker.failures() == [("dns_lookup", bad.id, 1)]
        await worker.lift_fault()
        await worker.pass_time(FIRST_RETRY)
        await eventually(lambda: is_ready(raw, bad))


async def exists(raw: AsyncEngine, table: str) -> bool:
    async with raw.connect() as connection:
        return await connection.run_sync(lambda each: inspect(each).has_table(table))


async def is_ready(raw: AsyncEngine, domain: Domain) -> bool:
    return await statuses(raw, domain) == [DomainStatus.READY]


async def test_a_kind_of_step_that_fails_rests_ever_longer_while_the_others_go_on(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    going = await going_domain(repository, tenant, "going.test")
    made = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    await keep_answer(raw, tenant)
    kind = "answer_forgotten"
    async with worker_on(clean_store, refused(raw, "DELETE", t.idempotency_keys)) as worker:
        await worker.rounds()
        assert await renewed(repository, tenant, made) == [True]
        assert await statuses(raw, going) == [None]
        assert worker.failures() == [(kind, None, 1)]
        await worker.pass_time(FIRST_RETRY)
        assert worker.failures() == [(kind, None, 1), (kind, None, 2)]
        await worker.pass_time(FIRST_RETRY)
        await worker.rounds()
        assert len(worker.failures()) == 2
        await worker.pass_time(FIRST_RETRY)
        assert worker.failures()[2:] == [(kind, None, 3)]
        assert await answers(raw) == 1
        await worker.lift_fault()
        await worker.pass_time(4 * FIRST_RETRY)
        assert await answers(raw) == 0
        assert [each["kind"] for each in worker.logs if each["event"] == "steps are taken again"] == [kind]


async def test_where_it_cannot_be_looked_for_work_all_is_tried(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, clean_store: str
) -> None:
    made = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
    validating = await validating_domain(repository, tenant, "new.test")
    away, back = "ALTER TABLE idempotency_keys RENAME TO away", "ALTER TABLE away RENAME TO idempotency_keys"
    await execute(raw, text(away))
    try:
        async with worker_on(clean_store) as worker:
            await worker.rounds()
            assert await renewed(repository, tenant, made) == [True]
            await eventually(lambda: is_ready(raw, validating))
            assert {kind for kind, _, _ in worker.failures()} == {"poll", "answer_forgotten"}
            await execute(raw, text(back))
            await worker.pass_time(4 * FIRST_RETRY)
            await worker.rounds()
            again = [each["kind"] for each in worker.logs if each["event"] == "steps are taken again"]
            assert again == ["poll"]  # there is nothing to forget
    finally:
        if not await exists(raw, "idempotency_keys"):
            await execute(raw, text(back))
