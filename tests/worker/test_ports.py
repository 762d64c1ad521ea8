"""A port that the operator switches off while something is awaited there: nothing waits for ever."""

from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import NotFound
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox
from postroomd.domain.model import Alias, AliasStatus, Domain, DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.payments import PaymentStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, create_domain_on_platform, fail_provision
from postroomd.domain.provisions import Provision
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import LEASE, Worker
from tests.support.factories import (
    NOW,
    OPERATOR,
    SECRETS,
    Tenant,
    domain,
    mailbox,
    new_domain,
    new_id,
    new_one,
    records,
)
from tests.support.lifecycle import BILLED, FREE, PLATFORM, RETENTION
from tests.support.stored import check_invariants, dump

LATER = NOW + timedelta(hours=1)
FAR = timedelta(days=4_000)
D, M = DomainStatus, MailboxStatus


async def pending(repository: Repository) -> dict[str, Provision]:
    """What the mail platform is asked for, by address."""
    return {
        each.address: each for each in (await repository.administration.pending_provisions(NOW + FAR, "", 100)).items
    }


async def rest(repository: Repository, policy: LifecyclePolicy, now: datetime) -> None:
    """Have a worker work until it finds nothing that is due."""
    worker = Worker(
        work=repository.work, prober=TrustingProber(), policy=policy, administration=repository.administration
    )
    for _ in range(20):
        due = await repository.work.next_due(platform=worker.providing is None)
        if not (due.has_lookups(now) or due.has_steps(now)):
            return
        await worker.run_once(now)
    raise AssertionError("it never comes to rest")


async def made(repository: Repository, within: Domain, name: str) -> Mailbox:
    """A mailbox that the mail platform has."""
    created = await new_one(repository, within, mailbox(name, policy=PLATFORM))
    if created.provision_id is not None:
        await repository.administration.settle_provision(
            OPERATOR, created.provision_id, partial(confirm_provision, now=NOW)
        )
    return created


def _delete(stored: Mailbox, _status: DomainStatus, *, retention: timedelta) -> Mailbox:
    return delete_mailbox(stored, retention, NOW)


async def test_what_a_platform_was_asked_for_is_done_without_one(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    scope, mailboxes = tenant.context, repository.mailboxes

    async def new_alias_of(one: Mailbox, name: str) -> Alias:
        make = partial(new_alias, alias_id=new_id(), local_part=name, description="", policy=PLATFORM, now=NOW)
        return await repository.aliases.create(scope, one.id, make)

    new = create_domain_on_platform(domain(tenant, "new.test"))
    await repository.domains.create(scope, new, records(new), SECRETS)
    within = await new_domain(repository, tenant)
    later = await new_domain(repository, tenant, "later.test", D.WAITING_VALIDATION)
    going = await new_domain(repository, tenant, "going.test")

    creating = await new_one(repository, within, mailbox("creating", policy=PLATFORM))
    failing = await new_one(repository, within, mailbox("failing", policy=PLATFORM))
    waiting = await new_one(repository, later, mailbox("waiting", policy=PLATFORM))
    restoring, leaving, gone = [await made(repository, within, name) for name in ("restoring", "leaving", "gone")]
    with_domain = await made(repository, going, "with")
    of_domain = await new_alias_of(with_domain, "alias")
    kept, dropped, unmade = [
        await new_alias_of(one, f"{name}-alias")
        for name, one in (("kept", creating), ("dropped", creating), ("unmade", waiting))
    ]

    fail = partial(fail_provision, reason="no space", now=NOW)
    await repository.administration.settle_provision(OPERATOR, (await pending(repository))[failing.email].id, fail)
    await repository.administration.settle_provision(
        OPERATOR, (await pending(repository))[dropped.email].id, partial(confirm_provision, now=NOW)
    )
    await repository.aliases.delete(scope, dropped.id, partial(delete_alias, policy=PLATFORM, now=NOW))
    for one, retention in ((restoring, RETENTION), (leaving, timedelta(0)), (gone, RETENTION)):
        deleting = partial(_delete, retention=retention)
        await mailboxes.change(scope, one.id, deleting)
    await mailboxes.change(scope, restoring.id, partial(restore_mailbox, policy=PLATFORM, now=NOW))
    await repository.domains.delete(scope, going.id, partial(delete_domain, now=NOW), NOW)
    worker = Worker(work=repository.work, prober=None, policy=PLATFORM, administration=repository.administration)
    await worker.run_once(NOW)
    statuses = {one.email: (await mailboxes.get(scope, one.id)).status for one in (creating, restoring, leaving)}
    assert list(statuses.values()) == [M.CREATING, M.RESTORING, M.DELETING]
    assert len(await pending(repository)) == 9

    await repository.domains.begin_validation(scope, later.id, partial(begin_validation, now=NOW), NOW)
    await rest(repository, FREE, LATER)

    for one in (creating, failing, waiting, restoring):
        assert (await mailboxes.get(scope, one.id)).status is M.READY
    for alias in (kept, unmade):
        assert (await repository.aliases.get(scope, alias.id)).status is AliasStatus.READY
    assert (await repository.domains.get(scope, new.id)).status is D.WAITING_VALIDATION
    for getting in (
        mailboxes.get(scope, leaving.id),
        mailboxes.get(scope, with_domain.id),
        repository.aliases.get(scope, dropped.id),
        repository.aliases.get(scope, of_domain.id),
        repository.domains.get(scope, going.id),
    ):
        with pytest.raises(NotFound):
            await getting
    assert (await mailboxes.get(scope, gone.id)).status is M.DELETION_SCHEDULED
    assert await pending(repository) == {}
    await check_invariants(raw)


async def test_what_a_platform_is_asked_for_is_its_own_where_there_is_one(
    repository: Repository, tenant: Tenant
) -> None:
    ada = await new_one(repository, await new_domain(repository, tenant), mailbox("ada", policy=PLATFORM))
    await rest(repository, PLATFORM, LATER)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.CREATING
    assert list(await pending(repository)) == [ada.email]


async def test_a_provision_that_can_not_be_settled_holds_up_no_other(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = await new_domain(repository, tenant)
    ada, bob = [await new_one(repository, within, mailbox(name, policy=PLATFORM)) for name in ("ada", "bob")]

    def faulty(provision: Provision, *arguments: object, **others: object) -> object:
        if provision.mailbox_id == ada.id:
            raise ZeroDivisionError
        return confirm_provision(provision, *arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr("postroomd.worker.steps.confirm_provision", faulty)
    await rest(repository, FREE, LATER)
    assert (await repository.mailboxes.get(tenant.context, bob.id)).status is M.READY
    assert (await pending(repository))[ada.email].attempts == 1
    monkeypatch.undo()
    await rest(repository, FREE, LATER + LEASE)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.READY


async def test_what_is_owed_is_settled_in_its_time_once_periods_cost_nothing(
    repository: Repository, tenant: Tenant, raw: AsyncEngine
) -> None:
    ada = await new_one(repository, await new_domain(repository, tenant), mailbox("ada", policy=BILLED))
    await rest(repository, FREE, NOW + BILLED.payment_term)
    assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.READY
    assert [row[8] for row in (await dump(raw))["payments"]] == [PaymentStatus.VOID]
