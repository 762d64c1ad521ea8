"""The worker's loop over much that is due: it heeds a stop, and leases from the time that it is."""

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
CALL_TAKES = timedelta(minutes=1)


class BusyClock(Clock):
    """Of a machine that is busy: whenever somebody looks at it, a minute has passed."""

    def __init__(self) -> None:
        self.time = DUE

    def now(self) -> datetime:
        self.time += CALL_TAKES
        return self.time


async def backlog(repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Sequence[Mailbox]:
    """Mailboxes that are due, of which a worker takes two at a time."""
    monkeypatch.setattr(steps, "CHUNK", 2)
    return await new_mailboxes(repository, await new_domain(repository, tenant), *(f"m{n}" for n in range(MAILBOXES)))


def working(repository: Repository, stop: asyncio.Event) -> Any:
    """A worker at work until a stop."""
    worker = Worker(work=repository.work, prober=None, policy=FREE)
    return loop.run_loop(worker, stop, BusyClock(), timedelta(hours=1))


async def test_a_stop_is_heeded_with_much_still_to_do(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await backlog(repository, tenant, monkeypatch)
    stop = asyncio.Event()
    advance = repository.work.advance

    async def stopping(*arguments: Any) -> bool:
        stop.set()
        return await advance(*arguments)

    monkeypatch.setattr(repository.work, "advance", stopping)
    await working(repository, stop)
    found = [await repository.mailboxes.get(tenant.context, one.id) for one in made]
    renewed = [one for one in found if one.subscription_period_started_at > NOW]
    assert len(renewed) == 2


async def test_a_lease_runs_from_the_time_that_it_is(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backlog(repository, tenant, monkeypatch)
    stop, claim = asyncio.Event(), repository.work.lease_mailboxes
    claimed_at: list[datetime] = []
    claimed: list[MailboxLease] = []

    async def claiming(now: datetime, *arguments: Any) -> Sequence[MailboxLease]:
        claims = await claim(now, *arguments)
        claimed_at.append(now)
        claimed.extend(claims)
        if len(claimed) == MAILBOXES:
            stop.set()
        return claims

    monkeypatch.setattr(repository.work, "lease_mailboxes", claiming)
    await working(repository, stop)
    assert len(claimed_at) == MAILBOXES / 2
    assert all(later - earlier >= CALL_TAKES for earlier, later in pairwise(claimed_at))
