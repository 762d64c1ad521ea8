"""Billing or provisioning that is switched off while payments or provisions are pending: nothing waits forever."""

from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import NotFound
from postroomd.domain.forwardings import delete_forwarding, new_forwarding, redirect_forwarding
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox
from postroomd.domain.model import (
    Alias,
    AliasStatus,
    Domain,
    DomainStatus,
    Forwarding,
    ForwardingStatus,
    Mailbox,
    MailboxStatus,
)
from postroomd.domain.payments import PaymentStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision
from postroomd.domain.provisions import Provision
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import LEASE, Worker
from tests.support.database_state import check_invariants, dump
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
from tests.support.lifecycle import BILLED, FREE, PLATFORM, RETENTION
from tests.support.worker import drain

LATER = NOW + timedelta(hours=1)
FAR = timedelta(days=4_000)
D, M = DomainStatus, MailboxStatus


async def pending(repository: Repository) -> dict[str, Provision]:
    """The pending provisions, by address."""
    provisions = await repository.administration.pending_provisions(NOW + FAR, "", 100)
    return {provision.address: provision for provision in provisions.items}


async def run_until_idle(repository: Repository, policy: LifecyclePolicy, now: datetime) -> None:
    """Run a worker until nothing is due."""
    worker = Worker(
        work=repository.work, prober=TrustingProber(), policy=policy, administration=repository.administration
    )
    for _ in range(20):
        due = await worker.next_due()
        if not (due.has_lookups(now) or due.has_steps(now)):
            return
        await drain(worker, now)
    raise AssertionError("the worker never becomes idle")


async def new_provisioned(repository: Repository, domain: Domain, name: str) -> Mailbox:
    """A mailbox that the mail platform has created."""
    created = await new_mailbox(repository, domain, mailbox(name, policy=PLATFORM))
    if created.provision_id is not None:
        await repository.administration.settle_provision(
            OPERATOR, created.provision_id, partial(confirm_provision, now=NOW)
        )
    return created


def _delete(stored: Mailbox, _status: DomainStatus, *, retention: timedelta) -> Mailbox:
    return delete_mailbox(stored, retention, NOW)


