"""Contract of organizations, projects and API keys."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.errors import NotFound
from postroomd.domain.tenancy import ApiKey
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import count_of, dump
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


class TenancyContract:
    """The contract of `Tenancy`."""

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
        projects = [project(tenant.organization.id, now=NOW + timedelta(days=day)) for day in days]
        for one in projects:
            await repository.tenancy.create_project(one)
        own = sorted([tenant.project, *projects], key=lambda one: (one.created_at, one.id))
        assert await repository.tenancy.list_projects(tenant.organization.id) == own
        all_projects = sorted([*own, other.project], key=lambda one: (one.created_at, one.id))
        assert await repository.tenancy.list_projects() == all_projects

    async def test_organizations_are_listed_with_their_counts(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        await repository.tenancy.create_project(project(tenant.organization.id, now=NOW))
        listed = {each.id: each for each in await repository.tenancy.list_organizations()}
        assert set(listed) == {tenant.organization.id, other.organization.id}
        assert listed[tenant.organization.id].project_count == 2
        assert listed[tenant.organization.id].mailbox_count == 0
        assert listed[other.organization.id].project_count == 1

    async def test_a_quota_is_set_for_one_project(self, repository: Repository, tenant: Tenant, other: Tenant) -> None:
        changed = await repository.tenancy.set_mailbox_quota(tenant.project.id, 3)
        assert changed == replace(tenant.project, mailbox_quota=3)
        assert await repository.tenancy.list_projects(tenant.organization.id) == [changed]
        assert await repository.tenancy.list_projects(other.organization.id) == [other.project]
        with pytest.raises(NotFound):
            await repository.tenancy.set_mailbox_quota(new_id(), 3)

    async def test_a_rotated_key_expires_and_has_a_successor(self, repository: Repository, tenant: Tenant) -> None:
        former = api_key(tenant)
        await repository.tenancy.create_key(former, digest("former"))
        access_key = "SCW" + "R" * 17

        def successor(key: ApiKey) -> ApiKey:
            return replace(key, access_key=access_key)

        soon = NOW + timedelta(hours=1)
        new = await repository.tenancy.rotate_key(former.access_key, successor, digest("new"), soon)
        assert new == replace(former, access_key=access_key)
        assert await repository.tenancy.find_key(digest("new")) == new
        assert await repository.tenancy.find_key(digest("former")) == replace(former, expires_at=soon)
        # An earlier expiry stays.
        await repository.tenancy.rotate_key(
            former.access_key,
            lambda key: replace(key, access_key="SCW" + "S" * 17),
            digest("x"),
            soon + timedelta(days=9),
        )
        assert await repository.tenancy.find_key(digest("former")) == replace(former, expires_at=soon)
        with pytest.raises(NotFound):
            await repository.tenancy.rotate_key("SCW" + "X" * 17, successor, digest("y"), soon)

    async def test_the_projects_and_keys_of_an_unknown_organization_are_not_found(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        assert await repository.tenancy.list_keys(tenant.organization.id) == []
        with pytest.raises(NotFound, match=r"^organization .* not found$"):
            await repository.tenancy.list_projects(new_id())
        with pytest.raises(NotFound, match=r"^organization .* not found$"):
            await repository.tenancy.list_keys(new_id())

    async def test_a_project_of_an_unknown_organization_is_not_stored(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        before = await dump(raw)
        orphan = project(new_id())
        with pytest.raises(NotFound) as caught:
            await repository.tenancy.create_project(orphan)
        assert (caught.value.resource.type, caught.value.resource.id) == ("organization", orphan.organization_id)
        assert await dump(raw) == before

    async def test_a_project_outside_the_scope_is_not_found(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        project_id = tenant.project.id
        assert await repository.tenancy.get_project(tenant.context, project_id) == tenant.project
        assert await repository.tenancy.get_project(tenant.project_context, project_id) == tenant.project
        outside = [
            other.context,
            neighbor.project_context,
            tenant_context(organization_id=other.organization.id, project_id=project_id),
            tenant_context(organization_id=new_id()),
        ]
        for context in outside:
            with pytest.raises(NotFound) as caught:
                await repository.tenancy.get_project(context, project_id)
            assert (caught.value.resource.type, caught.value.resource.id) == ("project", project_id)
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

    async def test_keys_with_a_common_digest_prefix_are_distinguished(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        prefix = digest("a secret")[:31]
        keys = {prefix + bytes([last]): api_key(tenant) for last in range(3)}
        for secret_hash, key in keys.items():
            await repository.tenancy.create_key(key, secret_hash)
        for secret_hash, key in keys.items():
            assert await repository.tenancy.find_key(secret_hash) == key
        assert await repository.tenancy.find_key(prefix + bytes([3])) is None

    async def test_keys_are_listed_oldest_first(self, repository: Repository, tenant: Tenant, other: Tenant) -> None:
        keys = [api_key(tenant, now=NOW + timedelta(hours=hours)) for hours in (2, 1, 3)]
        foreign = api_key(other, now=NOW)
        for key in (*keys, foreign):
            await repository.tenancy.create_key(key, digest(key.access_key))
        own = sorted(keys, key=lambda key: key.created_at)
        assert await repository.tenancy.list_keys(tenant.organization.id) == own
        assert await repository.tenancy.list_keys() == [foreign, *own]

    async def test_a_key_of_an_unknown_organization_or_project_is_not_stored(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        before = await dump(raw)
        key = api_key(tenant)
        invalid_keys = [
            ("organization", replace(key, organization_id=new_id())),
            ("project", replace(key, default_project_id=new_id())),
            ("project", replace(key, project_id=new_id())),
            ("project", replace(key, default_project_id=other.project.id)),
            ("project", replace(key, project_id=other.project.id)),
        ]
        for resource, invalid in invalid_keys:
            with pytest.raises(NotFound) as caught:
                await repository.tenancy.create_key(invalid, digest("a secret"))
            assert caught.value.resource.type == resource
        assert await dump(raw) == before

    async def test_a_revoked_key_keeps_its_first_time_and_is_found(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        key, other = api_key(tenant), api_key(tenant)
        await repository.tenancy.create_key(key, digest("a secret"))
        await repository.tenancy.create_key(other, digest("another secret"))
        revoked = replace(key, revoked_at=NOW)
        assert await repository.tenancy.revoke_key(key.access_key, NOW) == revoked
        assert await repository.tenancy.revoke_key(key.access_key, NOW + timedelta(days=1)) == revoked
        assert await repository.tenancy.find_key(digest("a secret")) == revoked
        assert await repository.tenancy.find_key(digest("another secret")) == other

    async def test_revoking_an_unknown_key_raises_not_found(self, repository: Repository, tenant: Tenant) -> None:
        with pytest.raises(NotFound) as caught:
            await repository.tenancy.revoke_key("SCWAAAAAAAAAAAAAAAAA", NOW)
        assert (caught.value.resource.type, caught.value.resource.id) == ("api_key", "SCWAAAAAAAAAAAAAAAAA")

    async def test_concurrent_revocations_of_a_key_return_one_time(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        key = api_key(tenant)
        await repository.tenancy.create_key(key, digest("a secret"))
        moments = [NOW + timedelta(seconds=number) for number in range(5)]
        revoked = await asyncio.gather(*(repository.tenancy.revoke_key(key.access_key, moment) for moment in moments))
        assert len({one.revoked_at for one in revoked}) == 1
