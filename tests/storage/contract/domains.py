"""Contract of domains and their DNS records."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import Conflict, NameTaken, NotFound, PostroomError, PreconditionFailed, TransientState
from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.model import AliasStatus, Domain, DomainStatus, MailboxStatus, RecordStatus
from postroomd.domain.queries import DomainQuery, Ordering
from postroomd.domain.records import RECORD_KINDS
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import check_invariants, dump, rows_of
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    domain,
    mailbox,
    new_alias,
    new_domain,
    new_id,
    new_mailbox,
    new_mailboxes,
    new_neighbor,
    records,
    tenant_context,
)

LATER = NOW + timedelta(hours=1)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)

validating = partial(begin_validation, now=LATER)
deleting = partial(delete_domain, force=True, now=LATER)


async def request_validation(repository: Repository, of: Domain, now: datetime) -> Domain:
    rule = partial(begin_validation, now=now)
    return await repository.domains.begin_validation(
        tenant_context(organization_id=of.organization_id), of.id, rule, now
    )


class DomainsContract:
    """The contract of `Domains`."""

    async def test_a_domain_is_stored_with_its_records_and_secrets(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = domain(tenant)
        its_records = records(created)
        assert await repository.domains.create(tenant.context, created, its_records, SECRETS) == created
        assert await repository.domains.get(tenant.context, created.id) == created
        stored = await repository.domains.records(tenant.context, created.id)
        assert sorted(stored) == list(RECORD_KINDS)
        assert stored == {record.kind: record for record in its_records}
        secret_columns = select(t.domains.c.validation_token, t.domains.c.dkim_selector, t.domains.c.dkim_private_key)
        assert await rows_of(raw, secret_columns) == [("a validation token", "post", "a private key")]

    @pytest.mark.parametrize("status", list(DomainStatus))
    async def test_whether_a_name_is_ready_is_known_to_everyone(
        self, repository: Repository, tenant: Tenant, other: Tenant, status: DomainStatus
    ) -> None:
        assert not await repository.domains.is_ready("example.com")
        await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION)
        await new_domain(repository, tenant, status=status)
        assert await repository.domains.is_ready("example.com") is (status is DomainStatus.READY)

    async def test_a_domain_of_a_project_outside_the_scope_is_not_stored(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        before = await dump(raw)
        outside = [
            (tenant.context, new_id()),
            (tenant.context, other.project.id),
            (neighbor.project_context, tenant.project.id),
        ]
        for context, project_id in outside:
            rejected = replace(domain(tenant), project_id=project_id)
            with pytest.raises(NotFound) as caught:
                await repository.domains.create(context, rejected, records(rejected), SECRETS)
            assert (caught.value.resource.type, caught.value.resource.id) == ("project", project_id)
        assert await dump(raw) == before

    @pytest.mark.parametrize("status", DomainStatus)
    async def test_an_organization_registers_a_name_once_whatever_the_status(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, status: DomainStatus
    ) -> None:
        first = await new_domain(repository, tenant, status=status)
        before = await dump(raw)
        second = domain(tenant)
        for context in (tenant.context, tenant.project_context):
            with pytest.raises(Conflict, match=rf"^example\.com belongs to domain {first.id}, {status}: ") as caught:
                await repository.domains.create(context, second, records(second), SECRETS)
            assert [(name.type, name.id) for name in caught.value.resources] == [("domain", first.id)]
        assert await dump(raw) == before

    async def test_a_conflict_hides_the_id_of_another_projects_domain(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        first = await new_domain(repository, tenant)
        neighbor = await new_neighbor(repository, tenant)
        second = domain(neighbor)
        with pytest.raises(Conflict) as caught:
            await repository.domains.create(neighbor.project_context, second, records(second), SECRETS)
        assert [(name.type, name.id) for name in caught.value.resources] == [("domain", "example.com")]
        assert first.id not in str(caught.value)

    async def test_several_organizations_register_one_name(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        ours = await new_domain(repository, tenant, status=DomainStatus.READY)
        theirs = await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION)
        assert await repository.domains.get(tenant.context, ours.id) == ours
        assert await repository.domains.get(other.context, theirs.id) == theirs

    async def test_concurrent_registrations_of_a_name_succeed_once(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domains = [domain(tenant) for _ in range(8)]
        outcomes = await asyncio.gather(
            *(repository.domains.create(tenant.context, one, records(one), SECRETS) for one in domains),
            return_exceptions=True,
        )
        (stored,) = [outcome for outcome in outcomes if isinstance(outcome, Domain)]
        failures = [outcome for outcome in outcomes if outcome is not stored]
        assert [type(failure) for failure in failures] == [NameTaken] * 7
        assert {name.id for error in failures if isinstance(error, NameTaken) for name in error.resources} == {
            stored.id
        }
        assert await rows_of(raw, select(t.domains.c.id)) == [(stored.id,)]
        assert len(await rows_of(raw, select(t.domain_records.c.id))) == 12

    async def test_a_domain_outside_the_scope_is_not_found(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant)
        neighbor = await new_neighbor(repository, tenant)
        before = await dump(raw)
        outside = [
            (tenant.context, new_id()),
            (other.context, created.id),
            (neighbor.project_context, created.id),
            (tenant_context(organization_id=other.organization.id, project_id=tenant.project.id), created.id),
        ]
        for context, domain_id in outside:
            for call in (
                repository.domains.get(context, domain_id),
                repository.domains.records(context, domain_id),
                repository.domains.begin_validation(context, domain_id, validating, LATER),
                repository.domains.delete(context, domain_id, deleting, LATER),
                repository.mailboxes.create(context, domain_id, [mailbox("ada")]),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.resource.type, caught.value.resource.id) == ("domain", domain_id)
                assert str(caught.value) == f"domain {domain_id} not found"
        assert await dump(raw) == before

    # --- Validation ---------------------------------------------------------------------------------------------------

    async def test_a_validation_applies_the_rule_and_makes_the_lookup_due(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        created = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []
        begun = await repository.domains.begin_validation(tenant.context, created.id, validating, LATER)
        moved = replace(created, status=DomainStatus.VALIDATING, cause=DomainEvent.VALIDATE, updated_at=LATER)
        assert begun == replace(moved, revision=2)
        assert await repository.domains.get(tenant.context, created.id) == begun
        (lease,) = await repository.work.lease_domains(FAR, LEASE, 10)
        assert lease.domain == begun
        visible = await repository.domains.records(tenant.context, created.id)
        assert lease.records.keys() == visible.keys()
        assert {record.status for record in visible.values()} == {RecordStatus.VALIDATING}

    async def test_a_validation_of_a_ready_domain_only_makes_the_lookup_due(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        created = await new_domain(repository, tenant, status=DomainStatus.READY)
        assert await repository.domains.begin_validation(tenant.context, created.id, validating, LATER) == created
        assert await repository.domains.get(tenant.context, created.id) == created
        assert [each.domain for each in await repository.work.lease_domains(FAR, LEASE, 10)] == [created]

    async def test_a_validation_that_the_rule_rejects_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
        before = await dump(raw)
        with pytest.raises(TransientState):
            await repository.domains.begin_validation(tenant.context, created.id, validating, LATER)
        assert await dump(raw) == before
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []

    async def test_validations_are_due_in_the_order_of_their_requests(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domains = {
            hours: await new_domain(repository, tenant, f"{hours}.test", DomainStatus.WAITING_VALIDATION)
            for hours in (3, 1, 2)
        }
        for hours, one in domains.items():
            await request_validation(repository, one, NOW + timedelta(hours=hours))
        # A second request does not change the order.
        await request_validation(repository, domains[1], NOW + timedelta(hours=9))
        assert [each.domain.name for each in await repository.work.lease_domains(FAR, LEASE, 2)] == ["1.test", "2.test"]
        assert [each.domain.name for each in await repository.work.lease_domains(FAR, LEASE, 9)] == ["3.test"]

    # --- Deletion -----------------------------------------------------------------------------------------------------

    async def test_deleting_a_domain_deletes_its_mailboxes_and_aliases(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
        kept = await new_domain(repository, tenant, "kept.test")
        ada, bob = await new_mailboxes(repository, created, "ada", "bob")
        await new_alias(repository, ada, "countess")
        (untouched,) = await new_mailboxes(repository, kept, "ada")
        await repository.domains.begin_validation(tenant.context, created.id, validating, NOW)
        before = await repository.domains.get(tenant.context, created.id)

        deleted = await repository.domains.delete(tenant.context, created.id, deleting, LATER)

        moved = replace(before, status=DomainStatus.DELETING, cause=DomainEvent.DELETE, updated_at=LATER)
        assert deleted == replace(moved, revision=before.revision + 1)
        assert await repository.domains.get(tenant.context, created.id) == deleted
        for one in (ada, bob):
            stored = await repository.mailboxes.get(tenant.context, one.id)
            assert stored == replace(
                one,
                status=MailboxStatus.DELETING,
                purging=True,
                cause=MailboxEvent.DOMAIN_DELETED,
                updated_at=LATER,
                revision=2,
            )
        statuses = await rows_of(raw, select(t.aliases.c.status, t.aliases.c.updated_at, t.aliases.c.revision))
        assert statuses == [(AliasStatus.DELETING, LATER, 2)]
        assert await repository.mailboxes.get(tenant.context, untouched.id) == untouched
        # None of its work is due any more.
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []
        due = await repository.work.lease_mailboxes(FAR, LEASE, 10)
        assert [each.mailbox.id for each in due] == [untouched.id]
        await check_invariants(raw)

    async def test_deleting_a_domain_again_changes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant)
        await new_mailbox(repository, created, mailbox("ada"))
        deleted = await repository.domains.delete(tenant.context, created.id, deleting, LATER)
        before = await dump(raw)
        again = partial(delete_domain, force=True, now=LATER + timedelta(days=1))
        assert await repository.domains.delete(tenant.context, created.id, again, LATER + timedelta(days=1)) == deleted
        assert await dump(raw) == before

    async def test_a_deletion_that_the_rule_rejects_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant)
        await new_mailbox(repository, created, mailbox("ada"))
        before = await dump(raw)

        def reject(_domain: Domain, _mailboxes_in_use: int) -> Domain:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.domains.delete(tenant.context, created.id, reject, LATER)
        assert await dump(raw) == before

    async def test_a_deletion_is_given_the_number_of_mailboxes_not_scheduled_for_deletion(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        created = await new_domain(repository, tenant)
        statuses = (MailboxStatus.READY, MailboxStatus.LOCKED, MailboxStatus.DELETION_SCHEDULED)
        for number, status in enumerate(statuses):
            await new_mailbox(repository, created, mailbox(f"m{number}"))
            async with raw.begin() as connection:
                changing = update(t.mailboxes).where(t.mailboxes.c.email.startswith(f"m{number}@"))
                await connection.execute(changing.values(status=status))
        before = await dump(raw)
        unforced = partial(delete_domain, force=False, now=LATER)
        with pytest.raises(PreconditionFailed, match="2 mailboxes"):
            await repository.domains.delete(tenant.context, created.id, unforced, LATER)
        assert await dump(raw) == before

    # --- Lists --------------------------------------------------------------------------------------------------------

    async def test_domains_are_filtered_by_project_status_and_search(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        ready = await new_domain(repository, tenant, "ready.test", DomainStatus.READY)
        failed = await new_domain(repository, tenant, "failed.test", DomainStatus.VALIDATION_FAILED)
        away = await new_domain(repository, neighbor, "away.example", DomainStatus.READY)
        await new_domain(repository, other, "foreign.test", DomainStatus.READY)
        query = DomainQuery(ordering=Ordering(field="name", descending=False), page=1, page_size=50)
        statuses = (DomainStatus.READY, DomainStatus.CREATING)
        expected: list[tuple[CallContext, DomainQuery, list[Domain]]] = [
            (tenant.context, query, [away, failed, ready]),
            (tenant.project_context, query, [failed, ready]),
            (neighbor.project_context, query, [away]),
            (tenant.context, replace(query, project_id=tenant.project.id), [failed, ready]),
            (tenant.context, replace(query, project_id=other.project.id), []),
            (tenant.project_context, replace(query, project_id=neighbor.project.id), []),
            (tenant.context, replace(query, statuses=statuses), [away, ready]),
            (tenant.context, replace(query, statuses=(DomainStatus.DELETING,)), []),
            (tenant.context, replace(query, search="AWAY"), [away]),
            (tenant.context, replace(query, search=".test"), [failed, ready]),
            (tenant.context, replace(query, search="foreign"), []),
            (tenant.context, replace(query, search="%"), []),
            (tenant.context, replace(query, search="read_"), []),
            (tenant.context, replace(query, search="\\"), []),
            (tenant.context, replace(query, search=".test", statuses=statuses), [ready]),
        ]
        for context, filtered, matches in expected:
            page = await repository.domains.list(context, filtered)
            assert (page.items, page.total_count) == (matches, len(matches)), filtered

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["created_at", "updated_at", "name", "mailbox_total_count"])
    async def test_domains_are_ordered_with_ties_broken_by_id(
        self, repository: Repository, tenant: Tenant, order: str, descending: bool
    ) -> None:
        created = []
        for number in range(7):
            moment = NOW + timedelta(microseconds=number % 3)
            one = await new_domain(repository, tenant, f"{'cab'[number % 3]}-{number}.test", now=moment)
            await new_mailboxes(repository, one, *(f"m{index}" for index in range(1 + number % 2)))
            created.append(await repository.domains.get(tenant.context, one.id))
        expected = sorted(created, key=lambda one: (getattr(one, order), one.id), reverse=descending)
        query = DomainQuery(ordering=Ordering(field=order, descending=descending), page=1, page_size=3)
        listed: list[Domain] = []
        for number in (1, 2, 3, 4):
            page = await repository.domains.list(tenant.context, replace(query, page=number))
            assert page.total_count == 7
            listed += page.items
        assert listed == expected