async def test_pending_provisions_are_confirmed_without_a_platform(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    context, mailboxes = tenant.context, repository.mailboxes

    async def add_alias(of: Mailbox, name: str) -> Alias:
        make = partial(new_alias, alias_id=new_id(), local_part=name, description="", policy=PLATFORM, now=NOW)
        return await repository.aliases.create(context, of.id, make)

    new = creating_domain(tenant, "new.test")
    await repository.domains.create(context, new, records(new), SECRETS)
    within = await new_domain(repository, tenant)
    later = await new_domain(repository, tenant, "later.test", D.WAITING_VALIDATION)
    deleted_domain = await new_domain(repository, tenant, "deleted.test")

    creating = await new_mailbox(repository, within, mailbox("creating", policy=PLATFORM))
    failing = await new_mailbox(repository, within, mailbox("failing", policy=PLATFORM))
    waiting = await new_mailbox(repository, later, mailbox("waiting", policy=PLATFORM))
    restoring, purging, deleted = [
        await new_provisioned(repository, within, name) for name in ("restoring", "purging", "deleted")
    ]
    with_domain = await new_provisioned(repository, deleted_domain, "with")
    alias_of_domain = await add_alias(with_domain, "alias")
    kept, dropped, unmade = [
        await add_alias(one, f"{name}-alias")
        for name, one in (("kept", creating), ("dropped", creating), ("unmade", waiting))
    ]

    fail = partial(fail_provision, reason="no space", now=NOW)
    await repository.administration.settle_provision(OPERATOR, (await pending(repository))[failing.email].id, fail)
    await repository.administration.settle_provision(
        OPERATOR, (await pending(repository))[dropped.email].id, partial(confirm_provision, now=NOW)
    )
    await repository.aliases.delete(context, dropped.id, partial(delete_alias, policy=PLATFORM, now=NOW))
    for one, retention in ((restoring, RETENTION), (purging, timedelta(0)), (deleted, RETENTION)):
        await mailboxes.change(context, one.id, partial(_delete, retention=retention))
    await mailboxes.change(context, restoring.id, partial(restore_mailbox, policy=PLATFORM, now=NOW))
    await repository.domains.delete(context, deleted_domain.id, partial(delete_domain, force=True, now=NOW), NOW)
    worker = Worker(work=repository.work, prober=None, policy=PLATFORM, administration=repository.administration)
    await drain(worker, NOW)
    statuses = {one.email: (await mailboxes.get(context, one.id)).status for one in (creating, restoring, purging)}
    assert list(statuses.values()) == [M.CREATING, M.RESTORING, M.DELETING]
    assert len(await pending(repository)) == 9

    await repository.domains.begin_validation(context, later.id, partial(begin_validation, now=NOW), NOW)
    await run_until_idle(repository, FREE, LATER)

    for one in (creating, failing, waiting, restoring):
        assert (await mailboxes.get(context, one.id)).status is M.READY
    for alias in (kept, unmade):
        assert (await repository.aliases.get(context, alias.id)).status is AliasStatus.READY
    assert (await repository.domains.get(context, new.id)).status is D.WAITING_VALIDATION
    for getting in (
        mailboxes.get(context, purging.id),
        mailboxes.get(context, with_domain.id),
        repository.aliases.get(context, dropped.id),
        repository.aliases.get(context, alias_of_domain.id),
        repository.domains.get(context, deleted_domain.id),
    ):
        with pytest.raises(NotFound):
            await getting
    assert (await mailboxes.get(context, deleted.id)).status is M.DELETION_SCHEDULED
    assert await pending(repository) == {}
    await check_invariants(raw)


async def test_pending_provisions_of_forwardings_are_confirmed_without_a_platform(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    context, forwardings = tenant.context, repository.forwardings
    within = await new_domain(repository, tenant)
    later = await new_domain(repository, tenant, "later.test", D.WAITING_VALIDATION)

    async def add(of: Mailbox) -> Forwarding:
        make = partial(new_forwarding, forwarding_id=new_id(), destination="a@b.example", policy=PLATFORM, now=NOW)
        return await forwardings.create(context, of.id, "a@b.example", make)

    creating, updating, deleting = [
        await add(one) for one in await new_mailboxes(repository, within, "creating", "updating", "deleting")
    ]
    (waiting,) = [await add(one) for one in await new_mailboxes(repository, later, "waiting")]
    for one in (updating, deleting):
        assert one.provision_id
        confirm = partial(confirm_provision, now=NOW)
        await repository.administration.settle_provision(OPERATOR, one.provision_id, confirm)
    redirect = partial(redirect_forwarding, destination="b@c.example", policy=PLATFORM, now=NOW)
    await forwardings.redirect(context, updating.id, "b@c.example", redirect)
    await forwardings.delete(context, deleting.id, partial(delete_forwarding, policy=PLATFORM, now=NOW))
    assert len(await pending(repository)) == 3

    await repository.domains.begin_validation(context, later.id, partial(begin_validation, now=NOW), NOW)
    await run_until_idle(repository, FREE, LATER)

    for kept in (creating, updating, waiting):
        assert (await forwardings.get(context, kept.id)).status is ForwardingStatus.READY
    with pytest.raises(NotFound):
        await forwardings.get(context, deleting.id)
    assert await pending(repository) == {}
    await check_invariants(raw)


async def test_with_a_platform_the_worker_confirms_no_provision(repository: Repository, tenant: Tenant) -> None:
    ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=PLATFORM))
    await run_until_idle(repository, PLATFORM, LATER)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.CREATING
    assert list(await pending(repository)) == [ada.email]


async def test_a_provision_that_fails_delays_no_other(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = await new_domain(repository, tenant)
    ada, bob = [await new_mailbox(repository, within, mailbox(name, policy=PLATFORM)) for name in ("ada", "bob")]

    def fail(provision: Provision, *arguments: object, **others: object) -> object:
        if provision.mailbox_id == ada.id:
            raise ZeroDivisionError
        return confirm_provision(provision, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr("postroomd.worker.steps.confirm_provision", fail)
    await run_until_idle(repository, FREE, LATER)
    assert (await repository.mailboxes.get(tenant.context, bob.id)).status is M.READY
    assert (await pending(repository))[ada.email].attempts == 1
    monkeypatch.undo()
    await run_until_idle(repository, FREE, LATER + LEASE)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.READY


async def test_unpaid_mailboxes_are_settled_when_due_without_billing(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=BILLED))
    await run_until_idle(repository, FREE, NOW + BILLED.payment_term)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.READY
    assert [row[8] for row in (await dump(raw))["payments"]] == [PaymentStatus.VOID]
