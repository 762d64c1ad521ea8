"""Contract of admin keys."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.errors import Conflict, NotFound, ResourceName
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.support.database_state import count_of, dump
from tests.support.factories import NOW, Tenant, admin_key, api_key, digest


class AdminKeysContract:
    """The contract of `AdminKeys`."""

    async def test_an_admin_key_is_found_by_the_digest_of_its_secret(self, repository: Repository) -> None:
        key = replace(admin_key("billing"), read_only=True, expires_at=NOW + timedelta(days=30))
        await repository.admin_keys.create(key, digest("a secret"))
        assert await repository.admin_keys.find(digest("a secret")) == key
        assert await repository.admin_keys.find(digest("another secret")) is None

    async def test_admin_keys_with_a_common_digest_prefix_are_distinguished(self, repository: Repository) -> None:
        prefix = digest("a secret")[:31]
        keys = {prefix + bytes([last]): admin_key(f"key{last}") for last in range(3)}
        for secret_hash, key in keys.items():
            await repository.admin_keys.create(key, secret_hash)
        for secret_hash, key in keys.items():
            assert await repository.admin_keys.find(secret_hash) == key
        assert await repository.admin_keys.find(prefix + bytes([3])) is None

    async def test_admin_keys_are_listed_oldest_first(self, repository: Repository) -> None:
        assert await repository.admin_keys.list() == []
        keys = [admin_key(f"key{hours}", hours) for hours in (2, 1, 3)]
        for key in keys:
            await repository.admin_keys.create(key, digest(key.name))
        assert await repository.admin_keys.list() == sorted(keys, key=lambda key: key.created_at)

    async def test_the_name_of_a_revoked_admin_key_is_not_reused(
        self, repository: Repository, raw: AsyncEngine
    ) -> None:
        await repository.admin_keys.create(admin_key("billing"), digest("a secret"))
        await repository.admin_keys.revoke("billing", NOW)
        before = await dump(raw)
        with pytest.raises(Conflict) as caught:
            await repository.admin_keys.create(admin_key("billing", 1), digest("another secret"))
        assert caught.value.resources == (ResourceName("admin_key", "billing"),)
        assert await dump(raw) == before

    async def test_concurrent_creations_of_an_admin_key_succeed_once(
        self, repository: Repository, raw: AsyncEngine
    ) -> None:
        calls = (repository.admin_keys.create(admin_key("billing"), digest(str(number))) for number in range(5))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert Counter(map(type, results)) == {type(None): 1, Conflict: 4}
        assert await count_of(raw, t.admin_keys) == 1

    async def test_a_revoked_admin_key_keeps_its_first_time_and_is_found(self, repository: Repository) -> None:
        key, other = admin_key("billing"), admin_key("support")
        await repository.admin_keys.create(key, digest("a secret"))
        await repository.admin_keys.create(other, digest("another secret"))
        revoked = replace(key, revoked_at=NOW)
        assert await repository.admin_keys.revoke("billing", NOW) == revoked
        assert await repository.admin_keys.revoke("billing", NOW + timedelta(days=1)) == revoked
        assert await repository.admin_keys.find(digest("a secret")) == revoked
        assert await repository.admin_keys.find(digest("another secret")) == other

    async def test_revoking_an_unknown_admin_key_raises_not_found(self, repository: Repository) -> None:
        with pytest.raises(NotFound) as caught:
            await repository.admin_keys.revoke("billing", NOW)
        assert caught.value.resource == ResourceName("admin_key", "billing")

    async def test_an_api_key_is_no_admin_key_and_vice_versa(self, repository: Repository, tenant: Tenant) -> None:
        await repository.admin_keys.create(admin_key("billing"), digest("the operator's"))
        await repository.tenancy.create_key(api_key(tenant), digest("the tenant's"))
        assert await repository.admin_keys.find(digest("the tenant's")) is None
        assert await repository.tenancy.find_key(digest("the operator's")) is None
