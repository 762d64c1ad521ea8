"""Contract of the ownership of names: release, hand-over, propagation to mailboxes in chunks, and history."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import NotFound, PreconditionFailed
from postroomd.domain.events import DomainEvent, MailboxEvent, ProvisionStanding
from postroomd.domain.history import DomainTransition, address_hash
from postroomd.domain.mailbox_status import status_of
from postroomd.domain.mailboxes import delete_mailbox, follow_domain, restore_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, RecordStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision
from postroomd.domain.provisions import ProvisionKind
from postroomd.domain.records import RECORD_KINDS, Finding
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.storage.contract.steps import purge
from tests.support.database_state import check_invariants, rows_of
from tests.support.factories import (
    NOW,
    OPERATOR,
    Tenant,
    mailbox,
    new_domain,
    new_id,
    new_mailbox,
    new_mailboxes,
    new_tenant,
)
from tests.support.lifecycle import FREE, PLATFORM
from tests.support.worker import activate_domains, propagate, validation_rule

D, M = DomainStatus, MailboxStatus
LATER = NOW + timedelta(hours=1)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)
INTERVAL = timedelta(days=1)

ALL_VALID: Mapping[str, Finding] = {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}
ABSENT = Finding(RecordStatus.NOT_FOUND, "no TXT record")
TOKEN_ABSENT: Mapping[str, Finding] = {**ALL_VALID, "domain_validation": ABSENT}
AT_ONCE = replace(FREE, release_grace=timedelta(0))


async def look_up(
    repository: Repository,
    tenant: Tenant,
    domain: Domain,
    findings: Mapping[str, Finding],
    policy: LifecyclePolicy = AT_ONCE,
    rival_tokens: Mapping[str, Finding] | None = None,
) -> Domain:
    """Make the lookup of a domain due, and settle it with these findings."""
    rule = partial(begin_validation, now=LATER)
    await repository.domains.begin_validation(tenant.context, domain.id, rule, LATER)
    while True:  # a row that another transaction has locked is skipped
        leases = await repository.work.lease_domains(LATER, LEASE, 100)
        if lease := next((each for each in leases if each.domain.id == domain.id), None):
            break
    settling = validation_rule(findings, INTERVAL, LATER, policy=policy, rival_tokens=rival_tokens or {})
    return (await repository.work.settle_validation(lease, settling)).domain


async def lose(repository: Repository, tenant: Tenant, domain: Domain, policy: LifecyclePolicy = AT_ONCE) -> Domain:
    """Release a ready domain."""
    return await look_up(repository, tenant, domain, TOKEN_ABSENT, policy)


async def regain(repository: Repository, tenant: Tenant, domain: Domain) -> None:
    """Validate a released domain, and activate it."""
    await look_up(repository, tenant, domain, ALL_VALID)
    await activate_domains(repository.work, INTERVAL, LATER, 10)


async def statuses(repository: Repository, tenant: Tenant, mailboxes: list[Mailbox]) -> dict[str, MailboxStatus]:
    found = [await repository.mailboxes.get(tenant.context, each.id) for each in mailboxes]
    return {each.address.local_part: each.status for each in found}


async def one_of_each_status(repository: Repository, domain: Domain) -> list[Mailbox]:
    """Mailboxes of a ready domain in every status that does not depend on it being deleted."""
    every = [status for status in M if status is not M.WAITING_DOMAIN]

    def with_own_provision(new: Mailbox) -> Mailbox:
        return replace(new, provision_id=new.provision_id and new_id())

    batch = [mailbox(status.value, status=status, change=with_own_provision) for status in every]
    return [await new_mailbox(repository, domain, new) for new in batch]


async def events(repository: Repository, domain: Domain) -> list[tuple[str | None, str | None, str, str]]:
    found = await repository.administration.domain_transitions(domain.id, 0, 100)
    return [(each.from_status, each.to_status, each.cause, each.actor) for each in found]


class OwnershipContract:
    """The contract of the ownership of names."""

    # --- Release and propagation --------------------------------------------------------------------------------------

    async def test_a_release_changes_the_domains_row_only(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, "ada", "bob")
        rows = select(t.mailboxes).order_by(t.mailboxes.c.id)
        before = await rows_of(raw, rows)
        lost = await lose(repository, tenant, domain)
        assert lost.status is D.WAITING_VALIDATION
        assert await repository.domains.get(tenant.context, domain.id) == lost
        assert await rows_of(raw, rows) == before
        assert (await repository.work.next_due()).immediate

    async def test_mailboxes_in_use_follow_and_the_others_keep_their_status(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = await one_of_each_status(repository, domain)
        before = await statuses(repository, tenant, mailboxes)
        await lose(repository, tenant, domain)
        await propagate(repository.work, LATER)
        in_use = {M.READY, M.CREATING, M.RESTORING}
        expected = {name: M.WAITING_DOMAIN if status in in_use else status for name, status in before.items()}
        assert await statuses(repository, tenant, mailboxes) == expected
        (ready,) = [each for each in mailboxes if each.status is M.READY]
        last = (await repository.administration.transitions(ready.id, 0, 10))[-1]
        assert (last.from_status, last.to_status, last.cause, last.actor, last.at) == (
            M.READY,
            M.WAITING_DOMAIN,
            MailboxEvent.DOMAIN_LOST,
            "worker",
            LATER,
        )
        await check_invariants(raw)

        await regain(repository, tenant, domain)
        await propagate(repository.work, LATER)
        assert await statuses(repository, tenant, mailboxes) == before
        await check_invariants(raw)

    async def test_mailboxes_follow_in_chunks_that_others_can_continue(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = [*await new_mailboxes(repository, domain, *(f"m{number:02}" for number in range(10)))]
        await lose(repository, tenant, domain)
        rule = partial(follow_domain, now=LATER)
        assert await repository.work.propagate_domain(rule, 4) == 4
        counts = select(func.count()).where(t.mailboxes.c.status == M.WAITING_DOMAIN)
        assert await rows_of(raw, counts) == [(4,)]
        assert (await repository.work.next_due()).immediate
        with pytest.raises(PreconditionFailed):
            await new_mailboxes(repository, domain, "late")
        # The next chunk is that of another worker.
        assert [await repository.work.propagate_domain(rule, 4) for _ in range(3)] == [4, 2, 0]
        assert set((await statuses(repository, tenant, mailboxes)).values()) == {M.WAITING_DOMAIN}
        assert not (await repository.work.next_due()).immediate

    @pytest.mark.parametrize("statement", range(7))
    async def test_a_crash_between_chunks_loses_nothing(
        self, repository: Repository, tenant: Tenant, statement: int
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = [*await new_mailboxes(repository, domain, *(f"m{number}" for number in range(6)))]
        await lose(repository, tenant, domain)
        rule = partial(follow_domain, now=LATER)
        await repository.work.propagate_domain(rule, 2)
        remaining = statement

        def crash(*_: object) -> None:
            nonlocal remaining
            remaining -= 1
            if remaining < 0:
                raise ZeroDivisionError

        event.listen(Engine, "before_cursor_execute", crash)
        try:
            await asyncio.gather(repository.work.propagate_domain(rule, 2), return_exceptions=True)
        finally:
            event.remove(Engine, "before_cursor_execute", crash)
        await propagate(repository.work, LATER, 2)
        assert set((await statuses(repository, tenant, mailboxes)).values()) == {M.WAITING_DOMAIN}
        for each in mailboxes:
            assert len(await repository.administration.transitions(each.id, 0, 10)) == 2

    async def test_a_domain_that_returns_during_the_propagation_begins_again(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = [*await new_mailboxes(repository, domain, *(f"m{number}" for number in range(6)))]
        await lose(repository, tenant, domain)
        await repository.work.propagate_domain(partial(follow_domain, now=LATER), 2)
        await regain(repository, tenant, domain)
        assert await propagate(repository.work, LATER, 2) >= 3
        assert set((await statuses(repository, tenant, mailboxes)).values()) == {M.READY}

    async def test_workers_propagate_concurrently(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        mailboxes: list[Mailbox] = []
        for name in ("a.test", "b.test"):
            domain = await new_domain(repository, tenant, name)
            mailboxes += await new_mailboxes(repository, domain, *(f"m{number:02}" for number in range(12)))
            await lose(repository, tenant, domain)
        await asyncio.gather(*(propagate(repository.work, LATER, 3) for _ in range(4)))
        await propagate(repository.work, LATER, 3)
        found = [await repository.mailboxes.get(tenant.context, each.id) for each in mailboxes]
        assert {each.status for each in found} == {M.WAITING_DOMAIN}
        assert {each.revision for each in found} == {2}
        await check_invariants(raw)

    async def test_changes_of_mailboxes_during_a_propagation_agree_with_the_domain(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = [*await new_mailboxes(repository, domain, *(f"m{number:02}" for number in range(20)))]
        delete = partial(delete_mailbox, retention=timedelta(days=30), now=NOW)
        for each in mailboxes:
            await repository.mailboxes.change(tenant.context, each.id, lambda one, _: delete(one))

        async def restore(each: Mailbox) -> None:
            rule = partial(restore_mailbox, policy=FREE, now=LATER)
            await repository.mailboxes.change(tenant.context, each.id, rule)

        async def release() -> None:
            await lose(repository, tenant, domain)
            await propagate(repository.work, LATER, 5)

        await asyncio.gather(release(), *map(restore, mailboxes))
        await propagate(repository.work, LATER, 5)
        assert set((await statuses(repository, tenant, mailboxes)).values()) == {M.WAITING_DOMAIN}
        await check_invariants(raw)

    async def test_a_provision_confirmed_after_the_loss_leaves_the_mailbox_waiting(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        before, after = [
            await new_mailbox(repository, domain, mailbox(name, policy=PLATFORM)) for name in ("before", "after")
        ]
        await lose(repository, tenant, domain)
        confirm = partial(confirm_provision, now=LATER)
        assert before.provision_id
        assert after.provision_id
        await repository.administration.settle_provision(OPERATOR, before.provision_id, confirm)
        await propagate(repository.work, LATER)
        await repository.administration.settle_provision(OPERATOR, after.provision_id, confirm)
        for each in (before, after):
            found = await repository.mailboxes.get(tenant.context, each.id)
            assert (found.status, found.provision) == (M.WAITING_DOMAIN, ProvisionStanding.PROVIDED)
        await regain(repository, tenant, domain)
        await propagate(repository.work, LATER)
        assert set((await statuses(repository, tenant, [before, after])).values()) == {M.READY}

    # --- Races --------------------------------------------------------------------------------------------------------

    async def test_creations_that_race_with_a_release_agree_with_the_domain(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        outcomes = await asyncio.gather(
            lose(repository, tenant, domain),
            *(new_mailboxes(repository, domain, f"m{number}") for number in range(8)),
            return_exceptions=True,
        )
        assert {type(each) for each in outcomes} <= {Domain, list, PreconditionFailed}
        await propagate(repository.work, LATER)
        lost = await repository.domains.get(tenant.context, domain.id)
        async with raw.connect() as connection:
            stored = (await connection.execute(select(t.mailboxes.c.status))).scalars().all()
        assert set(stored) <= {M.WAITING_DOMAIN}
        assert len(stored) == lost.mailbox_total_count == len([each for each in outcomes if isinstance(each, list)])
        await check_invariants(raw)

    async def test_a_domain_deleted_during_its_release_stays_deleted(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        await new_mailboxes(repository, domain, *(f"m{number}" for number in range(5)))
        await lose(repository, tenant, domain)
        await repository.work.propagate_domain(partial(follow_domain, now=LATER), 2)
        deleting = partial(delete_domain, force=True, now=LATER)
        await repository.domains.delete(tenant.context, domain.id, deleting, LATER)
        assert await propagate(repository.work, LATER) == 0
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []
        assert [await purge(repository, 10) for _ in range(3)] == [5, 1, 0]
        with pytest.raises(NotFound):
            await repository.domains.get(tenant.context, domain.id)
        await check_invariants(raw)

    async def test_a_validation_requested_during_the_lookup_that_releases_is_settled_by_it(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        validate = partial(begin_validation, now=LATER)
        await repository.domains.begin_validation(tenant.context, domain.id, validate, LATER)
        (lease,) = await repository.work.lease_domains(LATER, LEASE, 10)
        assert (await repository.domains.begin_validation(tenant.context, domain.id, validate, LATER)).status is D.READY
        rule = validation_rule(TOKEN_ABSENT, INTERVAL, LATER, policy=AT_ONCE)
        assert (await repository.work.settle_validation(lease, rule)).domain.status is D.WAITING_VALIDATION
        # A further request is served again.
        begun = await repository.domains.begin_validation(tenant.context, domain.id, validate, LATER)
        assert begun.status is D.VALIDATING
        assert [each.domain.id for each in await repository.work.lease_domains(LATER + LEASE, LEASE, 10)] == [domain.id]

    # --- Hand-over ----------------------------------------------------------------------------------------------------

    async def test_a_name_is_handed_over_in_one_transaction(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        owner = await new_domain(repository, other)
        rival = await new_domain(repository, tenant, status=D.WAITING_VALIDATION)
        (found,) = await repository.work.rivals(rival, owning=True, limit=10)
        assert (found.domain, set(found.records)) == (owner, set(RECORD_KINDS))
        assert [each.domain for each in await repository.work.rivals(owner, owning=False, limit=10)] == [rival]
        assert await repository.work.rivals(owner, owning=True, limit=10) == []
        gone = {owner.id: ABSENT}
        won = await look_up(repository, tenant, rival, ALL_VALID, FREE, gone)
        assert won.status is D.PROVISIONING
        former = await repository.domains.get(other.context, owner.id)
        assert (former.status, former.released_at) == (D.WAITING_VALIDATION, LATER)
        token = (await repository.domains.records(other.context, owner.id))["domain_validation"]
        assert (token.status, token.error) == (ABSENT.status, ABSENT.error)
        # Both histories have it, and neither names the other.
        assert (await events(repository, owner))[-1] == (D.READY, D.WAITING_VALIDATION, "ownership_lost", "worker")
        assert (await events(repository, rival))[-1] == (D.VALIDATING, D.PROVISIONING, "records_valid", "worker")
        for history, scope in ((rival, tenant), (owner, other)):
            rows = await rows_of(
                raw, select(t.domain_transitions).where(t.domain_transitions.c.domain_id == history.id)
            )
            assert {row[2] for row in rows} == {scope.organization.id}
            strangers = {tenant.organization.id, other.organization.id, owner.id, rival.id} - {
                scope.organization.id,
                history.id,
            }
            assert not strangers & {str(value) for row in rows for value in row}
        with pytest.raises(PreconditionFailed):
            await new_mailboxes(repository, former, "late")

    async def test_two_rivals_race_for_a_lost_name(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        owner = await new_domain(repository, await new_tenant(repository))
        rivals = [(one, await new_domain(repository, one, status=D.WAITING_VALIDATION)) for one in (tenant, other)]
        for one, domain in rivals:
            rule = partial(begin_validation, now=LATER)
            await repository.domains.begin_validation(one.context, domain.id, rule, LATER)
        leases = await repository.work.lease_domains(LATER, LEASE, 10)
        settling = validation_rule(ALL_VALID, INTERVAL, LATER, rival_tokens={owner.id: ABSENT})
        checks = await asyncio.gather(*(repository.work.settle_validation(lease, settling) for lease in leases))
        assert sorted(check.domain.status for check in checks) == [D.PROVISIONING, D.VALIDATION_FAILED]
        counting = select(func.count()).where(t.domains.c.status == D.PROVISIONING)
        assert await rows_of(raw, counting) == [(1,)]
        assert len([each for each in await events(repository, owner) if each[2] == "ownership_lost"]) == 1

    async def test_a_creation_during_a_hand_over_agrees_with_the_former_owner(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        owner = await new_domain(repository, other)
        rival = await new_domain(repository, tenant, status=D.WAITING_VALIDATION)
        outcomes = await asyncio.gather(
            look_up(repository, tenant, rival, ALL_VALID, FREE, {owner.id: ABSENT}),
            *(new_mailboxes(repository, owner, f"m{number}") for number in range(5)),
            return_exceptions=True,
        )
        await propagate(repository.work, LATER)
        created = [each for some in outcomes if isinstance(some, list) for each in some]
        assert set((await statuses(repository, other, created)).values()) <= {M.WAITING_DOMAIN}
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert {type(each) for each in refused} <= {PreconditionFailed}

    # --- The mail platform --------------------------------------------------------------------------------------------

    async def test_the_platform_suspends_and_restores_a_domain(self, repository: Repository, tenant: Tenant) -> None:
        policy = replace(AT_ONCE, provisioning=True)
        domain = await new_domain(repository, tenant)
        await lose(repository, tenant, domain, policy)
        (suspension,) = (await repository.administration.pending_provisions(FAR, "", 10)).items
        assert (suspension.kind, suspension.domain_id, suspension.mailbox_id) == (
            ProvisionKind.SUSPEND,
            domain.id,
            None,
        )
        assert suspension.address == domain.name
        confirm = partial(confirm_provision, now=LATER)
        await repository.administration.settle_provision(OPERATOR, suspension.id, confirm)
        assert (await repository.domains.get(tenant.context, domain.id)).status is D.WAITING_VALIDATION

        await propagate(repository.work, LATER)
        await look_up(repository, tenant, domain, ALL_VALID, policy)
        assert await activate_domains(repository.work, INTERVAL, LATER, 10) == 0  # the platform restores it first
        assert not (await repository.work.next_due()).immediate
        (restore,) = (await repository.administration.pending_provisions(FAR, "", 10)).items
        assert restore.kind is ProvisionKind.RESTORE
        await repository.administration.settle_provision(OPERATOR, restore.id, confirm)
        assert await activate_domains(repository.work, INTERVAL, LATER, 10) == 1
        assert (await repository.domains.get(tenant.context, domain.id)).status is D.READY

    async def test_a_return_before_the_suspension_is_confirmed_voids_it(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        policy = replace(AT_ONCE, provisioning=True)
        domain = await new_domain(repository, tenant)
        await lose(repository, tenant, domain, policy)
        await look_up(repository, tenant, domain, ALL_VALID, policy)
        (pending,) = (await repository.administration.pending_provisions(FAR, "", 10)).items
        assert pending.kind is ProvisionKind.RESTORE

    # --- History ------------------------------------------------------------------------------------------------------

    async def test_the_history_of_a_domain_has_every_transition(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant, status=D.WAITING_VALIDATION)
        await regain(repository, tenant, domain)
        await lose(repository, tenant, domain)
        deleting = partial(delete_domain, force=True, now=LATER)
        await repository.domains.delete(tenant.context, domain.id, deleting, LATER)
        assert await purge(repository, 10) == 1
        await new_domain(repository, other, "another.test")
        actor = tenant.context.actor
        assert await events(repository, domain) == [
            (None, D.WAITING_VALIDATION, DomainEvent.CREATE, actor),
            (D.WAITING_VALIDATION, D.VALIDATING, DomainEvent.VALIDATE, actor),
            (D.VALIDATING, D.PROVISIONING, DomainEvent.RECORDS_VALID, "worker"),
            (D.PROVISIONING, D.READY, DomainEvent.ACTIVATE, "worker"),
            (D.READY, D.WAITING_VALIDATION, DomainEvent.OWNERSHIP_LOST, "worker"),
            (D.WAITING_VALIDATION, D.DELETING, DomainEvent.DELETE, actor),
            (D.DELETING, None, DomainEvent.PURGED, "worker"),
        ]
        first, second = await repository.administration.domain_transitions(domain.id, 0, 2)
        assert await repository.administration.domain_transitions(domain.id, first.revision, 1) == [second]
        assert first.name_hash == address_hash(tenant.organization.id, domain.name)
        with pytest.raises(NotFound):
            await repository.administration.domain_transitions(new_id(), 0, 10)

    async def test_domains_are_found_by_their_name_also_after_their_purge(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        administration = repository.administration
        purged = await new_domain(repository, tenant)
        deleting = partial(delete_domain, force=True, now=LATER)
        await repository.domains.delete(tenant.context, purged.id, deleting, LATER)
        assert await purge(repository, 10) == 1
        again = await new_domain(repository, tenant, now=LATER)
        theirs = await new_domain(repository, other, status=D.VALIDATING, now=LATER + timedelta(days=1))
        assert await administration.domains_with_name(purged.name) == [purged.id, again.id, theirs.id]
        assert await administration.domains_with_name("unknown.test") == []
        listed: list[DomainTransition] = []
        after = ("", 0)
        while page := await administration.domain_transitions_with_name(purged.name, after, 1):
            listed += page
            after = (page[-1].domain_id, page[-1].revision)
        assert listed == [
            each
            for domain_id in sorted([purged.id, again.id, theirs.id])
            for each in await administration.domain_transitions(domain_id, 0, 10)
        ]
        with pytest.raises(NotFound):
            await administration.domain_transitions_with_name("unknown.test", ("", 0), 1)
        # A domain from before the history began has no transitions.
        async with raw.begin() as connection:
            await connection.execute(t.domain_transitions.delete())
        assert await administration.domains_with_name(purged.name) == [again.id, theirs.id]
        assert await administration.domain_transitions(again.id, 0, 10) == []

    async def test_a_status_agrees_with_the_facts_whatever_the_order_of_events(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        mailboxes = await one_of_each_status(repository, domain)
        async with raw.begin() as connection:  # with cleared retries, as after a failed chunk
            await connection.execute(update(t.domains).values(failures=3))
        for _ in range(2):
            await lose(repository, tenant, domain)
            await propagate(repository.work, LATER, 3)
            for each in mailboxes:
                found = await repository.mailboxes.get(tenant.context, each.id)
                assert found.status is status_of(found, D.WAITING_VALIDATION)
            await regain(repository, tenant, domain)
            await propagate(repository.work, LATER, 3)
            for each in mailboxes:
                found = await repository.mailboxes.get(tenant.context, each.id)
                assert found.status is status_of(found, D.READY)
