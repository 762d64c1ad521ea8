"""Organizations, projects and API keys."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.errors import NotFound
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import (
    NOW,
    Tenant,
    api_key,
    digest,
    new_id,
    new_neighbor,
    new_tenant,
    project,
    tenant_context,
)
from tests.support.stored import count_of, dump


class TenancyContract:
    async def test_an_organization_is_stored_with_its_first_project(
        self, repository: Repository, raw: AsyncEngine
    ) -> None:
        tenant = await new_tenant(repository, quota=7)
        assert await repository.tenancy.list_projects(tenant.organization.id) == [tenant.project]
        assert await repository.tenancy.get_project(tenant.context, tenant.project.id) == tenant.project
        assert await count_of(raw, t.organizations) == 1

    async def test_projects_are_listed_oldest_first(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        days = (5, -3, 1, 1)
        made = [project(tenant.organization.id, now=NOW + timedelta(days=day)) for day in days]
        for one in made:
            await repository.tenancy.create_project(one)
        own = sorted([tenant.project, *made], key=lambda one: (one.created_at, one.id))
        assert await repository.tenancy.list_projects(tenant.organization.id) == own
        everyones = sorted([*own, other.project], key=lambda one: (one.created_at, one.id))
        assert await repository.tenancy.list_projects() == everyones

    async def test_an_unknown_organization_has_no_projects_and_no_keys(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        assert await repository.tenancy.list_projects(new_id()) == []
        assert await repository.tenancy.list_keys(new_id()) == []

    async def test_a_project_of_an_unknown_organization_is_not_stored(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        before = await dump(raw)
        orphan = project(new_id())
        with pytest.raises(NotFound) as caught:
            await repository.tenancy.create_project(orphan)
        assert (caught.value.resource.type, caught.value.resource.id) == ("organization", orphan.organization_id)
        assert await dump(raw) == before

    async def test_a_project_is_found_within_its_scope_alone(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        wanted = tenant.project.id
        assert await repository.tenancy.get_project(tenant.context, wanted) == tenant.project
        assert await repository.tenancy.get_project(tenant.project_context, wanted) == tenant.project
        strangers = [
            other.context,
            neighbor.project_context,
            tenant_context(organization_id=other.organization.id, project_id=wanted),
            tenant_context(organization_id=new_id()),
        ]
        for scope in strangers:
            with pytest.raises(NotFound) as caught:
                await repository.tenancy.get_project(scope, wanted)
            assert (caught.value.resource.type, caught.value.resource.id) == ("project", wanted)
        with pytest.raises(NotFound):
            await repository.tenancy.get_project(tenant.context, new_id())

    @pytest.mark.parametrize("limited", [False, True])
    async def test_a_key_is_found_by_the_digest_of_its_secret(
        self, repository: Repository, tenant: Tenant, limited: bool
    ) -> None:
        key = replace(api_key(tenant, limited=limited), expires_at=NOW + timedelta(days=30))
        await repository.tenancy.create_key(key, digest("a secret"))
        assert await repository.tenancy.find_key(digest("a secret")) == key
        assert await repository.tenancy.find_key(digest("another secret")) is None
        assert await repository.tenancy.list_keys(tenant.organization.id) == [key]

    async def test_keys_whose_digests_begin_alike_are_told_apart(self, repository: Repository, tenant: Tenant) -> None:
        start = digest("a secret")[:31]
        keys = {start + bytes([last]): api_key(tenant) for last in range(3)}
        for secret_hash, key in keys.items():
            await repository.tenancy.create_key(key, secret_hash)
        for secret_hash, key in keys.items():
            assert await repository.tenancy.find_key(secret_hash) == key
        assert await repository.tenancy.find_key(start + bytes([3])) is None

    async def test_keys_are_listed_oldest_first(self, repository: Repository, tenant: Tenant, other: Tenant) -> None:
        made = [api_key(tenant, now=NOW + timedelta(hours=hours)) for hours in (2, 1, 3)]
        foreign = api_key(other, now=NOW)
        for key in (*made, foreign):
            await repository.tenancy.create_key(key, digest(key.access_key))
        own = sorted(made, key=lambda key: key.created_at)
        assert await repository.tenancy.list_keys(tenant.organization.id) == own
        assert await repository.tenancy.list_keys() == [foreign, *own]

    async def test_a_key_of_what_is_unknown_is_not_stored(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        before = await dump(raw)
        key = api_key(tenant)
        faulty = [
            ("organization", replace(key, organization_id=new_id())),
            ("project", replace(key, default_project_id=new_id())),
            ("project", replace(key, project_id=new_id())),
            ("project", replace(key, default_project_id=other.project.id)),
            ("project", replace(key, project_id=other.project.id)),
        ]
        for resource, wrong in faulty:
            with pytest.raises(NotFound) as caught:
                await repository.tenancy.create_key(wrong, digest("a secret"))
            assert caught.value.resource.type == resource
        assert await dump(raw) == before

    async def test_a_key_is_revoked_once_and_still_found(self, repository: Repository, tenant: Tenant) -> None:
        key, kept = api_key(tenant), api_key(tenant)
        await repository.tenancy.create_key(key, digest("a secret"))
        await repository.tenancy.create_key(kept, digest("another secret"))
        revoked = replace(key, revoked_at=NOW)
        assert await repository.tenancy.revoke_key(key.access_key, NOW) == revoked
        assert await repository.tenancy.revoke_key(key.access_key, NOW + timedelta(days=1)) == revoked
        assert await repository.tenancy.find_key(digest("a secret")) == revoked
        assert await repository.tenancy.find_key(digest("another secret")) == kept

    async def test_an_unknown_key_is_not_revoked(self, repository: Repository, tenant: Tenant) -> None:
        with pytest.raises(NotFound) as caught:
            await repository.tenancy.revoke_key("SCWAAAAAAAAAAAAAAAAA", NOW)
        assert (caught.value.resource.type, caught.value.resource.id) == ("api_key", "SCWAAAAAAAAAAAAAAAAA")

    async def test_a_key_that_is_revoked_by_many_at_once_is_revoked_once(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        key = api_key(tenant)
        await repository.tenancy.create_key(key, digest("a secret"))
        moments = [NOW + timedelta(seconds=number) for number in range(5)]
        answers = await asyncio.gather(*(repository.tenancy.revoke_key(key.access_key, moment) for moment in moments))
        assert len({answer.revoked_at for answer in answers}) == 1
