"""The worker's loop with a backlog: a stop is prompt, and leases start at the current time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from postroomd.clock import Clock
from postroomd.domain.model import Mailbox
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.work import MailboxLease
from postroomd.worker import loop, steps
from postroomd.worker.steps import Worker
from tests.support.factories import NOW, Tenant, new_domain, new_mailboxes
from tests.support.lifecycle import FREE

MAILBOXES = 10
DUE = NOW + timedelta(days=40)
PASS_TIME = timedelta(minutes=1)


class SlowClock(Clock):
    """The clock of a slow machine: each reading is a minute after the last one."""

    def __init__(self) -> None:
        self.time = DUE

    def now(self) -> datetime:
        self.time += PASS_TIME
        return self.time


async def backlog(repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Sequence[Mailbox]:
    """Due mailboxes, of which the worker takes two at a time."""
    monkeypatch.setattr(steps, "BATCH_SIZE", 2)
    return await new_mailboxes(repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(MAILBOXES)))


def run_worker(repository: Repository, stop: asyncio.Event) -> Any:
    """Run a worker until the stop."""
    worker = Worker(work=repository.work, prober=None, policy=FREE)
    return loop.run_loop(worker, stop, SlowClock(), timedelta(hours=1))


async def test_a_stop_does_not_wait_for_the_backlog(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailboxes = await backlog(repository, tenant, monkeypatch)
    stop = asyncio.Event()
    advance = repository.work.advance

    async def advance_and_stop(*arguments: Any) -> bool:
        stop.set()
        return await advance(*arguments)

    monkeypatch.setattr(repository.work, "advance", advance_and_stop)
    await run_worker(repository, stop)
    stored = [await repository.mailboxes.get(tenant.context, mailbox.id) for mailbox in mailboxes]
    renewed = [mailbox for mailbox in stored if mailbox.subscription_period_started_at != NOW]
    assert len(renewed) == 2


async def test_each_batch_is_leased_from_the_current_time(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backlog(repository, tenant, monkeypatch)
    stop, lease_mailboxes = asyncio.Event(), repository.work.lease_mailboxes
    leased_at: list[datetime] = []
    leased: list[MailboxLease] = []

    async def record_leases(now: datetime, *arguments: Any) -> Sequence[MailboxLease]:
        leases = await lease_mailboxes(now, *arguments)
        leased_at.append(now)
        leased.extend(leases)
        if len(leased) == MAILBOXES:
            stop.set()
        return leases

    monkeypatch.setattr(repository.work, "lease_mailboxes", record_leases)
    await run_worker(repository, stop)
    assert len(leased_at) == MAILBOXES / 2
    assert all(later - earlier >= PASS_TIME for earlier, later in pairwise(leased_at))
