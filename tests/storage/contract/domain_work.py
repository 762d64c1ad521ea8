"""Contract of the due work of domains: lookups, validation, activation."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.mailboxes import delete_mailbox, restore_mailbox
from postroomd.domain.model import Domain, DomainStatus, MailboxStatus, RecordStatus
from postroomd.domain.records import NAME_OWNED_ELSEWHERE, Finding
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.storage.contract.steps import (
    ALL_VALID,
    FAR,
    INTERVAL,
    LATER,
    LEASE,
    RETENTION,
    advancing,
    lease_due,
    purge,
    settle,
    validating_domain,
)
from tests.support.database_state import check_invariants, count_of
from tests.support.factories import NOW, Tenant, mailbox, new_domain, new_mailbox, new_mailboxes
from tests.support.lifecycle import FREE, MICROSECOND
from tests.support.stores import Store
from tests.support.worker import activate_domains, propagate, validation_rule

MX_MISSING: Mapping[str, Finding] = {**ALL_VALID, "mx": Finding(RecordStatus.NOT_FOUND, "no MX record")}


async def lease_due_domains(repository: Repository, now: datetime = LATER) -> list[Domain]:
    return [each.domain for each in await repository.work.lease_domains(now, LEASE, 10)]


class DomainWorkContract:
    """The contract of `Work` for domains."""

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
