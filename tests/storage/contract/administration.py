"""Contract of the operator's methods: payments, provisions, locks, history, tombstones."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.aliases import delete_alias, new_alias
from postroomd.domain.context import CallContext
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import Conflict, InvalidArguments, NotFound, PreconditionFailed
from postroomd.domain.events import MailboxEvent
from postroomd.domain.history import Tombstone, Transition, address_hash
from postroomd.domain.mailboxes import delete_mailbox, lock_mailbox, restore_mailbox, unlock_mailbox
from postroomd.domain.model import Alias, AliasStatus, DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.payments import Payment, PaymentStatus, confirm_payment, refuse_payment
from postroomd.domain.policy import LifecyclePolicy, Quarantine
from postroomd.domain.provisioning import (
    FIRST_RETRY,
    confirm_provision,
    fail_provision,
)
from postroomd.domain.provisions import Provision, ProvisionKind, ProvisionStatus
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import Worker
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
    new_neighbor,
    new_tenant,
    records,
)
from tests.support.lifecycle import BILLED, FREE, PLATFORM, RETENTION
from tests.support.worker import activate_domains, drain

E, M = MailboxEvent, MailboxStatus
LATER = NOW + timedelta(hours=1)
DAY = timedelta(days=1)


async def open_payments(repository: Repository) -> Sequence[Payment]:
    return (await repository.administration.pending_payments("", 100)).items


async def due_provisions(repository: Repository, after: timedelta = timedelta(0)) -> Sequence[Provision]:
    """Return the provisions that are due so long after LATER."""
    return (await repository.administration.pending_provisions(LATER + after, "", 100)).items


async def confirm_all(repository: Repository) -> int:
    """Confirm every pending provision, and return how many there were."""
    provisions = await due_provisions(repository, timedelta(days=4_000))
    for provision in provisions:
        await repository.administration.settle_provision(OPERATOR, provision.id, partial(confirm_provision, now=LATER))
    return len(provisions)


def worker(repository: Repository, policy: LifecyclePolicy) -> Worker:
    return Worker(work=repository.work, prober=TrustingProber(), policy=policy)


async def history(repository: Repository, mailbox_id: str) -> list[tuple[str, MailboxStatus | None, str]]:
    """Return the cause, the new status and the actor of each transition of a mailbox."""
    found = await repository.administration.transitions(mailbox_id, 0, 100)
    assert [each.from_status for each in found] == [None, *(each.to_status for each in found[:-1])]
    assert [each.revision for each in found] == sorted({each.revision for each in found})
    return [(each.cause, each.to_status, each.actor) for each in found]


class AdministrationContract:
    """The contract of `Administration`."""

    # --- Payments -----------------------------------------------------------------------------------------------------

    async def test_a_payment_is_requested_and_confirmed_once(self, repository: Repository, tenant: Tenant) -> None:
        ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=BILLED))
        (payment,) = await open_payments(repository)
        assert (payment.mailbox_id, payment.address, payment.status) == (
            ada.id,
            "ada@example.com",
            PaymentStatus.PENDING,
        )
        assert (payment.period_started_at, payment.overdue_at) == (None, NOW + BILLED.payment_term)
        view = await repository.mailboxes.view(tenant.context, ada.id)
        assert (view.subscription_period, view.subscription_period_started_at) == (None, None)
        rule = partial(confirm_payment, now=LATER)
        confirmed = await repository.administration.settle_payment(OPERATOR, payment.id, rule)
        assert confirmed == replace(payment, status=PaymentStatus.CONFIRMED, settled_at=LATER, period_started_at=LATER)
        started = await repository.mailboxes.get(tenant.context, ada.id)
        assert (started.status, started.subscription_period_started_at) == (M.READY, LATER)
        assert await open_payments(repository) == []
        again = await repository.administration.settle_payment(
            OPERATOR, payment.id, partial(confirm_payment, now=LATER + DAY)
        )
        assert again == confirmed
        with pytest.raises(NotFound):
            await repository.administration.settle_payment(OPERATOR, new_id(), rule)

    async def test_open_payments_are_listed_except_during_a_scheduled_deletion(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=BILLED))
        (payment,) = await open_payments(repository)
        await drain(worker(repository, BILLED), NOW + 7 * DAY)
        assert [each.status for each in await open_payments(repository)] == [PaymentStatus.OVERDUE]
        refuse = partial(refuse_payment, reason="no cover", policy=BILLED, now=NOW + 8 * DAY)
        refused = await repository.administration.settle_payment(OPERATOR, payment.id, refuse)
        assert (refused.status, refused.reason) == (PaymentStatus.REFUSED, "no cover")
        await drain(worker(repository, BILLED), NOW + 27 * DAY)
        assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.LOCKED
        assert len(await open_payments(repository)) == 1
        await drain(worker(repository, BILLED), NOW + 28 * DAY)
        assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.DELETION_SCHEDULED
        assert await open_payments(repository) == []
        restore = partial(restore_mailbox, policy=BILLED, now=NOW + 28 * DAY)
        await repository.mailboxes.change(tenant.context, ada.id, restore)
        (renewed,) = await open_payments(repository)
        assert (renewed.id, renewed.status) == (payment.id, PaymentStatus.PENDING)
        assert (renewed.requested_at, renewed.overdue_at) == (NOW + 28 * DAY, NOW + 28 * DAY + BILLED.payment_term)
        assert (renewed.settled_at, renewed.reason) == (None, None)
        assert [cause for cause, _, _ in await history(repository, ada.id)] == [
            E.CREATE,
            E.PAYMENT_OVERDUE,
            E.PAYMENT_GRACE_OVER,
            E.SUSPENSION_OVER,
            E.RESTORE,
        ]

    async def test_the_payment_of_an_abandoned_period_is_void(self, repository: Repository, tenant: Tenant) -> None:
        domain = await new_domain(repository, tenant)
        ada = await new_mailbox(repository, domain, mailbox("ada", policy=BILLED))
        bob = await new_mailbox(repository, domain, mailbox("bob", policy=BILLED))
        for payment in await open_payments(repository):
            await repository.administration.settle_payment(OPERATOR, payment.id, partial(confirm_payment, now=NOW))
        renewal = NOW + 29 * DAY
        await drain(worker(repository, BILLED), renewal)
        first = {each.mailbox_id: each for each in await open_payments(repository)}
        assert {each.period_started_at for each in first.values()} == {renewal}
        for one in (ada, bob):
            await repository.mailboxes.change(
                tenant.context, one.id, lambda it, _: delete_mailbox(it, 40 * DAY, renewal)
            )
        restore = partial(restore_mailbox, policy=BILLED, now=renewal + 35 * DAY)  # after the period's end
        await repository.mailboxes.change(tenant.context, ada.id, restore)
        (second,) = await open_payments(repository)
        assert (second.mailbox_id, second.period_started_at) == (ada.id, None)
        await drain(worker(repository, BILLED), renewal + 40 * DAY)  # purges bob
        for one in (ada, bob):
            with pytest.raises(PreconditionFailed, match="is void"):
                await repository.administration.settle_payment(
                    OPERATOR, first[one.id].id, partial(confirm_payment, now=LATER)
                )

    async def test_each_period_has_exactly_one_payment(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=BILLED))
        now = NOW
        for _ in range(4):
            (payment,) = await open_payments(repository)
            await repository.administration.settle_payment(OPERATOR, payment.id, partial(confirm_payment, now=now))
            renewal = (await repository.mailboxes.get(tenant.context, ada.id)).next_subscription_period_starts_at
            assert renewal is not None
            now = renewal
            await drain(worker(repository, BILLED), now)
        stored = (await dump(raw))["payments"]
        assert len(stored) == len({row[5] for row in stored}) == 5

    async def test_a_list_continues_at_its_cursor(self, repository: Repository, tenant: Tenant) -> None:
        both = replace(BILLED, provisioning=True)
        domain = await new_domain(repository, tenant)
        for hour in range(5):
            await new_mailbox(
                repository, domain, mailbox(f"paid{hour}", policy=BILLED, now=NOW - timedelta(hours=hour))
            )
            await new_mailbox(
                repository, domain, mailbox(f"new{hour}", policy=PLATFORM, now=NOW - timedelta(hours=hour))
            )
        await new_mailbox(repository, domain, mailbox("unpaid", policy=both))
        administration = repository.administration
        for list_method, prefix in (
            (administration.pending_payments, "paid"),
            (partial(administration.pending_provisions, LATER), "new"),
        ):
            seen, cursor = [], ""
            while True:
                page = await list_method(cursor, 2)
                seen += [item.address.partition("@")[0] for item in page.items]
                cursor = page.next_cursor
                if not cursor:
                    break
            assert [name for name in seen if name != "unpaid"] == [f"{prefix}{hour}" for hour in (4, 3, 2, 1, 0)]
            for malformed in ("x", "bm8=", "MTIvbm8="):
                with pytest.raises(InvalidArguments):
                    await list_method(malformed, 2)

    # --- The mail platform --------------------------------------------------------------------------------------------

    async def test_a_mailbox_is_created_restored_and_deleted_by_the_platform(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=PLATFORM))
        ids = []
        for kind, before, after in (
            (ProvisionKind.CREATE, M.CREATING, M.READY),
            (ProvisionKind.RESTORE, M.RESTORING, M.READY),
        ):
            (provision,) = await due_provisions(repository)
            assert (provision.kind, provision.mailbox_id, provision.address) == (kind, ada.id, "ada@example.com")
            assert (await repository.mailboxes.get(tenant.context, ada.id)).status is before
            assert await confirm_all(repository) == 1
            assert (await repository.mailboxes.get(tenant.context, ada.id)).status is after
            ids.append(provision.id)
            await repository.mailboxes.change(tenant.context, ada.id, lambda it, _: delete_mailbox(it, RETENTION, NOW))
            if kind is ProvisionKind.CREATE:
                restore = partial(restore_mailbox, policy=PLATFORM, now=NOW)
                await repository.mailboxes.change(tenant.context, ada.id, restore)
        await drain(worker(repository, PLATFORM), NOW + RETENTION)
        assert (await repository.mailboxes.get(tenant.context, ada.id)).status is M.DELETING
        (provision,) = await due_provisions(repository, RETENTION)
        assert provision.kind is ProvisionKind.DELETE
        await confirm_all(repository)
        await check_invariants(raw)
        again = await repository.administration.settle_provision(
            OPERATOR, provision.id, partial(confirm_provision, now=LATER + DAY)
        )
        assert (again.status, again.settled_at, again.address) == (ProvisionStatus.CONFIRMED, LATER, "")
        tombstone = await repository.administration.get_mailbox(ada.id)
        assert isinstance(tombstone, Tombstone)
        assert tombstone.cause is E.PURGE_DUE
        assert [cause for cause, _, _ in await history(repository, ada.id)][-2:] == [E.PURGE_DUE, E.PURGED]
        assert len({*ids, provision.id}) == 3

    async def test_a_failed_provision_is_listed_again_after_its_backoff(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        ada = await new_mailbox(repository, await new_domain(repository, tenant), mailbox("ada", policy=PLATFORM))
        (provision,) = await due_provisions(repository)
        rule = partial(fail_provision, reason="disk full", now=LATER)
        failed = await repository.administration.settle_provision(OPERATOR, provision.id, rule)
        assert (failed.attempts, failed.error, failed.next_attempt_at) == (1, "disk full", LATER + FIRST_RETRY)
        assert await due_provisions(repository) == []
        (listed,) = await due_provisions(repository, FIRST_RETRY)
        assert replace(listed, mailbox_state=None) == failed
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        with pytest.raises(NotFound):
            await repository.administration.settle_provision(OPERATOR, new_id(), rule)

    async def test_an_alias_is_requested_once_its_domain_is_ready(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
        (ada,) = await new_mailboxes(repository, domain, "ada")

        def make(of: Mailbox, alias_id: str, local_part: str) -> Alias:
            return new_alias(of, alias_id=alias_id, local_part=local_part, description="", policy=PLATFORM, now=NOW)

        early = await repository.aliases.create(
            tenant.context, ada.id, partial(make, alias_id=new_id(), local_part="early")
        )
        assert (early.status, await due_provisions(repository)) == (AliasStatus.PROVISIONING, [])
        while await activate_domains(repository.work, DAY, LATER, 1):  # the alias alone reaches the limit
            pass
        late = await repository.aliases.create(
            tenant.context, ada.id, partial(make, alias_id=new_id(), local_part="late")
        )
        provisions = await due_provisions(repository)
        assert {(each.alias_id, each.kind, each.address) for each in provisions} == {
            (early.id, ProvisionKind.CREATE, "early@example.com"),
            (late.id, ProvisionKind.CREATE, "late@example.com"),
        }
        await confirm_all(repository)
        assert (await repository.aliases.get(tenant.context, early.id)).status is AliasStatus.READY
        rule = partial(delete_alias, policy=PLATFORM, now=LATER)
        deleting = await repository.aliases.delete(tenant.context, early.id, rule)
        assert await repository.aliases.get(tenant.context, early.id) == deleting
        assert await repository.aliases.delete(tenant.context, early.id, rule) == deleting
        with pytest.raises(Conflict):
            await new_mailboxes(repository, domain, "early")
        await confirm_all(repository)
        with pytest.raises(NotFound):
            await repository.aliases.get(tenant.context, early.id)
        await new_mailboxes(repository, domain, "early")
        await check_invariants(raw)

    async def test_the_platform_deletes_the_mailboxes_before_their_domain(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = creating_domain(tenant)
        await repository.domains.create(tenant.context, created, records(created), SECRETS)
        assert (await repository.domains.get(tenant.context, created.id)).status is DomainStatus.CREATING
        (provision,) = await due_provisions(repository)
        assert (provision.kind, provision.domain_id, provision.mailbox_id, provision.address) == (
            ProvisionKind.CREATE,
            created.id,
            None,
            "example.com",
        )
        await confirm_all(repository)
        found = await repository.domains.get(tenant.context, created.id)
        assert found.status is DomainStatus.WAITING_VALIDATION
        ready = await new_domain(repository, tenant, "ready.test")
        ada, bob = [await new_mailbox(repository, ready, mailbox(name, policy=PLATFORM)) for name in ("ada", "bob")]
        (of_ada,) = [each for each in await due_provisions(repository) if each.mailbox_id == ada.id]
        await repository.administration.settle_provision(OPERATOR, of_ada.id, partial(confirm_provision, now=LATER))
        await repository.domains.delete(tenant.context, ready.id, partial(delete_domain, force=True, now=LATER), LATER)
        requested = []
        for _ in range(3):
            await drain(worker(repository, PLATFORM), LATER)
            requested.append([each.kind for each in await due_provisions(repository)])
            await confirm_all(repository)
            await check_invariants(raw)
        assert requested == [[ProvisionKind.DELETE] * 2, [ProvisionKind.DELETE], []]
        with pytest.raises(NotFound):
            await repository.domains.get(tenant.context, ready.id)
        for one in (ada, bob):
            tombstone = await repository.administration.get_mailbox(one.id)
            assert isinstance(tombstone, Tombstone)
            assert tombstone.cause is E.DOMAIN_DELETED

    # --- History and tombstones ---------------------------------------------------------------------------------------

    async def test_every_transition_is_recorded_with_cause_and_actor(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
        (ada,) = await new_mailboxes(repository, domain, "ada", actor="key:SCWADA")
        await drain(worker(repository, FREE), LATER)
        eve = CallContext(actor="admin:eve")
        administration = repository.administration
        await administration.change_mailbox(eve, ada.id, partial(lock_mailbox, reason="abuse", now=LATER))
        locked = await administration.get_mailbox(ada.id)
        assert isinstance(locked, Mailbox)
        assert (locked.status, locked.lock_reason) == (M.LOCKED, "abuse")
        await administration.change_mailbox(eve, ada.id, partial(unlock_mailbox, now=LATER))
        by_ada = replace(tenant.context, actor="key:SCWADA")
        await repository.domains.delete(by_ada, domain.id, partial(delete_domain, force=True, now=LATER), LATER)
        await drain(worker(repository, FREE), LATER)
        assert await history(repository, ada.id) == [
            (E.CREATE, M.WAITING_DOMAIN, "key:SCWADA"),
            (E.DOMAIN_READY, M.READY, "worker"),
            (E.LOCK, M.LOCKED, "admin:eve"),
            (E.UNLOCK, M.READY, "admin:eve"),
            (E.DOMAIN_DELETED, M.DELETING, "key:SCWADA"),
            (E.PURGED, None, "worker"),
        ]
        first, second = await administration.transitions(ada.id, 0, 2)
        assert await administration.transitions(ada.id, first.revision, 1) == [second]
        assert first == Transition(
            mailbox_id=ada.id,
            revision=1,
            organization_id=ada.organization_id,
            project_id=ada.project_id,
            domain_id=ada.domain_id,
            from_status=None,
            to_status=M.WAITING_DOMAIN,
            at=NOW,
            cause=E.CREATE,
            actor="key:SCWADA",
        )

    async def test_a_purged_mailbox_leaves_a_tombstone(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        (theirs,) = await new_mailboxes(
            repository, await new_domain(repository, other, status=DomainStatus.VALIDATING), "ada"
        )
        await repository.mailboxes.change(tenant.context, ada.id, lambda it, _: delete_mailbox(it, RETENTION, NOW))
        await drain(worker(repository, FREE), NOW + RETENTION)
        assert await repository.administration.get_mailbox(ada.id) == Tombstone(
            mailbox_id=ada.id,
            organization_id=ada.organization_id,
            project_id=ada.project_id,
            domain_id=ada.domain_id,
            address_hash=address_hash(ada.organization_id, "ada@example.com"),
            purged_at=NOW + RETENTION,
            cause=E.PURGE_DUE,
        )
        assert await repository.administration.mailboxes_with_address("ada@example.com") == [ada.id, theirs.id]
        assert await repository.administration.mailboxes_with_address("bob@example.com") == []
        expected = [
            each
            for mailbox_id in sorted([ada.id, theirs.id])
            for each in await repository.administration.transitions(mailbox_id, 0, 10)
        ]
        listed: list[Transition] = []
        after = ("", 0)
        while page := await repository.administration.transitions_with_address("ada@example.com", after, 2):
            listed += page
            after = (page[-1].mailbox_id, page[-1].revision)
        assert listed == expected
        assert {each.mailbox_id for each in listed} == {ada.id, theirs.id}
        with pytest.raises(NotFound):
            await repository.administration.transitions_with_address("bob@example.com", ("", 0), 2)
        assert [*await repository.administration.mailboxes([ada.id, theirs.id, new_id()])] == [theirs.id]
        for call in (
            repository.administration.get_mailbox(new_id()),
            repository.administration.transitions(new_id(), 0, 10),
            repository.administration.change_mailbox(OPERATOR, ada.id, lambda it, _: it),
        ):
            with pytest.raises(NotFound):
                await call

    async def test_a_purged_address_is_quarantined_within_its_organization(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        theirs = await new_domain(repository, other, status=DomainStatus.VALIDATING)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        await repository.mailboxes.change(tenant.context, ada.id, lambda it, _: delete_mailbox(it, RETENTION, NOW))
        purged_at = NOW + RETENTION
        await drain(worker(repository, FREE), purged_at)
        after_end = Quarantine(10 * DAY, purged_at + 10 * DAY)
        before_end = replace(after_end, now=after_end.now - timedelta(microseconds=1))
        before = await dump(raw)
        with pytest.raises(Conflict, match=r"ada@example\.com is in quarantine until 2024-03-11T12:30:15Z: "):
            await repository.mailboxes.create(tenant.context, domain.id, [mailbox("ada"), mailbox("carol")], before_end)

        def make(of: Mailbox) -> Alias:
            return new_alias(of, alias_id=new_id(), local_part="ada", description="", policy=FREE, now=NOW)

        with pytest.raises(Conflict, match="in quarantine"):
            await repository.aliases.create(tenant.context, bob.id, make, before_end)
        assert await dump(raw) == before
        await repository.mailboxes.create(other.context, theirs.id, [mailbox("ada")], before_end)
        await repository.mailboxes.create(tenant.context, domain.id, [mailbox("ada")], after_end)

    async def test_payments_and_transitions_belong_to_the_mailboxs_tenant(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, await new_tenant(repository))
        ada = await new_mailbox(repository, await new_domain(repository, neighbor), mailbox("ada", policy=BILLED))
        (payment,) = await open_payments(repository)
        (transition,) = await repository.administration.transitions(ada.id, 0, 10)
        for row in (payment, transition):
            assert (row.organization_id, row.project_id) == (neighbor.organization.id, neighbor.project.id)
            assert row.organization_id != tenant.organization.id
