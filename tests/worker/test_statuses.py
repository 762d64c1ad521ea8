"""Every status of every enum is reached: by calls, the operator's confirmations, and the worker."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.forwardings import delete_forwarding, new_forwarding, redirect_forwarding
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox, update_mailbox
from postroomd.domain.model import (
    AliasStatus,
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
from postroomd.domain.payments import confirm_payment
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.queries import ForwardingQuery, Ordering
from postroomd.domain.records import Finding
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import Worker
from tests.support.factories import (
    NOW,
    OPERATOR,
    SECRETS,
    Tenant,
    creating_domain,
    mailbox,
    new_domain,
    new_id,
    new_mailbox,
    new_mailboxes,
    records,
)
from tests.support.lifecycle import BOTH, FREE
from tests.support.worker import activate_domains, drain, look_up_domains

DAY = timedelta(days=1)
FORWARDINGS = ForwardingQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=10)


class Dns:
    """A prober that finds all records valid, except one until it is published and one until it is corrected."""

    def __init__(self) -> None:
        self.published = False
        self.corrected = False

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        findings = dict(await TrustingProber().probe(domain, records))
        if not self.published:
            findings["mx"] = Finding(RecordStatus.NOT_FOUND, "no")
        if not self.corrected:
            findings["spf"] = Finding(RecordStatus.INVALID, "no")
        return findings


class Observer:
    """A tenant, an operator and a worker, and the statuses that they have seen."""

    def __init__(self, repository: Repository, tenant: Tenant) -> None:
        self.repository, self.tenant = repository, tenant
        self.dns = Dns()
        self.worker = Worker(work=repository.work, prober=self.dns, policy=BOTH)
        self.domains: set[DomainStatus] = set()
        self.records: set[RecordStatus] = set()
        self.mailboxes: set[MailboxStatus] = set()
        self.aliases: set[AliasStatus] = set()
        self.forwardings: set[ForwardingStatus] = set()
        self.now = NOW

    async def observe(self, domain: Domain, *mailboxes: Mailbox) -> None:
        context = self.tenant.context
        self.domains.add((await self.repository.domains.get(context, domain.id)).status)
        records = await self.repository.domains.records(context, domain.id)
        self.records |= {record.status for record in records.values()}
        self.mailboxes |= {(await self.repository.mailboxes.get(context, each.id)).status for each in mailboxes}

    async def walk_a_forwarding(self, of: Mailbox) -> None:
        """Create, change and delete a forwarding, each with the platform's confirmation."""
        context, forwardings = self.tenant.context, self.repository.forwardings
        options = {"policy": BOTH, "now": self.now}
        first, second = "ann@elsewhere.example", "bob@elsewhere.example"
        make = partial(new_forwarding, forwarding_id=new_id(), destination=first, **options)  # type: ignore[arg-type]
        created = await forwardings.create(context, of.id, first, make)
        redirect = partial(redirect_forwarding, destination=second, **options)  # type: ignore[arg-type]
        delete = partial(delete_forwarding, **options)  # type: ignore[arg-type]
        changes: list[Callable[[], Awaitable[Forwarding]]] = [
            lambda: forwardings.get(context, created.id),
            lambda: forwardings.redirect(context, created.id, second, redirect),
            lambda: forwardings.delete(context, created.id, delete),
        ]
        for change in changes:
            self.forwardings.add((await change()).status)
            await self.provision()
            listed = await forwardings.list(context, FORWARDINGS)
            self.forwardings |= {each.status for each in listed.items}
        assert not listed.items

    async def work(self, later: timedelta = timedelta(0)) -> None:
        self.now += later
        await drain(self.worker, self.now)

    async def pay(self) -> None:
        for payment in (await self.repository.administration.pending_payments("", 100)).items:
            await self.repository.administration.settle_payment(
                OPERATOR, payment.id, partial(confirm_payment, now=self.now)
            )

    async def provision(self) -> None:
        for each in (await self.repository.administration.pending_provisions(self.now, "", 100)).items:
            await self.repository.administration.settle_provision(
                OPERATOR, each.id, partial(confirm_provision, now=self.now)
            )

    async def validate(self, domain: Domain) -> None:
        rule = partial(begin_validation, now=self.now)
        await self.repository.domains.begin_validation(self.tenant.context, domain.id, rule, self.now)


