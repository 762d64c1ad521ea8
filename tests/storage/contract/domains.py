"""Domains and their DNS records."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.domains import begin_validation, delete_domain
from postroomd.domain.errors import Conflict, NotFound, PostroomError, TransientState
from postroomd.domain.events import MailboxEvent
from postroomd.domain.model import AliasStatus, Domain, DomainStatus, MailboxStatus, RecordStatus
from postroomd.domain.queries import DomainQuery, Ordering
from postroomd.domain.records import RECORD_KINDS
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    domain,
    mailbox,
    new_alias,
    new_domain,
    new_id,
    new_mailboxes,
    new_neighbor,
    new_one,
    records,
    tenant_context,
)
from tests.support.stored import check_invariants, dump, rows_of

LATER = NOW + timedelta(hours=1)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)

validating = partial(begin_validation, now=LATER)
deleting = partial(delete_domain, now=LATER)


async def asks(repository: Repository, of: Domain, now: datetime) -> Domain:
    rule = partial(begin_validation, now=now)
    return await repository.domains.begin_validation(
        tenant_context(organization_id=of.organization_id), of.id, rule, now
    )


class DomainsContract:
    async def test_a_domain_is_stored_with_its_records_and_secrets(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        made = domain(tenant)
        published = records(made)
        assert await repository.domains.create(tenant.context, made, published, SECRETS) == made
        assert await repository.domains.get(tenant.context, made.id) == made
        found = await repository.domains.records(tenant.context, made.id)
        assert sorted(found) == list(RECORD_KINDS)
        assert found == {record.kind: record for record in published}
        secret_columns = select(t.domains.c.validation_token, t.domains.c.dkim_selector, t.domains.c.dkim_private_key)
        assert await rows_of(raw, secret_columns) == [("a validation token", "post", "a private key")]

    async def test_a_domain_of_a_project_out_of_reach_is_not_stored(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        before = await dump(raw)
        unreachable = [
            (tenant.context, new_id()),
            (tenant.context, other.project.id),
            (neighbor.project_context, tenant.project.id),
        ]
        for scope, project_id in unreachable:
            made = replace(domain(tenant), project_id=project_id)
            with pytest.raises(NotFound) as caught:
                await repository.domains.create(scope, made, records(made), SECRETS)
            assert (caught.value.resource.type, caught.value.resource.id) == ("project", project_id)
        assert await dump(raw) == before

    @pytest.mark.parametrize("status", DomainStatus)
    async def test_a_name_is_registered_once_in_an_organization_whatever_its_status(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, status: DomainStatus
    ) -> None:
        first = await new_domain(repository, tenant, status=status)
        before = await dump(raw)
        again = domain(tenant)
        for scope in (tenant.context, tenant.project_context):
            with pytest.raises(Conflict, match=r"example\.com") as caught:
                await repository.domains.create(scope, again, records(again), SECRETS)
            assert [(name.type, name.id) for name in caught.value.resources] == [("domain", first.id)]
        assert await dump(raw) == before

    async def test_a_key_of_another_project_is_not_told_the_id_of_the_domain_in_its_way(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        first = await new_domain(repository, tenant)
        neighbor = await new_neighbor(repository, tenant)
        again = domain(neighbor)
        with pytest.raises(Conflict) as caught:
            await repository.domains.create(neighbor.project_context, again, records(again), SECRETS)
        assert [(name.type, name.id) for name in caught.value.resources] == [("domain", "example.com")]
        assert first.id not in str(caught.value)

    async def test_several_organizations_register_one_name(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        ours = await new_domain(repository, tenant, status=DomainStatus.READY)
        theirs = await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION)
        assert await repository.domains.get(tenant.context, ours.id) == ours
        assert await repository.domains.get(other.context, theirs.id) == theirs

    async def test_of_many_who_register_a_name_at_once_one_wins(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        made = [domain(tenant) for _ in range(8)]
        outcomes = await asyncio.gather(
            *(repository.domains.create(tenant.context, one, records(one), SECRETS) for one in made),
            return_exceptions=True,
        )
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Domain)]
        losers = [outcome for outcome in outcomes if outcome is not winner]
        assert [type(loser) for loser in losers] == [Conflict] * 7
        assert {name.id for loser in losers if isinstance(loser, Conflict) for name in loser.resources} == {winner.id}
        assert await rows_of(raw, select(t.domains.c.id)) == [(winner.id,)]
        assert len(await rows_of(raw, select(t.domain_records.c.id))) == 12

    async def test_a_domain_out_of_reach_answers_as_one_that_does_not_exist(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        made = await new_domain(repository, tenant)
        neighbor = await new_neighbor(repository, tenant)
        before = await dump(raw)
        unreachable = [
            (tenant.context, new_id()),
            (other.context, made.id),
            (neighbor.project_context, made.id),
            (tenant_context(organization_id=other.organization.id, project_id=tenant.project.id), made.id),
        ]
        for scope, domain_id in unreachable:
            for call in (
                repository.domains.get(scope, domain_id),
                repository.domains.records(scope, domain_id),
                repository.domains.begin_validation(scope, domain_id, validating, LATER),
                repository.domains.delete(scope, domain_id, deleting, LATER),
                repository.mailboxes.create(scope, domain_id, [mailbox("ada")]),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.resource.type, caught.value.resource.id) == ("domain", domain_id)
                assert str(caught.value) == f"domain {domain_id} not found"
        assert await dump(raw) == before

    # --- Validation ---------------------------------------------------------------------------------------------------

    async def test_validation_applies_the_rule_and_asks_the_worker(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        made = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []
        begun = await repository.domains.begin_validation(tenant.context, made.id, validating, LATER)
        assert begun == replace(made, status=DomainStatus.VALIDATING, updated_at=LATER, revision=2)
        assert await repository.domains.get(tenant.context, made.id) == begun
        (claimed,) = await repository.work.lease_domains(FAR, LEASE, 10)
        assert claimed.domain == begun
        looked_up = await repository.domains.records(tenant.context, made.id)
        assert claimed.records.keys() == looked_up.keys()
        assert {record.status for record in looked_up.values()} == {RecordStatus.VALIDATING}

    async def test_validation_of_a_ready_domain_asks_the_worker_and_leaves_the_domain(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        made = await new_domain(repository, tenant, status=DomainStatus.READY)
        assert await repository.domains.begin_validation(tenant.context, made.id, validating, LATER) == made
        assert await repository.domains.get(tenant.context, made.id) == made
        assert [each.domain for each in await repository.work.lease_domains(FAR, LEASE, 10)] == [made]

    async def test_a_rule_that_refuses_validation_leaves_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        made = await new_domain(repository, tenant, status=DomainStatus.PROVISIONING)
        before = await dump(raw)
        with pytest.raises(TransientState):
            await repository.domains.begin_validation(tenant.context, made.id, validating, LATER)
        assert await dump(raw) == before
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []

    async def test_the_longest_waiting_domain_is_validated_first(self, repository: Repository, tenant: Tenant) -> None:
        made = {
            hours: await new_domain(repository, tenant, f"{hours}.test", DomainStatus.WAITING_VALIDATION)
            for hours in (3, 1, 2)
        }
        for hours, one in made.items():
            await asks(repository, one, NOW + timedelta(hours=hours))
        # One that is asked for again keeps its place.
        await asks(repository, made[1], NOW + timedelta(hours=9))
        assert [each.domain.name for each in await repository.work.lease_domains(FAR, LEASE, 2)] == ["1.test", "2.test"]
        assert [each.domain.name for each in await repository.work.lease_domains(FAR, LEASE, 9)] == ["3.test"]

    # --- Deletion -----------------------------------------------------------------------------------------------------

    async def test_a_deleted_domain_takes_its_mailboxes_and_aliases_with_it(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        made = await new_domain(repository, tenant, status=DomainStatus.WAITING_VALIDATION)
        kept = await new_domain(repository, tenant, "kept.test")
        ada, bob = await new_mailboxes(repository, made, "ada", "bob")
        await new_alias(repository, ada, "countess")
        (untouched,) = await new_mailboxes(repository, kept, "ada")
        await repository.domains.begin_validation(tenant.context, made.id, validating, NOW)
        counted = await repository.domains.get(tenant.context, made.id)

        deleted = await repository.domains.delete(tenant.context, made.id, deleting, LATER)

        assert deleted == replace(
            counted, status=DomainStatus.DELETING, updated_at=LATER, revision=counted.revision + 1
        )
        assert await repository.domains.get(tenant.context, made.id) == deleted
        for one in (ada, bob):
            gone = await repository.mailboxes.get(tenant.context, one.id)
            assert gone == replace(
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
        # Nothing of it is due or waiting any more.
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []
        due = await repository.work.lease_mailboxes(FAR, LEASE, 10)
        assert [each.mailbox.id for each in due] == [untouched.id]
        await check_invariants(raw)

    async def test_a_domain_is_deleted_once(self, repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
        made = await new_domain(repository, tenant)
        await new_one(repository, made, mailbox("ada"))
        deleted = await repository.domains.delete(tenant.context, made.id, deleting, LATER)
        before = await dump(raw)
        again = partial(delete_domain, now=LATER + timedelta(days=1))
        assert await repository.domains.delete(tenant.context, made.id, again, LATER + timedelta(days=1)) == deleted
        assert await dump(raw) == before

    async def test_a_rule_that_refuses_a_deletion_leaves_everything(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        made = await new_domain(repository, tenant)
        await new_one(repository, made, mailbox("ada"))
        before = await dump(raw)

        def refuse(_domain: Domain) -> Domain:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.domains.delete(tenant.context, made.id, refuse, LATER)
        assert await dump(raw) == before

    # --- Lists --------------------------------------------------------------------------------------------------------

    async def test_domains_are_narrowed_by_project_status_and_search(
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
        for scope, narrowed, found in expected:
            page = await repository.domains.list(scope, narrowed)
            assert (page.items, page.total_count) == (found, len(found)), narrowed

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["created_at", "updated_at", "name", "mailbox_total_count"])
    async def test_domains_are_ordered_with_ties_broken_by_id(
        self, repository: Repository, tenant: Tenant, order: str, descending: bool
    ) -> None:
        made = []
        for number in range(7):
            moment = NOW + timedelta(microseconds=number % 3)
            one = await new_domain(repository, tenant, f"{'cab'[number % 3]}-{number}.test", now=moment)
            await new_mailboxes(repository, one, *(f"m{index}" for index in range(1 + number % 2)))
            made.append(await repository.domains.get(tenant.context, one.id))
        expected = sorted(made, key=lambda one: (getattr(one, order), one.id), reverse=descending)
        query = DomainQuery(ordering=Ordering(field=order, descending=descending), page=1, page_size=3)
        found: list[Domain] = []
        for page in (1, 2, 3, 4):
            answer = await repository.domains.list(tenant.context, replace(query, page=page))
            assert answer.total_count == 7
            found += answer.items
        assert found == expected
