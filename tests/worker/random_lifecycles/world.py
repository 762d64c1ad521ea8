"""The environment of the random lifecycles: one tenant, two domains, workers that may crash, and a simple model.

The model knows of each mailbox what its owner was told: its earliest purge, and the periods that it has had.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import PostroomError
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailbox_status import status_of
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import (
    Domain,
    DomainRecord,
    DomainStatus,
    Forwarding,
    ForwardingStatus,
    Mailbox,
    MailboxStatus,
    RecordStatus,
    SubscriptionPeriod,
)
from postroomd.domain.payments import OPEN_STATUSES, Payment, confirm_payment
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import Provision
from postroomd.domain.records import VALIDATION_KIND, Finding
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.rules import MailboxRule
from postroomd.storage.protocols.work import Due
from postroomd.storage.sql.rows import columns_of, from_row
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import LEASE, Worker
from tests.support.database_state import check_invariants
from tests.support.factories import NOW, OPERATOR, Tenant, new_domain, new_tenant
from tests.support.worker import drain

M, P = MailboxStatus, SubscriptionPeriod
FAR = timedelta(days=4_000)

Result = TypeVar("Result")


class Crash(BaseException):
    """The crash of a worker in the middle of a step."""


@contextmanager
def crashing(after: int | None) -> Iterator[None]:
    """Raise Crash before the statement with this number, counted from 0."""
    remaining = after

    def count_statement(*_: object) -> None:
        nonlocal remaining
        if remaining is not None:
            remaining -= 1
            if remaining < 0:
                remaining = None
                raise Crash

    event.listen(Engine, "before_cursor_execute", count_statement)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", count_statement)


@dataclass(frozen=True)
class Dns(TrustingProber):
    """A prober that finds all records valid, except the validation tokens of some names."""

    tokenless: Collection[str]

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        findings = dict(await super().probe(domain, records))
        if domain.name in self.tokenless:
            findings[VALIDATION_KIND] = Finding(RecordStatus.NOT_FOUND, "no")
        return findings


@dataclass
class World:
    """The database, its workers, the time, and the model."""

    repositories: Sequence[Repository]
    raw: AsyncEngine
    policy: LifecyclePolicy
    now: datetime = NOW
    tenant: Tenant = field(init=False)
    domains: list[Domain] = field(default_factory=list)
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    """The mailboxes by id, as they were when last read."""
    periods: set[tuple[str, datetime]] = field(default_factory=set)
    tokenless: set[str] = field(default_factory=set)
    """The names of the domains whose validation token is not in the DNS."""

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

    # --- Calls --------------------------------------------------------------------------------------------------------

    async def attempt(self, call: Awaitable[Result]) -> Result | PostroomError:
        """Return the result of a call, or the error that it raises."""
        try:
            return await call
        except PostroomError as error:
            return error

    async def change(self, mailbox: Mailbox, rule: MailboxRule) -> Mailbox | PostroomError:
        return await self.attempt(self.repository.mailboxes.change(self.tenant.context, mailbox.id, rule))

    async def read(self, mailbox_id: str) -> Mailbox | None:
        """Return a mailbox as it is now; None if it is purged."""
        mailbox = await self.attempt(self.repository.mailboxes.get(self.tenant.context, mailbox_id))
        if isinstance(mailbox, Mailbox):
            self.learn(mailbox)
            return mailbox
        return None

    async def validate(self, domain: Domain) -> None:
        rule = partial(begin_validation, now=self.now)
        await self.attempt(self.repository.domains.begin_validation(self.tenant.context, domain.id, rule, self.now))

    async def delete_domain(self, domain: Domain) -> None:
        rule = partial(delete_domain, force=True, now=self.now)
        await self.attempt(self.repository.domains.delete(self.tenant.context, domain.id, rule, self.now))

    async def pending_payments(self) -> Sequence[Payment]:
        return (await self.repository.administration.pending_payments("", 100)).items

    async def pending_provisions(self) -> Sequence[Provision]:
        return (await self.repository.administration.pending_provisions(self.now + FAR, "", 100)).items

    def learn(self, mailbox: Mailbox) -> None:
        """Update the model from the result of a call."""
        self.mailboxes[mailbox.id] = mailbox
        started = mailbox.subscription_period_started_at
        if started is not None and mailbox.subscription_period is not P.CANCELED:
            self.periods.add((mailbox.id, started))

    # --- Workers ------------------------------------------------------------------------------------------------------

    async def work(self, workers: int = 1, crash_after: int | None = None) -> None:
        """Run workers at the same time, until nothing is due; one of them may crash."""
        with crashing(crash_after):
            outcomes = await asyncio.gather(
                *(self._work(repository) for repository in self.repositories[:workers]), return_exceptions=True
            )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Crash):
                raise outcome

    async def _work(self, repository: Repository) -> None:
        if self._is_due(await repository.work.next_due()):
            await drain(Worker(work=repository.work, prober=Dns(self.tokenless), policy=self.policy), self.now)

    def _is_due(self, due: Due) -> bool:
        return due.has_lookups(self.now) or due.has_steps(self.now)

    # --- Invariants ---------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Compare the database with the model, and update the model."""
        await check_invariants(self.raw)
        async with self.raw.connect() as connection:
            rows = (await connection.execute(select(*columns_of(Mailbox, t.mailboxes)))).all()
            columns = t.domains.c
            rows_of_domains = (await connection.execute(select(columns.id, columns.status, columns.propagating))).all()
            domains = {row.id: row.status for row in rows_of_domains}
            propagating = {row.id for row in rows_of_domains if row.propagating}
            payments = (await connection.execute(select(t.payments))).all()
            pending = set((await connection.execute(select(t.provisions.c.id).where(t.PENDING_PROVISION))).scalars())
            forwardings = [from_row(Forwarding, row) for row in await connection.execute(select(t.forwardings))]
        stored = {row.id: from_row(Mailbox, row) for row in rows}
        for mailbox_id, known in self.mailboxes.items():
            if mailbox_id not in stored:
                self._check_purge(known, domains.get(known.domain_id))
        for each in forwardings:
            if each.status is not ForwardingStatus.READY and domains[each.domain_id] is DomainStatus.READY:
                assert each.provision_id in pending, each
        charged = Counter((row.mailbox_id, row.period_started_at) for row in payments if row.period_started_at)
        assert set(charged.values()) <= {1}
        requested = Counter(row.mailbox_id for row in payments if row.status in OPEN_STATUSES)
        assert set(requested.values()) <= {1}
        for mailbox in stored.values():
            self.learn(mailbox)
            self._check_period(mailbox, requested)
            self._check_progress(mailbox, domains[mailbox.domain_id], pending)
            # Its status follows from the facts, or the worker has yet to propagate that of its domain.
            assert mailbox.domain_id in propagating or (
                status_of(mailbox, domains[mailbox.domain_id]) is mailbox.status
            ), mailbox
        if self.policy.billing:
            assert self.periods <= set(charged)
        else:
            assert not charged
        self.mailboxes = stored

    def _check_purge(self, known: Mailbox, domain_status: DomainStatus | None) -> None:
        gone_with_domain = domain_status in {None, DomainStatus.DELETING}
        scheduled = known.deletion_scheduled_at
        if scheduled is None and not gone_with_domain:
            # It was last read before a due step scheduled the deletion, which then kept the retention.
            due = due_at(known)
            assert due is not None
            scheduled = due + self.policy.cancellation_retention
        assert gone_with_domain or known.purging or (scheduled is not None and scheduled <= self.now)

    def _check_period(self, mailbox: Mailbox, requested: Mapping[str, int]) -> None:
        """Check that a period has started if its first payment was confirmed, and only then."""
        started, ends = mailbox.subscription_period_started_at, mailbox.next_subscription_period_starts_at
        assert (mailbox.subscription_period is None) == (started is None)
        if started is None:
            assert ends is None
            assert self.policy.billing
            assert mailbox.payment is not PaymentStanding.SETTLED
            assert requested[mailbox.id] == 1
        else:
            assert (ends is None) == (mailbox.subscription_period is P.CANCELED)
        if mailbox.status is M.WAITING_PAYMENT and started is not None:
            assert mailbox.cause in {MailboxEvent.RESTORE, MailboxEvent.UNLOCK}  # of a running period

    def _check_progress(self, mailbox: Mailbox, domain_status: DomainStatus, pending: set[str]) -> None:
        """Check that a mailbox has a due date, or waits for a provision or a domain that is pending."""
        if mailbox.status in {M.CREATING, M.RESTORING}:
            assert mailbox.provision_id in pending
        if mailbox.status is M.DELETING:
            assert mailbox.provision_id in pending or domain_status is DomainStatus.DELETING
        elif mailbox.status is M.WAITING_DOMAIN:
            assert domain_status is not DomainStatus.DELETING
        else:
            assert due_at(mailbox) is not None

    # --- The end of a run ---------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Check that confirmations and due steps bring every mailbox into a final status, and then purge them all."""
        self.now += LEASE + timedelta(hours=5)  # past the leases of crashed workers, and past the clock's steps back
        await self._settle()
        for mailbox in self.mailboxes.values():
            assert mailbox.status in {M.READY, M.DELETION_SCHEDULED, M.LOCKED, M.DELETING}, mailbox
            assert mailbox.status is not M.LOCKED or mailbox.lock_reason is not None
        for domain in self.domains:
            await self.delete_domain(domain)
        await self._settle()
        assert not self.mailboxes
        async with self.raw.connect() as connection:
            for table in (t.domains, t.mailboxes, t.aliases, t.forwardings, t.mailbox_forwardings, t.addresses):
                assert (await connection.execute(select(table).limit(1))).first() is None
            open_rows = select(t.payments.c.id).where(t.OPEN_PAYMENT)
            assert (await connection.execute(open_rows)).first() is None

    async def _settle(self) -> None:
        """Confirm everything that is pending, and run workers, until nothing is due."""
        administration = self.repository.administration
        self.tokenless.clear()
        for domain in self.domains:
            await self.validate(domain)
        for _ in range(400):  # more than the periods that a run contains
            payments, provisions = await self.pending_payments(), await self.pending_provisions()
            for payment in payments:
                await administration.settle_payment(OPERATOR, payment.id, partial(confirm_payment, now=self.now))
            for provision in provisions:
                # Fails if its mailbox was purged meanwhile.
                rule = partial(confirm_provision, now=self.now)
                await self.attempt(administration.settle_provision(OPERATOR, provision.id, rule))
            if self._is_due(await self.repository.work.next_due()):
                await self.work()
            elif not payments and not provisions:
                break
        else:
            raise AssertionError("something is always due")
        await self.check()