async def test_every_status_is_reached(repository: Repository, tenant: Tenant) -> None:
    observer = Observer(repository, tenant)
    domain = creating_domain(tenant)
    await repository.domains.create(tenant.context, domain, records(domain), SECRETS)
    ada = await new_mailbox(repository, domain, mailbox("ada", policy=BOTH))
    await observer.observe(domain, ada)  # creating, unknown_status, waiting_payment

    await observer.provision()
    await observer.pay()
    await observer.observe(domain, ada)  # waiting_validation, waiting_domain

    await observer.validate(domain)
    await observer.observe(domain)  # validating
    await observer.work()
    await observer.observe(domain)  # waiting_validation, not_found, invalid

    observer.dns.published = True
    await observer.validate(domain)
    await observer.work()
    await observer.observe(domain)  # validation_failed

    observer.dns.corrected = True
    await observer.validate(domain)
    await look_up_domains(observer.worker, observer.now)  # without the next step, which would activate the domain
    await observer.observe(domain)  # provisioning, valid
    await observer.work()
    await observer.observe(domain, ada)  # ready, creating

    make = partial(new_alias, alias_id=new_id(), local_part="countess", description="", policy=BOTH, now=observer.now)
    alias = await repository.aliases.create(tenant.context, ada.id, make)
    observer.aliases.add(alias.status)
    await observer.provision()
    observer.aliases.add((await repository.aliases.get(tenant.context, alias.id)).status)
    delete = partial(delete_alias, policy=BOTH, now=observer.now)
    await repository.aliases.delete(tenant.context, alias.id, delete)
    observer.aliases.add((await repository.aliases.get(tenant.context, alias.id)).status)
    await observer.provision()
    await observer.walk_a_forwarding(ada)
    await observer.observe(domain, ada)  # ready

    await observer.work(31 * DAY)
    await observer.observe(domain, ada)  # renewing
    await observer.work(7 * DAY)
    await observer.observe(domain, ada)  # payment_failed
    await observer.work(7 * DAY)
    await observer.observe(domain, ada)  # locked
    await observer.pay()
    now = observer.now
    await repository.mailboxes.change(
        tenant.context, ada.id, lambda it, _: delete_mailbox(it, BOTH.deletion_retention, now)
    )
    await observer.observe(domain, ada)  # deletion_scheduled
    await repository.mailboxes.change(tenant.context, ada.id, partial(restore_mailbox, policy=BOTH, now=now))
    await observer.observe(domain, ada)  # restoring

    await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=now), now)
    await observer.work()
    await observer.observe(domain, ada)  # deleting

    assert observer.domains == set(DomainStatus)
    assert observer.records == set(RecordStatus)
    assert observer.mailboxes == set(MailboxStatus)
    assert observer.aliases == set(AliasStatus)
    assert observer.forwardings == set(ForwardingStatus)
    for _ in range(3):
        await observer.provision()
        await observer.work()
    assert await repository.administration.mailboxes_with_address(ada.email) == [ada.id]


class FailingWork:
    """The due work of a repository, in which the step of one mailbox fails."""

    def __init__(self, repository: Repository, mailbox_id: str) -> None:
        self._work, self._mailbox_id = repository.work, mailbox_id

    def __getattr__(self, name: str) -> object:
        return getattr(self._work, name)

    async def advance(self, lease: object, rule: object, now: object) -> bool:
        if lease.mailbox.id == self._mailbox_id:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return await self._work.advance(lease, rule, now)  # type: ignore[arg-type]


async def test_a_failed_mailbox_delays_no_other_and_is_retried(repository: Repository, tenant: Tenant) -> None:
    domain = await new_domain(repository, tenant)
    ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
    renewal = ada.next_subscription_period_starts_at
    assert renewal is not None
    failing = Worker(work=FailingWork(repository, ada.id), prober=None, policy=BOTH)  # type: ignore[arg-type]
    await drain(failing, renewal)
    assert await repository.mailboxes.get(tenant.context, ada.id) == ada
    assert (await repository.mailboxes.get(tenant.context, bob.id)).status is MailboxStatus.RENEWING
    working = Worker(work=repository.work, prober=None, policy=BOTH)
    await drain(working, renewal + timedelta(seconds=9))  # before the retry after 10 s
    assert await repository.mailboxes.get(tenant.context, ada.id) == ada
    await drain(working, renewal + timedelta(seconds=10))
    found = await repository.mailboxes.get(tenant.context, ada.id)
    assert (found.status, found.subscription_period_started_at) == (MailboxStatus.RENEWING, renewal)


async def test_a_waiting_mailbox_that_is_changed_still_follows_its_domain(
    repository: Repository, tenant: Tenant
) -> None:
    domain = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
    (ada,) = await new_mailboxes(repository, domain, "ada")
    await activate_domains(repository.work, DAY, NOW, 10)
    update = partial(update_mailbox, period=SubscriptionPeriod.YEARLY, new_password=False, policy=FREE, now=NOW + DAY)
    changed = await repository.mailboxes.change(tenant.context, ada.id, update)
    assert changed.status is MailboxStatus.WAITING_DOMAIN
    await drain(Worker(work=repository.work, prober=None, policy=FREE), NOW + DAY)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is MailboxStatus.READY
