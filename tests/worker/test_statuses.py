"""Every status of every enum is reached by what runs: calls, the operator's answers, and the real worker."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox
from postroomd.domain.model import AliasStatus, Domain, DomainRecord, DomainStatus, Mailbox, MailboxStatus, RecordStatus
from postroomd.domain.payments import confirm_payment
from postroomd.domain.provisioning import confirm_provision, create_domain_on_platform
from postroomd.domain.records import Finding
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import Worker
from tests.support.factories import (
    NOW,
    OPERATOR,
    SECRETS,
    Tenant,
    domain,
    mailbox,
    new_domain,
    new_id,
    new_mailboxes,
    new_one,
    records,
)
from tests.support.lifecycle import BOTH

DAY = timedelta(days=1)


class Published:
    """A prober that finds what a test has published."""

    def __init__(self) -> None:
        self.missing = True
        self.wrong = True

    async def probe(self, of: Domain, wanted: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """All records as valid, except two while they are missing or wrong."""
        found = dict(await TrustingProber().probe(of, wanted))
        if self.missing:
            found["mx"] = Finding(RecordStatus.NOT_FOUND, "no")
        if self.wrong:
            found["spf"] = Finding(RecordStatus.INVALID, "no")
        return found


class Seen:
    """The statuses that a tenant and the operator have been shown."""

    def __init__(self, repository: Repository, tenant: Tenant) -> None:
        self.repository, self.tenant = repository, tenant
        self.published = Published()
        self.worker = Worker(work=repository.work, prober=self.published, policy=BOTH)
        self.domains: set[DomainStatus] = set()
        self.records: set[RecordStatus] = set()
        self.mailboxes: set[MailboxStatus] = set()
        self.aliases: set[AliasStatus] = set()
        self.now = NOW

    async def look(self, of: Domain, *mailboxes: Mailbox) -> None:
        scope = self.tenant.context
        self.domains.add((await self.repository.domains.get(scope, of.id)).status)
        self.records |= {each.status for each in (await self.repository.domains.records(scope, of.id)).values()}
        self.mailboxes |= {(await self.repository.mailboxes.get(scope, each.id)).status for each in mailboxes}

    async def work(self, later: timedelta = timedelta(0)) -> None:
        self.now += later
        await self.worker.run_once(self.now)

    async def pay(self) -> None:
        for payment in (await self.repository.administration.pending_payments("", 100)).items:
            await self.repository.administration.settle_payment(
                OPERATOR, payment.id, partial(confirm_payment, now=self.now)
            )

    async def provide(self) -> None:
        for each in (await self.repository.administration.pending_provisions(self.now, "", 100)).items:
            await self.repository.administration.settle_provision(
                OPERATOR, each.id, partial(confirm_provision, now=self.now)
            )

    async def validate(self, of: Domain) -> None:
        rule = partial(begin_validation, now=self.now)
        await self.repository.domains.begin_validation(self.tenant.context, of.id, rule, self.now)


async def test_every_status_is_reached(repository: Repository, tenant: Tenant) -> None:
    seen = Seen(repository, tenant)
    made = create_domain_on_platform(domain(tenant))
    await repository.domains.create(tenant.context, made, records(made), SECRETS)
    ada = await new_one(repository, made, mailbox("ada", policy=BOTH))
    await seen.look(made, ada)  # creating, unknown_status, waiting_payment

    await seen.provide()
    await seen.pay()
    await seen.look(made, ada)  # waiting_validation, waiting_domain

    await seen.validate(made)
    await seen.look(made)  # validating
    await seen.work()
    await seen.look(made)  # waiting_validation, not_found, invalid

    seen.published.missing = False
    await seen.validate(made)
    await seen.work()
    await seen.look(made)  # validation_failed

    seen.published.wrong = False
    await seen.validate(made)
    # As the worker does it, but for the step after.
    await seen.worker.validate_once(seen.now)
    await seen.look(made)  # provisioning, valid
    await seen.work()
    await seen.look(made, ada)  # ready, creating

    make = partial(new_alias, alias_id=new_id(), local_part="countess", description="", policy=BOTH, now=seen.now)
    alias = await repository.aliases.create(tenant.context, ada.id, make)
    seen.aliases.add(alias.status)
    await seen.provide()
    seen.aliases.add((await repository.aliases.get(tenant.context, alias.id)).status)
    going = partial(delete_alias, policy=BOTH, now=seen.now)
    await repository.aliases.delete(tenant.context, alias.id, going)
    seen.aliases.add((await repository.aliases.get(tenant.context, alias.id)).status)
    await seen.provide()
    await seen.look(made, ada)  # ready

    await seen.work(31 * DAY)
    await seen.look(made, ada)  # renewing
    await seen.work(7 * DAY)
    await seen.look(made, ada)  # payment_failed
    await seen.work(7 * DAY)
    await seen.look(made, ada)  # locked
    await seen.pay()
    now = seen.now
    await repository.mailboxes.change(tenant.context, ada.id, lambda it, _: delete_mailbox(it, BOTH.retention, now))
    await seen.look(made, ada)  # deletion_scheduled
    await repository.mailboxes.change(tenant.context, ada.id, partial(restore_mailbox, policy=BOTH, now=now))
    await seen.look(made, ada)  # restoring

    await repository.domains.delete(tenant.context, made.id, partial(delete_domain, now=now), now)
    await seen.work()
    await seen.look(made, ada)  # deleting

    assert seen.domains == set(DomainStatus)
    assert seen.records == set(RecordStatus)
    assert seen.mailboxes == set(MailboxStatus)
    assert seen.aliases == set(AliasStatus)
    for _ in range(3):
        await seen.provide()
        await seen.work()
    assert await repository.administration.mailboxes_with_address(ada.email) == [ada.id]


class Stumbling:
    """The worker's side of a repository in which one mailbox can't be moved."""

    def __init__(self, repository: Repository, mailbox_id: str) -> None:
        self._work, self._mailbox_id = repository.work, mailbox_id

    def __getattr__(self, name: str) -> object:
        return getattr(self._work, name)

    async def advance(self, claim: object, rule: object, now: object) -> bool:
        """Fail for the one."""
        if claim.mailbox.id == self._mailbox_id:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return await self._work.advance(claim, rule, now)  # type: ignore[arg-type]


async def test_what_fails_holds_up_nobody_and_is_tried_again(repository: Repository, tenant: Tenant) -> None:
    within = await new_domain(repository, tenant)
    ada, bob = await new_mailboxes(repository, within, "ada", "bob")
    renewal = ada.next_subscription_period_starts_at
    assert renewal is not None
    stumbling = Worker(work=Stumbling(repository, ada.id), prober=None, policy=BOTH)  # type: ignore[arg-type]
    await stumbling.run_once(renewal)
    assert await repository.mailboxes.get(tenant.context, ada.id) == ada
    assert (await repository.mailboxes.get(tenant.context, bob.id)).status is MailboxStatus.RENEWING
    mended = Worker(work=repository.work, prober=None, policy=BOTH)
    await mended.run_once(renewal + timedelta(seconds=9))  # it rests for ten
    assert await repository.mailboxes.get(tenant.context, ada.id) == ada
    await mended.run_once(renewal + timedelta(seconds=10))
    found = await repository.mailboxes.get(tenant.context, ada.id)
    assert (found.status, found.subscription_period_started_at) == (MailboxStatus.RENEWING, renewal)
