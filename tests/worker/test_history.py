"""The worker removes history after its retention, in batches, and nothing that is still needed."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.clock import Clock
from postroomd.domain.errors import NameTaken
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.policy import Quarantine
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.worker import steps
from postroomd.worker.loop import run_loop
from postroomd.worker.steps import Worker
from tests.support.database_state import check_invariants, count_of, rows_of
from tests.support.factories import NOW, Tenant, mailbox, new_domain, new_mailbox, new_mailboxes
from tests.support.lifecycle import BILLED, FREE, PLATFORM
from tests.support.waiting import wait_until
from tests.support.worker import drain

DAY = timedelta(days=1)
RETENTION = 400 * DAY


class FixedClock(Clock):
    def now(self) -> datetime:
        return NOW + DAY


def worker_of(repository: Repository) -> Worker:
    return Worker(work=repository.work, prober=None, policy=FREE, history_retention=RETENTION)


async def purge(repository: Repository, tenant: Tenant, mailbox_id: str) -> None:
    await repository.mailboxes.change(tenant.context, mailbox_id, lambda it, _: delete_mailbox(it, timedelta(0), NOW))
    await drain(Worker(work=repository.work, prober=None, policy=FREE), NOW)


async def test_history_is_removed_after_its_retention_and_open_work_stays(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    parent = await new_domain(repository, tenant)
    for number, policy in enumerate((FREE, BILLED, PLATFORM)):
        created = await new_mailbox(repository, parent, mailbox(f"purged{number}", policy=policy))
        await purge(repository, tenant, created.id)
    open_payment = await new_mailbox(repository, parent, mailbox("unpaid", policy=BILLED))
    pending = await new_mailbox(repository, parent, mailbox("creating", policy=PLATFORM))
    young = await new_mailbox(repository, parent, mailbox("young", now=NOW + 2 * DAY))
    worker = worker_of(repository)

    async def removed(after: timedelta) -> int:
        return await repository.work.remove_history(NOW + after - RETENTION, 1_000)

    assert await removed(RETENTION - DAY) == 0
    before = (await worker.next_due()).steps
    assert before is not None
    assert before <= NOW + RETENTION + timedelta(hours=1)
    assert await removed(RETENTION) > 0
    assert await count_of(raw, t.tombstones) == 0
    assert await count_of(raw, t.domain_transitions) == 0
    assert await rows_of(raw, select(t.transitions.c.mailbox_id)) == [(young.id,)]
    assert await rows_of(raw, select(t.payments.c.mailbox_id)) == [(open_payment.id,)]
    assert await rows_of(raw, select(t.provisions.c.mailbox_id)) == [(pending.id,)]
    assert await removed(RETENTION) == 0
    await check_invariants(raw)


async def test_a_tombstone_in_retention_keeps_its_address_in_quarantine(repository: Repository, tenant: Tenant) -> None:
    parent = await new_domain(repository, tenant)
    (ann,) = await new_mailboxes(repository, parent, "ann")
    await purge(repository, tenant, ann.id)
    last = NOW + RETENTION - timedelta(seconds=1)
    await repository.work.remove_history(last - RETENTION, 1_000)
    with pytest.raises(NameTaken):
        await repository.mailboxes.create(tenant.context, parent.id, [mailbox("ann")], Quarantine(RETENTION, last))


async def test_the_worker_removes_history_in_bounded_batches(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await new_domain(repository, tenant)
    (ann,) = await new_mailboxes(repository, parent, "ann")
    monkeypatch.setattr(steps, "BATCH_SIZE", 10)
    async with raw.begin() as connection:
        row = (await connection.execute(select(t.transitions))).one()._asdict()
        rows = [{**row, "revision": number, "at": NOW - 1_000 * DAY} for number in range(1_000, 1_035)]
        await connection.execute(insert(t.transitions), rows)
    batches: list[int] = []
    remove = repository.work.remove_history

    async def recorded(until: object, limit: int) -> int:
        batches.append(await remove(until, limit))  # type: ignore[arg-type]
        return batches[-1]

    monkeypatch.setattr(repository.work, "remove_history", recorded)
    stop = asyncio.Event()
    running = asyncio.create_task(run_loop(worker_of(repository), stop, FixedClock(), timedelta(milliseconds=10)))
    await wait_until(lambda: sum(batches) >= 35)
    stop.set()
    await running
    assert max(batches) == 10
    assert await rows_of(raw, select(t.transitions.c.mailbox_id)) == [(ann.id,)]


async def test_the_worker_removes_audit_events_by_a_retention_of_their_own(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    await new_domain(repository, tenant)
    worker = Worker(work=repository.work, prober=None, policy=FREE, audit_retention=RETENTION)
    await drain(worker, NOW + RETENTION - DAY)
    assert await count_of(raw, t.audit_events) == 1
    await drain(worker, NOW + RETENTION + timedelta(hours=1))
    assert await count_of(raw, t.audit_events) == 0
    assert await count_of(raw, t.domain_transitions) == 1
