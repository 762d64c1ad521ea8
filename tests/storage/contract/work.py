"""Contract of the due work: validation, leases, due times, purges."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import NotFound, PostroomError
from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.forwardings import change_settings
from postroomd.domain.mailboxes import advance_mailbox, delete_mailbox, restore_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, RecordStatus, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.records import NAME_OWNED_ELSEWHERE, RECORD_KINDS, Finding
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.rules import MailboxStep
from postroomd.storage.protocols.work import Due, MailboxLease
from tests.support.database_state import check_invariants, count_of, dump, rows_of
from tests.support.factories import (
    NOW,
    Tenant,
    mailbox,
    new_alias,
    new_domain,
    new_forwarding,
    new_mailbox,
    new_mailboxes,
)
from tests.support.lifecycle import FREE, MICROSECOND
from tests.support.stores import Store
from tests.support.worker import activate_domains, propagate, validation_rule

LATER = NOW + timedelta(hours=1)
RETENTION = timedelta(days=30)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)
INTERVAL = timedelta(days=1)

ALL_VALID: Mapping[str, Finding] = {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}
MX_MISSING: Mapping[str, Finding] = {**ALL_VALID, "mx": Finding(RecordStatus.NOT_FOUND, "no MX record")}


async def validating_domain(repository: Repository, tenant: Tenant, name: str = "example.com") -> Domain:
    """Return a validating domain, whose lookup is due."""
    domain = await new_domain(repository, tenant, name, DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, domain.id, partial(begin_validation, now=NOW), NOW)


def advancing(now: datetime, policy: LifecyclePolicy = FREE) -> MailboxStep:
    return partial(advance_mailbox, policy=policy, now=now)


def purging(_subject: object, _status: object = None) -> None:
    """A rule that purges any mailbox or domain."""


async def lease_due(repository: Repository, now: datetime, limit: int = 10) -> Sequence[MailboxLease]:
    """Lease the mailboxes that are due."""
    return await repository.work.lease_mailboxes(now, LEASE, limit)


async def lease_of(repository: Repository, mailbox: Mailbox, now: datetime = FAR) -> MailboxLease:
    """Lease a mailbox."""
    (lease,) = [each for each in await lease_due(repository, now, 100) if each.mailbox.id == mailbox.id]
    return lease


async def step(
    repository: Repository, mailbox: Mailbox, now: datetime, rule: MailboxStep | None = None, leased_at: datetime = FAR
) -> bool:
    """Lease a mailbox, and take the step that is due at `now`."""
    return await repository.work.advance(await lease_of(repository, mailbox, leased_at), rule or advancing(now), now)


async def settle(
    repository: Repository, domain: Domain, findings: Mapping[str, Finding], now: datetime = LATER
) -> Domain:
    """Lease a domain, and store the findings of its lookup."""
    leases = await repository.work.lease_domains(FAR, LEASE, 100)
    (lease,) = [each for each in leases if each.domain.id == domain.id]
    return (await repository.work.settle_validation(lease, validation_rule(findings, INTERVAL, now))).domain


async def lease_due_domains(repository: Repository, now: datetime = LATER) -> list[Domain]:
    return [each.domain for each in await repository.work.lease_domains(now, LEASE, 10)]


async def purge(repository: Repository, limit: int) -> int:
    """Purge mailboxes and domains without a mail platform."""
    batch = await repository.work.purge_domains(purging, purging, LATER, limit)
    return (batch.mailboxes or 1) if batch else 0


class WorkContract:
    """The contract of `Work`."""

    # --- Validation ---------------------------------------------------------------------------------------------------

    async def test_a_domain_with_valid_records_is_provisioned(self, repository: Repository, tenant: Tenant) -> None:
        domain = await validating_domain(repository, tenant)
        settled = await settle(repository, domain, ALL_VALID, LATER)
        assert replace(settled, revision=domain.revision) == replace(
            domain, status=DomainStatus.PROVISIONING, cause=DomainEvent.RECORDS_VALID, updated_at=LATER
        )
        assert await repository.domains.get(tenant.context, domain.id) == settled
        found = await repository.domains.records(tenant.context, domain.id)
        assert {(record.status, record.error, record.updated_at) for record in found.values()} == {
            (RecordStatus.VALID, None, LATER)
        }
        assert await lease_due_domains(repository) == []

    async def test_a_domain_with_a_missing_record_waits_and_names_the_record(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await validating_domain(repository, tenant)
        before = await repository.domains.records(tenant.context, domain.id)
        settled = await settle(repository, domain, {"mx": MX_MISSING["mx"]}, LATER)
        assert settled.status is DomainStatus.WAITING_VALIDATION
        assert await repository.domains.get(tenant.context, domain.id) == settled
        found = await repository.domains.records(tenant.context, domain.id)
        shown = {kind: replace(record, status=RecordStatus.UNKNOWN_STATUS) for kind, record in before.items()}
        mx = replace(before["mx"], status=RecordStatus.NOT_FOUND, error="no MX record", updated_at=LATER)
        assert found == {**shown, "mx": mx}
        assert await lease_due_domains(repository) == []

    async def test_a_validation_within_the_interval_begins_at_once_and_its_lookup_waits(
        self, store: Store, repository: Repository, tenant: Tenant
    ) -> None:
        interval, another_worker = timedelta(seconds=5), await store.open()
        domain = await validating_domain(repository, tenant)
        await settle(repository, domain, MX_MISSING, LATER)
        soon = LATER + timedelta(seconds=1)
        for _ in range(2):
            again = await repository.domains.begin_validation(
                tenant.context, domain.id, partial(begin_validation, now=soon), soon, interval
            )
            assert again.status is DomainStatus.VALIDATING
        for worker in (repository, another_worker):
            assert await lease_due_domains(worker, LATER + interval - MICROSECOND) == []
        assert await lease_due_domains(another_worker, LATER + interval) == [again]

    async def test_a_validation_after_the_interval_does_not_wait(self, repository: Repository, tenant: Tenant) -> None:
        domain = await validating_domain(repository, tenant)
        await settle(repository, domain, MX_MISSING, LATER)
        # The clock of the process that looked up is ahead: the lookup waits for the interval, not for that time.
        for now in (LATER + INTERVAL, LATER - INTERVAL):
            again = await repository.domains.begin_validation(
                tenant.context, domain.id, partial(begin_validation, now=now), now, LEASE
            )
            due = now if now > LATER else now + LEASE
            assert await lease_due_domains(repository, due - MICROSECOND) == []
            assert await lease_due_domains(repository, due) == [again]
            await settle(repository, domain, MX_MISSING, LATER)

    async def test_an_unchanged_finding_does_not_update_its_record(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await validating_domain(repository, tenant)
        await settle(repository, domain, MX_MISSING, LATER)
        before = await repository.domains.records(tenant.context, domain.id)
        again = await repository.domains.begin_validation(
            tenant.context, domain.id, partial(begin_validation, now=LATER), LATER
        )
        much_later = LATER + timedelta(days=1)
        await settle(repository, again, ALL_VALID, much_later)
        after = await repository.domains.records(tenant.context, domain.id)
        mx = replace(before["mx"], status=RecordStatus.VALID, error=None, updated_at=much_later)
        assert after == {**before, "mx": mx}

    @pytest.mark.parametrize("findings", [ALL_VALID, MX_MISSING], ids=["all valid", "one missing"])
    @pytest.mark.parametrize("status", [status for status in DomainStatus if status is not DomainStatus.VALIDATING])
    async def test_a_lookup_changes_the_status_of_validating_domains_only(
        self, repository: Repository, tenant: Tenant, status: DomainStatus, findings: Mapping[str, Finding]
    ) -> None:
        domain = await new_domain(repository, tenant, status=status)
        await repository.domains.begin_validation(tenant.context, domain.id, lambda stored: stored, NOW)
        settled = await settle(repository, domain, findings, LATER)
        assert settled == domain
        assert await repository.domains.get(tenant.context, domain.id) == domain
        mx = (await repository.domains.records(tenant.context, domain.id))["mx"]
        assert (mx.status, mx.error) == (findings["mx"].status, findings["mx"].error)
        assert await lease_due_domains(repository) == []

    async def test_a_domain_deleted_during_its_lookup_stays_deleted(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await validating_domain(repository, tenant)
        (lease,) = await repository.work.lease_domains(LATER, LEASE, 10)
        deleted = await repository.domains.delete(
            tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW
        )
        check = await repository.work.settle_validation(lease, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain == deleted
        assert await repository.domains.get(tenant.context, domain.id) == deleted

    async def test_a_domain_purged_during_its_lookup_is_returned_as_leased(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await validating_domain(repository, tenant)
        (lease,) = await repository.work.lease_domains(LATER, LEASE, 10)
        await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)
        assert await purge(repository, 10) == 1
        check = await repository.work.settle_validation(lease, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain is lease.domain
        assert await count_of(raw, t.domains) == 0

    @pytest.mark.parametrize("proved", [DomainStatus.PROVISIONING, DomainStatus.READY])
    async def test_a_name_owned_by_another_organization_fails_the_validation(
        self, repository: Repository, tenant: Tenant, other: Tenant, proved: DomainStatus
    ) -> None:
        first = await new_domain(repository, other, status=proved)
        second = await validating_domain(repository, tenant)
        settled = await settle(repository, second, ALL_VALID, LATER)
        assert settled.status is DomainStatus.VALIDATION_FAILED
        found = dict(await repository.domains.records(tenant.context, second.id))
        validation = found.pop("domain_validation")
        assert (validation.status, validation.error) == (RecordStatus.INVALID, NAME_OWNED_ELSEWHERE)
        assert {record.status for record in found.values()} == {RecordStatus.VALID}
        assert await repository.domains.get(other.context, first.id) == first
        untouched = await repository.domains.records(other.context, first.id)
        assert {record.status for record in untouched.values()} == {RecordStatus.UNKNOWN_STATUS}

    @pytest.mark.parametrize(
        "unproved", [status for status in DomainStatus if status not in {DomainStatus.PROVISIONING, DomainStatus.READY}]
    )
    async def test_a_name_merely_registered_elsewhere_can_be_validated(
        self, repository: Repository, tenant: Tenant, other: Tenant, unproved: DomainStatus
    ) -> None:
        await new_domain(repository, other, status=unproved)
        domain = await validating_domain(repository, tenant)
        settled = await settle(repository, domain, ALL_VALID, LATER)
        assert settled.status is DomainStatus.PROVISIONING

    async def test_concurrent_validations_of_one_name_succeed_once(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        domains = [await validating_domain(repository, one) for one in (tenant, other)]
        leases = {each.domain.id: each for each in await repository.work.lease_domains(LATER, LEASE, 10)}
        checks = await asyncio.gather(
            *(
                repository.work.settle_validation(leases[domain.id], validation_rule(ALL_VALID, INTERVAL, LATER))
                for domain in domains
            )
        )
        settled = [check.domain for check in checks]
        assert sorted(one.status for one in settled) == [DomainStatus.PROVISIONING, DomainStatus.VALIDATION_FAILED]
        for one, owner in zip(settled, (tenant, other), strict=True):
            assert await repository.domains.get(owner.context, one.id) == one
            found = (await repository.domains.records(owner.context, one.id))["domain_validation"]
            won = one.status is DomainStatus.PROVISIONING
            assert found.error == (None if won else NAME_OWNED_ELSEWHERE)
        # Once the winner is deleted, the other organization can own the name.
        winner, loser = sorted(settled, key=lambda one: one.status)
        scopes = {tenant.organization.id: tenant.context, other.organization.id: other.context}
        await repository.domains.delete(
            scopes[winner.organization_id], winner.id, partial(delete_domain, force=True, now=LATER), LATER
        )
        again = await repository.domains.begin_validation(
            scopes[loser.organization_id], loser.id, partial(begin_validation, now=LATER), LATER
        )
        assert (await settle(repository, again, ALL_VALID, LATER)).status is DomainStatus.PROVISIONING

    async def test_provisioned_domains_become_ready(self, repository: Repository, tenant: Tenant) -> None:
        provisioned = [
            await new_domain(repository, tenant, f"{number}.test", DomainStatus.PROVISIONING) for number in range(3)
        ]
        waiting = await new_domain(repository, tenant, "waiting.test", DomainStatus.VALIDATING)
        assert [await activate_domains(repository.work, INTERVAL, LATER, 2) for _ in range(3)] == [2, 1, 0]
        for domain in provisioned:
            found = await repository.domains.get(tenant.context, domain.id)
            assert replace(found, revision=1) == replace(
                domain, status=DomainStatus.READY, cause=DomainEvent.ACTIVATE, updated_at=LATER
            )
        assert await repository.domains.get(tenant.context, waiting.id) == waiting

    async def test_mailboxes_follow_a_domain_that_becomes_ready(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        provisioned = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
        unready = await new_domain(repository, tenant, "unready.test", DomainStatus.VALIDATING)
        waiting = await new_mailboxes(repository, provisioned, "ada", "bob", "carol")
        locked = await new_mailbox(repository, provisioned, mailbox("locked", status=MailboxStatus.LOCKED))
        (unaffected,) = await new_mailboxes(repository, unready, "dave")
        assert {one.status for one in (*waiting, unaffected)} == {MailboxStatus.WAITING_DOMAIN}
        assert await lease_due(repository, LATER) == []
        await activate_domains(repository.work, INTERVAL, LATER, 10)
        assert (await repository.work.next_due()).immediate
        assert await propagate(repository.work, LATER) == 1
        assert not (await repository.work.next_due()).immediate
        assert await lease_due(repository, LATER) == []
        for one in waiting:
            found = await repository.mailboxes.get(tenant.context, one.id)
            assert found == replace(
                one, status=MailboxStatus.READY, updated_at=LATER, cause=MailboxEvent.DOMAIN_READY, revision=2
            )
        for one in (locked, unaffected):
            assert await repository.mailboxes.get(tenant.context, one.id) == one
        await check_invariants(raw)

    async def test_a_mailbox_that_begins_to_wait_for_its_domain_is_due_once(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant, status=DomainStatus.VALIDATING)
        (ada,) = await new_mailboxes(repository, domain, "ada")
        await repository.mailboxes.change(tenant.context, ada.id, lambda one, _: delete_mailbox(one, RETENTION, NOW))
        # A restore that read the domain's status before the domain became ready.
        await repository.mailboxes.change(
            tenant.context, ada.id, lambda one, _: restore_mailbox(one, DomainStatus.VALIDATING, FREE, NOW)
        )
        (lease,) = await lease_due(repository, NOW)
        assert await repository.work.advance(lease, advancing(NOW), NOW) is True
        assert await lease_due(repository, LATER) == []

    async def test_only_ready_domains_are_looked_up_again(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await validating_domain(repository, tenant)
        await settle(repository, domain, ALL_VALID)
        assert await lease_due_domains(repository, FAR) == []
        await activate_domains(repository.work, INTERVAL, LATER, 10)
        assert await lease_due_domains(repository, LATER + INTERVAL * 0.89) == []
        (ready,) = await lease_due_domains(repository, LATER + INTERVAL * 1.11)
        assert ready.status is DomainStatus.READY
        drifted = await settle(repository, ready, MX_MISSING, LATER + INTERVAL)
        assert drifted == ready
        mx = (await repository.domains.records(tenant.context, domain.id))["mx"]
        assert (mx.status, mx.error) == (RecordStatus.NOT_FOUND, "no MX record")
        assert len(await lease_due_domains(repository, LATER + 3 * INTERVAL)) == 1

    # --- Leases -------------------------------------------------------------------------------------------------------

    async def test_a_leased_mailbox_can_be_leased_again_after_the_lease(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob", "carol")
        first, second = await lease_due(repository, FAR, 2), await lease_due(repository, FAR, 2)
        assert len({each.mailbox.id for each in (*first, *second)}) == len(first) + len(second) == 3
        assert await lease_due(repository, FAR + LEASE - MICROSECOND) == []
        again = await lease_due(repository, FAR + LEASE)
        assert [each.generation for each in again] == [2, 2, 2]

    async def test_concurrent_workers_lease_each_mailbox_once(self, repository: Repository, tenant: Tenant) -> None:
        await new_mailboxes(
            repository, await new_domain(repository, tenant), *(f"m{number:02}" for number in range(30))
        )
        leases = await asyncio.gather(*(lease_due(repository, FAR, 10) for _ in range(6)))
        ids = [each.mailbox.id for some in leases for each in some]
        assert len(ids) == len(set(ids))
        while more := await lease_due(repository, FAR):
            ids += [each.mailbox.id for each in more]
        assert len(ids) == len(set(ids)) == 30

    async def test_a_step_under_a_superseded_lease_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        superseded = await lease_of(repository, ada, FAR)
        latest = await lease_of(repository, ada, FAR + LEASE)
        before = await dump(raw)
        assert await repository.work.advance(superseded, advancing(FAR), FAR) is False
        await repository.work.postpone_mailbox(superseded, FAR)
        assert await dump(raw) == before
        assert await repository.work.advance(latest, advancing(FAR), FAR) is True

    async def test_a_lookup_under_a_superseded_lease_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await validating_domain(repository, tenant)
        (superseded,) = await repository.work.lease_domains(LATER, LEASE, 10)
        assert await repository.work.lease_domains(LATER, LEASE, 10) == []
        (latest,) = await repository.work.lease_domains(LATER + LEASE, LEASE, 10)
        before = await dump(raw)
        check = await repository.work.settle_validation(superseded, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain == domain
        await repository.work.postpone_domain(superseded, FAR)
        assert await dump(raw) == before
        check = await repository.work.settle_validation(latest, validation_rule(ALL_VALID, INTERVAL, LATER))
        assert check.domain.status is DomainStatus.PROVISIONING

    async def test_failures_are_postponed_and_counted_until_a_success(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        failed = await lease_of(repository, ada)
        await repository.work.postpone_mailbox(failed, FAR + timedelta(hours=1))
        assert await lease_due(repository, FAR + timedelta(minutes=59)) == []
        (again,) = await lease_due(repository, FAR + timedelta(hours=1))
        assert (failed.failures, again.failures) == (0, 1)
        assert await repository.work.advance(again, advancing(NOW), NOW) is True  # without any change
        assert (await lease_of(repository, ada)).failures == 0

        domain = await validating_domain(repository, tenant, "other.test")
        (first,) = await repository.work.lease_domains(LATER, LEASE, 10)
        await repository.work.postpone_domain(first, FAR)
        (second,) = await repository.work.lease_domains(FAR, LEASE, 10)
        assert (first.domain.id, first.failures, second.failures) == (domain.id, 0, 1)

    async def test_next_due_is_the_earliest_due_time_of_all_work(self, repository: Repository, tenant: Tenant) -> None:
        assert await repository.work.next_due() == Due(None, None)
        domain = await new_domain(repository, tenant)
        (ada,) = await new_mailboxes(repository, domain, "ada")
        await new_mailbox(repository, domain, mailbox("yearly", period=SubscriptionPeriod.YEARLY))
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at)
        validating = await validating_domain(repository, tenant, "validating.test")
        assert (await repository.work.next_due()).lookups == NOW
        await settle(repository, validating, ALL_VALID)
        # Its provisioning can be finished at once.
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at, immediate=True)
        await activate_domains(repository.work, INTERVAL, LATER, 10)
        await repository.domains.delete(
            tenant.context, validating.id, partial(delete_domain, force=True, now=LATER), LATER
        )
        # It can be purged at once.
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at, immediate=True)
        while await purge(repository, 10):
            pass
        assert await repository.work.next_due() == Due(None, ada.next_subscription_period_starts_at)

    # --- Due times ----------------------------------------------------------------------------------------------------

    async def test_due_mailboxes_are_leased_longest_overdue_first(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        ours, theirs = await new_domain(repository, tenant), await new_domain(repository, other, "theirs.test")
        starts = {"third": 3, "first": 1, "fourth": 4}
        for name, hours in starts.items():
            await new_mailbox(repository, ours, mailbox(name, now=NOW + timedelta(hours=hours)))
        await new_mailbox(repository, theirs, mailbox("second", now=NOW + timedelta(hours=2)))
        await new_mailbox(repository, ours, mailbox("yearly", period=SubscriptionPeriod.YEARLY))
        await new_mailbox(repository, ours, mailbox("deleting", status=MailboxStatus.DELETING))
        last = datetime(2024, 2, 29, 16, 30, 15, 123_456, tzinfo=NOW.tzinfo)  # when the fourth is due

        async def named(now: datetime, limit: int = 10) -> list[str]:
            return [each.mailbox.email.partition("@")[0] for each in await lease_due(repository, now, limit)]

        assert await named(NOW) == []
        assert await named(last - MICROSECOND, 2) == ["first", "second"]
        assert await named(last - MICROSECOND) == ["third"]
        assert await named(last) == ["fourth"]
        assert sorted(await named(FAR)) == [
            "first",
            "fourth",
            "second",
            "third",
            "yearly",
        ]  # after the end of their leases

    async def test_a_scheduled_deletion_replaces_the_due_renewal(self, repository: Repository, tenant: Tenant) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        await repository.mailboxes.change(tenant.context, ada.id, lambda one, _: delete_mailbox(one, RETENTION, NOW))
        renewal = bob.next_subscription_period_starts_at
        assert renewal is not None
        assert [each.mailbox.id for each in await lease_due(repository, renewal)] == [bob.id]
        assert [each.mailbox.id for each in await lease_due(repository, NOW + RETENTION)] == [bob.id, ada.id]

    async def test_a_renewal_is_stored(self, repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
        ada, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        renewal = ada.next_subscription_period_starts_at
        assert renewal is not None
        assert await step(repository, ada, renewal) is True
        found = await repository.mailboxes.get(tenant.context, ada.id)
        renewed = advancing(renewal)(ada, DomainStatus.READY)
        assert renewed is not None
        assert replace(found, revision=1) == renewed
        assert await repository.mailboxes.get(tenant.context, bob.id) == bob
        await check_invariants(raw)

    async def test_a_step_applies_to_the_stored_mailbox_not_the_leased_one(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        lease = await lease_of(repository, ada)
        deleted = await repository.mailboxes.change(
            tenant.context, ada.id, lambda stored, _: delete_mailbox(stored, RETENTION, LATER)
        )
        seen: list[Mailbox] = []

        def rule(stored: Mailbox, _status: DomainStatus) -> Mailbox:
            seen.append(stored)
            return stored

        assert await repository.work.advance(lease, rule, LATER) is True
        assert seen == [ada, deleted]  # first as leased, to lock the domain before a purge

    async def test_a_step_that_changes_nothing_or_raises_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        lease = await lease_of(repository, ada)
        before = await dump(raw)

        def refuse(_stored: Mailbox, _status: DomainStatus) -> Mailbox:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.work.advance(lease, refuse, NOW)
        assert await dump(raw) == before
        assert await repository.work.advance(lease, advancing(NOW), NOW) is True
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        await check_invariants(raw)

    async def test_a_purge_removes_aliases_forwardings_addresses_and_counts_of_the_mailbox(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        purged = [await new_alias(repository, ada, name) for name in ("countess", "lovelace")]
        kept = await new_alias(repository, bob, "robert")
        forwarded, _ = [await new_forwarding(repository, each, "ann@elsewhere.example") for each in (ada, bob)]
        mute = partial(change_settings, keep_copy=False, enabled=None, now=NOW)
        await repository.forwardings.change_settings(tenant.context, ada.id, mute, lambda stored: stored)
        await repository.mailboxes.change(tenant.context, ada.id, lambda one, _: delete_mailbox(one, RETENTION, NOW))
        assert await step(repository, ada, NOW + RETENTION - MICROSECOND) is True
        assert (await repository.mailboxes.get(tenant.context, ada.id)).status is MailboxStatus.DELETION_SCHEDULED
        assert await repository.forwardings.get(tenant.context, forwarded.id) == forwarded

        assert await step(repository, ada, NOW + RETENTION) is True

        with pytest.raises(NotFound):
            await repository.mailboxes.get(tenant.context, ada.id)
        for one in purged:
            with pytest.raises(NotFound):
                await repository.aliases.get(tenant.context, one.id)
        assert await repository.aliases.get(tenant.context, kept.id) == kept
        assert await rows_of(raw, select(t.forwardings.c.mailbox_id)) == [(bob.id,)]
        assert await count_of(raw, t.mailbox_forwardings) == 0
        assert (await repository.domains.get(tenant.context, domain.id)).mailbox_total_count == 1
        assert (await repository.tenancy.get_project(tenant.context, tenant.project.id)).mailbox_count == 1
        assert sorted(await rows_of(raw, select(t.addresses.c.local_part))) == [("bob",), ("robert",)]
        await check_invariants(raw)
        # Its addresses are available again.
        await new_mailboxes(repository, domain, "ada", "countess")

    async def test_advancing_a_removed_mailbox_returns_false(self, repository: Repository, tenant: Tenant) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        for one in (ada, bob):
            await repository.mailboxes.change(tenant.context, one.id, lambda it, _: delete_mailbox(it, RETENTION, NOW))
        first, second = await lease_due(repository, FAR)
        assert await repository.work.advance(first, purging, FAR) is True
        assert await repository.work.advance(first, purging, FAR) is False
        await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)
        while await purge(repository, 10):
            pass
        assert await repository.work.advance(second, purging, FAR) is False

    async def test_concurrent_steps_under_one_lease_purge_a_mailbox_once(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada, _bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ada", "bob")
        await repository.mailboxes.change(tenant.context, ada.id, lambda it, _: delete_mailbox(it, RETENTION, NOW))
        lease = await lease_of(repository, ada)
        outcomes = await asyncio.gather(*(repository.work.advance(lease, purging, FAR) for _ in range(6)))
        assert sorted(outcomes) == [False] * 5 + [True]
        await check_invariants(raw)

    async def test_concurrent_steps_under_one_lease_renew_a_mailbox_once(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ada")
        renewal = ada.next_subscription_period_starts_at
        assert renewal is not None
        lease = await lease_of(repository, ada)
        await asyncio.gather(*(repository.work.advance(lease, advancing(renewal), renewal) for _ in range(6)))
        found = await repository.mailboxes.get(tenant.context, ada.id)
        assert (found.subscription_period_started_at, found.revision) == (renewal, 2)

    # --- Deleted domains ----------------------------------------------------------------------------------------------

    async def test_a_deleted_domain_is_purged_in_batches_and_removed_last(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain, kept = await new_domain(repository, tenant), await new_domain(repository, tenant, "kept.test")
        ada, *_rest = await new_mailboxes(repository, domain, *(f"m{number}" for number in range(5)))
        await new_alias(repository, ada, "alias")
        (other_ada,) = await new_mailboxes(repository, kept, "ada")
        assert await purge(repository, 2) == 0
        await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)
        counts = []
        for purged in (2, 2, 1):
            assert await purge(repository, 2) == purged
            counts.append((await repository.domains.get(tenant.context, domain.id)).mailbox_total_count)
            await check_invariants(raw)
        assert counts == [3, 1, 0]
        assert await purge(repository, 2) == 1
        with pytest.raises(NotFound):
            await repository.domains.get(tenant.context, domain.id)
        assert await purge(repository, 2) == 0
        assert await count_of(raw, t.domain_records) == len(RECORD_KINDS)
        assert await repository.mailboxes.get(tenant.context, other_ada.id) == other_ada
        assert await count_of(raw, t.aliases) == 0
        await check_invariants(raw)
        assert (await new_domain(repository, tenant)).id != domain.id

    async def test_domains_of_every_tenant_are_purged(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        for one in (tenant, other):
            for name in ("a.test", "b.test"):
                domain = await new_domain(repository, one, name, DomainStatus.VALIDATING)
                await new_mailboxes(repository, domain, "ada", "bob")
                await repository.domains.delete(
                    one.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW
                )
        purged = 0
        while done := await purge(repository, 100):
            purged += done
        assert purged == 4 * 3
        for table in (t.domains, t.domain_records, t.mailboxes, t.addresses):
            assert await count_of(raw, table) == 0
        await check_invariants(raw)

    async def test_concurrent_workers_share_the_purge_of_domains(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        for number in range(3):
            domain = await new_domain(repository, tenant, f"{number}.test")
            await new_mailboxes(repository, domain, "a", "b", "c")
            await repository.domains.delete(tenant.context, domain.id, partial(delete_domain, force=True, now=NOW), NOW)

        async def drain() -> int:
            total = 0
            while done := await purge(repository, 2):
                total += done
            return total

        assert sum(await asyncio.gather(*(drain() for _ in range(4)))) == 3 * 4
        assert await count_of(raw, t.domains) == 0
        await check_invariants(raw)
