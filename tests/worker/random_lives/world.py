"""A small world to be lived in at random: one tenant, a few names, workers that crash, and a simple model beside it.

The model knows of each mailbox what its owner was told: when it may go at the earliest, and which periods it has had.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import PostroomError
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import Payment, confirm_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import Provision
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.rules import MailboxRule
from postroomd.storage.protocols.work import Due
from postroomd.storage.sql.rows import columns_of, made
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import LEASE, Worker
from tests.support.factories import NOW, OPERATOR, Tenant, new_domain, new_tenant
from tests.support.stored import check_invariants
from tests.support.worker import drain

M, P = MailboxStatus, SubscriptionPeriod
FAR = timedelta(days=4_000)

Result = TypeVar("Result")


class Crash(BaseException):
    """The end of a worker in the middle of its work."""


@contextmanager
def crashing(after: int | None) -> Iterator[None]:
    """End whoever executes the statement with this number, from 0, as if it were no more."""
    left = after

    def executing(*_: object) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                left = None
                raise Crash

    event.listen(Engine, "before_cursor_execute", executing)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", executing)


@dataclass
class World:
    """What is stored, who works on it, what time it is, and what the model knows."""

    repositories: Sequence[Repository]
    raw: AsyncEngine
    policy: LifecyclePolicy
    now: datetime = NOW
    tenant: Tenant = field(init=False)
    domains: list[Domain] = field(default_factory=list)
    living: dict[str, Mailbox] = field(default_factory=dict)
    periods: set[tuple[str, datetime]] = field(default_factory=set)

    async def begin(self) -> None:
        """Empty the database, and register a domain that is ready and one that is not."""
        async with self.raw.begin() as connection:
            for table in reversed(t.metadata.sorted_tables):
                await connection.execute(text(f"DELETE FROM {table.name}"))
        self.tenant = await new_tenant(self.repository, quota=8)
        for name, status in (("a.test", DomainStatus.READY), ("b.test", DomainStatus.WAITING_VALIDATION)):
            self.domains.append(await new_domain(self.repository, self.tenant, name, status, now=self.now))

    @property
    def repository(self) -> Repository:
        return self.repositories[0]

    # --- What people do -----------------------------------------------------------------------------------------------

    async def attempt(self, call: Awaitable[Result]) -> Result | PostroomError:
        """What a call answers, or is refused with."""
        try:
            return await call
        except PostroomError as refusal:
            return refusal

    async def change(self, mailbox: Mailbox, rule: MailboxRule) -> Mailbox | PostroomError:
        return await self.attempt(self.repository.mailboxes.change(self.tenant.context, mailbox.id, rule))

    async def found(self, mailbox_id: str) -> Mailbox | None:
        """A mailbox as it is now, if it is."""
        found = await self.attempt(self.repository.mailboxes.get(self.tenant.context, mailbox_id))
        if isinstance(found, Mailbox):
            self.learn(found)
            return found
        return None

    async def validate(self, domain: Domain) -> None:
        rule = partial(begin_validation, now=self.now)
        await self.attempt(self.repository.domains.begin_validation(self.tenant.context, domain.id, rule, self.now))

    async def delete_domain(self, domain: Domain) -> None:
        rule = partial(delete_domain, now=self.now)
        await self.attempt(self.repository.domains.delete(self.tenant.context, domain.id, rule, self.now))

    async def unpaid(self) -> Sequence[Payment]:
        return (await self.repository.administration.pending_payments("", 100)).items

    async def undone(self) -> Sequence[Provision]:
        return (await self.repository.administration.pending_provisions(self.now + FAR, "", 100)).items

    def learn(self, mailbox: Mailbox) -> None:
        """Take in what a call has answered of a mailbox."""
        self.living[mailbox.id] = mailbox
        if mailbox.subscription_period is not P.CANCELED:
            self.periods.add((mailbox.id, mailbox.subscription_period_started_at))

    # --- What happens by itself ---------------------------------------------------------------------------------------

    async def work(self, workers: int = 1, crash_after: int | None = None) -> None:
        """Have workers do what is due, all at once; one of them may crash."""
        with crashing(crash_after):
            outcomes = await asyncio.gather(
                *(self._work(repository) for repository in self.repositories[:workers]), return_exceptions=True
            )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Crash):
                raise outcome

    async def _work(self, repository: Repository) -> None:
        if self._is_due(await repository.work.next_due()):
            await drain(Worker(work=repository.work, prober=TrustingProber(), policy=self.policy), self.now)

    def _is_due(self, due: Due) -> bool:
        return due.has_lookups(self.now) or due.has_steps(self.now)

    # --- What must hold -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Hold all that is stored against the model, and learn what is new."""
        await check_invariants(self.raw)
        async with self.raw.connect() as connection:
            rows = (await connection.execute(select(*columns_of(Mailbox, t.mailboxes)))).all()
            domains = {
                row.id: row.status for row in await connection.execute(select(t.domains.c.id, t.domains.c.status))
            }
            payments = (await connection.execute(select(t.payments))).all()
            pending = set((await connection.execute(select(t.provisions.c.id).where(t.PENDING_PROVISION))).scalars())
        found = {row.id: made(Mailbox, row) for row in rows}
        for mailbox_id, known in self.living.items():
            if mailbox_id not in found:
                self._check_purge(known, domains.get(known.domain_id))
        charged = Counter((row.mailbox_id, row.period_started_at) for row in payments)
        assert set(charged.values()) <= {1}
        for mailbox in found.values():
            if mailbox.subscription_period is not P.CANCELED:
                self.periods.add((mailbox.id, mailbox.subscription_period_started_at))
            self._check_moves_on(mailbox, domains[mailbox.domain_id], pending)
        if self.policy.billing:
            assert self.periods <= set(charged)
        else:
            assert not charged
        self.living = found

    def _check_purge(self, known: Mailbox, domain_status: DomainStatus | None) -> None:
        gone_with_domain = domain_status in {None, DomainStatus.DELETING}
        scheduled = known.deletion_scheduled_at
        if scheduled is None and not gone_with_domain:
            # It was last seen before it was scheduled: by its own calendar, which keeps to the retention too.
            coming = due_at(known)
            assert coming is not None
            scheduled = coming + self.policy.retention
        assert gone_with_domain or known.purging or (scheduled is not None and scheduled <= self.now)

    def _check_moves_on(self, mailbox: Mailbox, domain_status: DomainStatus, pending: set[str]) -> None:
        """A mailbox has a date, or somebody to wait for who can be seen to be asked."""
        if mailbox.status in {M.CREATING, M.RESTORING}:
            assert mailbox.provision_id in pending
        if mailbox.status is M.DELETING:
            assert mailbox.provision_id in pending or domain_status is DomainStatus.DELETING
        elif mailbox.status is M.WAITING_DOMAIN:
            assert domain_status is not DomainStatus.DELETING
        else:
            assert due_at(mailbox) is not None

    # --- The end ------------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Have everybody do their part: whatever has happened, every mailbox comes to be ready, or to be gone."""
        self.now += LEASE + timedelta(hours=5)  # what leases of the crashed, and steps back, have taken
        await self._settle()
        for mailbox in self.living.values():
            lasting = {M.READY, M.DELETION_SCHEDULED, M.LOCKED, M.DELETING}
            assert mailbox.status in lasting, mailbox
            assert mailbox.status is not M.LOCKED or mailbox.lock_reason is not None
        for domain in self.domains:
            await self.delete_domain(domain)
        await self._settle()
        assert not self.living
        async with self.raw.connect() as connection:
            for table in (t.domains, t.mailboxes, t.aliases, t.addresses):
                assert (await connection.execute(select(table).limit(1))).first() is None
            open_rows = select(t.payments.c.id).where(t.OPEN_PAYMENT)
            assert (await connection.execute(open_rows)).first() is None

    async def _settle(self) -> None:
        """Have all that is awaited done, and time pass, until nothing is due any more."""
        operations = self.repository.administration
        for domain in self.domains:
            await self.validate(domain)
        for _ in range(400):  # enough for every period of the time that has passed
            payments, provisions = await self.unpaid(), await self.undone()
            for payment in payments:
                await operations.settle_payment(OPERATOR, payment.id, partial(confirm_payment, now=self.now))
            for provision in provisions:
                # Refused where a mailbox went before it, with the work on its aliases.
                rule = partial(confirm_provision, now=self.now)
                await self.attempt(operations.settle_provision(OPERATOR, provision.id, rule))
            if self._is_due(await self.repository.work.next_due()):
                await self.work()
            elif not payments and not provisions:
                break
        else:
            raise AssertionError("it never comes to rest")
        await self.look()
