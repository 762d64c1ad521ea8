"""Contract of aliases and their addresses."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.context import CallContext
from postroomd.domain.errors import Conflict, NotFound, PostroomError
from postroomd.domain.model import Alias, AliasStatus, Mailbox
from postroomd.domain.queries import AliasQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import check_invariants, count_of, dump
from tests.support.factories import (
    NOW,
    Tenant,
    alias,
    new_alias,
    new_domain,
    new_id,
    new_mailboxes,
    new_neighbor,
    tenant_context,
)

LATER = NOW + timedelta(hours=1)
ALL = AliasQuery(ordering=Ordering(field="email", descending=False), page=1, page_size=100)


def described(stored: Alias, text: str = "another text") -> Alias:
    return replace(stored, description=text, updated_at=LATER)


def deleting(stored: Alias) -> Alias:
    return replace(stored, status=AliasStatus.DELETING, updated_at=LATER)


async def new_mailbox(repository: Repository, tenant: Tenant, name: str = "example.com") -> Mailbox:
    (ada,) = await new_mailboxes(repository, await new_domain(repository, tenant, name), "ada")
    return ada


class AliasesContract:
    """The contract of `Aliases`."""

    async def test_an_alias_is_stored_with_its_address(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        seen: list[Mailbox] = []

        def make(of: Mailbox) -> Alias:
            seen.append(of)
            return alias(of, local_part="countess", alias_id="c0000000-0000-4000-8000-000000000000")

        created = await repository.aliases.create(tenant.project_context, ada.id, make)
        assert seen == [ada] * len(seen)
        assert created == make(ada)
        assert await repository.aliases.get(tenant.context, created.id) == created
        await check_invariants(raw)

    async def test_an_alias_does_not_count_as_a_mailbox(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        await new_alias(repository, ada, "countess")
        assert (await repository.domains.get(tenant.context, ada.domain_id)).mailbox_total_count == 1
        assert (await repository.tenancy.get_project(tenant.context, tenant.project.id)).mailbox_count == 1

    async def test_an_alias_that_is_rejected_leaves_no_trace(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        before = await dump(raw)

        def reject(_of: Mailbox) -> Alias:
            raise PostroomError("no")

        with pytest.raises(PostroomError, match="no"):
            await repository.aliases.create(tenant.context, ada.id, reject)
        assert await dump(raw) == before

    @pytest.mark.parametrize("taken", ["ada", "bob", "countess"])
    async def test_an_address_in_use_by_a_mailbox_or_alias_is_a_conflict(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine, taken: str
    ) -> None:
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        countess = await new_alias(repository, bob, "countess")
        before = await dump(raw)
        with pytest.raises(Conflict) as caught:
            await repository.aliases.create(tenant.context, ada.id, partial(alias, local_part=taken))
        owners = {"ada": ("mailbox", ada.id), "bob": ("mailbox", bob.id), "countess": ("alias", countess.id)}
        assert str(caught.value).startswith(f"{taken}@example.com belongs to {' '.join(owners[taken])}, ")
        assert [(name.type, name.id) for name in caught.value.resources] == [owners[taken]]
        assert await dump(raw) == before

    async def test_an_alias_outside_the_scope_is_not_found(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        countess = await new_alias(repository, await new_mailbox(repository, tenant), "countess")
        before = await dump(raw)
        outside = [
            (tenant.context, new_id()),
            (other.context, countess.id),
            (neighbor.project_context, countess.id),
            (tenant_context(organization_id=other.organization.id, project_id=tenant.project.id), countess.id),
        ]
        for context, alias_id in outside:
            for call in (
                repository.aliases.get(context, alias_id),
                repository.aliases.change(context, alias_id, described),
                repository.aliases.delete(context, alias_id, deleting),
            ):
                with pytest.raises(NotFound) as caught:
                    await call
                assert (caught.value.resource.type, caught.value.resource.id) == ("alias", alias_id)
        assert await dump(raw) == before

    async def test_the_alias_that_a_rule_returns_is_stored(self, repository: Repository, tenant: Tenant) -> None:
        ada = await new_mailbox(repository, tenant)
        countess, kept = [await new_alias(repository, ada, name) for name in ("countess", "kept")]
        changed = await repository.aliases.change(tenant.project_context, countess.id, described)
        assert changed == replace(described(countess), revision=2)
        assert await repository.aliases.get(tenant.context, countess.id) == changed
        assert await repository.aliases.get(tenant.context, kept.id) == kept

    async def test_a_rule_that_changes_nothing_or_raises_writes_nothing(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        countess = await new_alias(repository, await new_mailbox(repository, tenant), "countess")
        before = await dump(raw)

        def reject(_stored: Alias) -> Alias:
            raise PostroomError("no")

        assert await repository.aliases.change(tenant.context, countess.id, lambda stored: stored) == countess
        for call in (repository.aliases.change, repository.aliases.delete):
            with pytest.raises(PostroomError, match="no"):
                await call(tenant.context, countess.id, reject)
        assert await dump(raw) == before

    async def test_concurrent_changes_of_an_alias_are_all_applied(self, repository: Repository, tenant: Tenant) -> None:
        countess = await new_alias(repository, await new_mailbox(repository, tenant), "countess")
        await asyncio.gather(
            *(
                repository.aliases.change(
                    tenant.context, countess.id, lambda stored: described(stored, stored.description + "!")
                )
                for _ in range(10)
            )
        )
        found = await repository.aliases.get(tenant.context, countess.id)
        assert found.description == countess.description + "!" * 10

    async def test_deleting_an_alias_releases_its_address(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        countess = await new_alias(repository, ada, "countess")
        deleted = await repository.aliases.delete(tenant.project_context, countess.id, deleting)
        assert replace(deleted, revision=1) == deleting(countess)
        with pytest.raises(NotFound):
            await repository.aliases.get(tenant.context, countess.id)
        with pytest.raises(NotFound):
            await repository.aliases.delete(tenant.context, countess.id, deleting)
        assert await repository.mailboxes.get(tenant.context, ada.id) == ada
        await new_mailboxes(repository, await repository.domains.get(tenant.context, ada.domain_id), "countess")
        await check_invariants(raw)

    async def test_concurrent_deletions_of_an_alias_succeed_once(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        countess = await new_alias(repository, await new_mailbox(repository, tenant), "countess")
        outcomes = await asyncio.gather(
            *(repository.aliases.delete(tenant.context, countess.id, deleting) for _ in range(6)),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes].count(NotFound) == 5
        assert await count_of(raw, t.aliases) == 0
        await check_invariants(raw)

    async def test_aliases_are_filtered_by_mailbox_project_and_status(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        domain = await new_domain(repository, tenant)
        ada, bob = await new_mailboxes(repository, domain, "ada", "bob")
        away = await new_mailbox(repository, neighbor, "away.test")
        foreign = await new_mailbox(repository, other, "foreign.test")
        first, second = [await new_alias(repository, ada, name) for name in ("1", "2")]
        third = await new_alias(repository, bob, "3")
        fourth = await new_alias(repository, away, "4")
        await new_alias(repository, foreign, "5")
        deleted = await repository.aliases.change(tenant.context, second.id, deleting)
        expected: list[tuple[CallContext, AliasQuery, list[Alias]]] = [
            (tenant.context, ALL, [first, deleted, third, fourth]),
            (tenant.project_context, ALL, [first, deleted, third]),
            (tenant.context, replace(ALL, mailbox_id=ada.id), [first, deleted]),
            (tenant.context, replace(ALL, mailbox_id=foreign.id), []),
            (tenant.project_context, replace(ALL, mailbox_id=away.id), []),
            (tenant.context, replace(ALL, project_id=neighbor.project.id), [fourth]),
            (tenant.project_context, replace(ALL, project_id=neighbor.project.id), []),
            (tenant.context, replace(ALL, project_id=other.project.id), []),
            (tenant.context, replace(ALL, status=AliasStatus.DELETING), [deleted]),
            (tenant.context, replace(ALL, status=AliasStatus.PROVISIONING), []),
            (tenant.context, replace(ALL, status=AliasStatus.READY, mailbox_id=ada.id), [first]),
        ]
        for context, query, matches in expected:
            page = await repository.aliases.list(context, query)
            assert (page.items, page.total_count) == (matches, len(matches)), query

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["created_at", "updated_at", "email"])
    async def test_aliases_are_ordered_with_ties_broken_by_id(
        self, repository: Repository, tenant: Tenant, order: str, descending: bool
    ) -> None:
        ada = await new_mailbox(repository, tenant)
        created = [
            await new_alias(repository, ada, f"{'c~b'[number % 3]}{number}", now=NOW + timedelta(seconds=number % 2))
            for number in range(7)
        ]
        expected = sorted(created, key=lambda one: (getattr(one, order), one.id), reverse=descending)
        query = replace(ALL, ordering=Ordering(field=order, descending=descending), page_size=2)
        listed: list[Alias] = []
        for number in (1, 2, 3, 4, 5):
            page = await repository.aliases.list(tenant.context, replace(query, page=number))
            assert page.total_count == 7
            listed += page.items
        assert listed == expected
