"""Contract of quotas: what an organization, or a mailbox, can have at most."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.aliases import describe_alias
from postroomd.domain.context import Idempotency, Replayed
from postroomd.domain.errors import QuotaExceeded
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import Domain, Mailbox
from postroomd.domain.policy import DEFAULT_QUOTAS, Quotas
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.worker.steps import Worker
from tests.support.database_state import check_invariants, count_of, dump, rows_of
from tests.support.factories import (
    NOW,
    SECRETS,
    Tenant,
    alias,
    domain,
    new_alias,
    new_domain,
    new_id,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    records,
)
from tests.support.lifecycle import FREE
from tests.support.worker import drain

KEY_AND_DIGEST = len("key 00") + 32


def keyed(number: int, answer: bytes = b"x" * 1_000, *, quotas: Quotas = DEFAULT_QUOTAS, hours: int = 0) -> Idempotency:
    """Return an idempotency key, sent `hours` after NOW, of a call whose response can be read again."""
    now = NOW + timedelta(hours=hours)
    return Idempotency(
        key=f"key {number:02}",
        digest=b"d" * 32,
        encode=lambda _: answer,
        now=now,
        expires_at=now + timedelta(hours=24),
        rereads=True,
        quotas=quotas,
    )


async def create_domain(repository: Repository, tenant: Tenant, name: str, quotas: Quotas) -> Domain:
    new = domain(tenant, name)
    return await repository.domains.create(tenant.context, new, records(new), SECRETS, quotas)


async def create_alias(repository: Repository, tenant: Tenant, parent: Mailbox, name: str, quotas: Quotas) -> None:
    make = partial(alias, local_part=name, alias_id=new_id())
    await repository.aliases.create(tenant.context, parent.id, make, quotas=quotas)


class StorageQuotasContract:
    """What an organization, or a mailbox, can have at most."""

    # --- Domains and aliases ------------------------------------------------------------------------------------------

    async def test_domains_beyond_the_quota_of_the_organization_are_not_stored(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        quotas = Quotas(domains=2)
        await create_domain(repository, tenant, "one.test", quotas)
        await repository.domains.require_quota(tenant.context, quotas)
        await create_domain(repository, neighbor, "two.test", quotas)
        before = await dump(raw)
        for call in (
            create_domain(repository, neighbor, "three.test", quotas),
            repository.domains.require_quota(tenant.context, quotas),
        ):
            with pytest.raises(QuotaExceeded) as caught:
                await call
            error = caught.value
            assert (error.resource, error.quota, error.current) == ("domains", 2, 2)
            assert (error.owner.type, error.owner.id) == ("organization", tenant.organization.id)
        assert await dump(raw) == before
        await create_domain(repository, other, "one.test", quotas)
        await create_domain(repository, tenant, "three.test", Quotas(domains=3))
        await check_invariants(raw)

    async def test_concurrent_creations_never_exceed_a_quota(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        neighbor = await new_neighbor(repository, tenant)
        owners = [
            owner
            for name in ("one.test", "two.test")
            for owner in await new_mailboxes(repository, await new_domain(repository, tenant, name), "ann")
        ]
        quotas = Quotas(domains=5, aliases=4)
        outcomes = await asyncio.gather(
            *(create_domain(repository, (tenant, neighbor)[n % 2], f"d{n}.test", quotas) for n in range(8)),
            *(create_alias(repository, tenant, owners[n % 2], f"alias{n}", quotas) for n in range(8)),
            return_exceptions=True,
        )
        assert [one.resource for one in outcomes if isinstance(one, QuotaExceeded)] == 5 * ["domains"] + 4 * ["aliases"]
        assert (await count_of(raw, t.domains), await count_of(raw, t.aliases)) == (5, 4)
        await check_invariants(raw)

    async def test_aliases_have_a_quota_per_mailbox_and_per_organization(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ann, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ann", "bob")
        quotas = Quotas(mailbox_aliases=2, aliases=3)
        await create_alias(repository, tenant, ann, "one", quotas)
        await create_alias(repository, tenant, ann, "two", quotas)
        with pytest.raises(QuotaExceeded, match=f"mailbox {ann.id} has 2 aliases and a quota of 2"):
            await create_alias(repository, tenant, ann, "three", quotas)
        await create_alias(repository, tenant, bob, "three", quotas)
        with pytest.raises(QuotaExceeded, match=f"organization {tenant.organization.id} has 3 aliases"):
            await create_alias(repository, tenant, bob, "four", quotas)
        await check_invariants(raw)

    async def test_what_is_removed_frees_its_place(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        ann, bob = await new_mailboxes(repository, await new_domain(repository, tenant), "ann", "bob")
        quotas = Quotas(mailbox_aliases=1, aliases=2)
        await create_alias(repository, tenant, ann, "one", quotas)
        await create_alias(repository, tenant, bob, "two", quotas)
        await repository.mailboxes.change(tenant.context, ann.id, lambda it, _: delete_mailbox(it, timedelta(0), NOW))
        await drain(Worker(work=repository.work, prober=None, policy=FREE), NOW)
        await check_invariants(raw)
        (carol,) = await new_mailboxes(repository, await new_domain(repository, tenant, "other.test"), "carol")
        await create_alias(repository, tenant, carol, "one", quotas)
        with pytest.raises(QuotaExceeded):
            await create_alias(repository, tenant, carol, "three", quotas)
        await check_invariants(raw)

    # --- Stored responses ---------------------------------------------------------------------------------------------

    async def test_responses_beyond_the_quota_are_refused_until_others_expire(
        self, repository: Repository, tenant: Tenant, other: Tenant, raw: AsyncEngine
    ) -> None:
        parent = await new_domain(repository, tenant)
        quotas = Quotas(responses=2)
        for number in range(2):
            await new_mailboxes(repository, parent, f"m{number}", idempotency=keyed(number, quotas=quotas))
        before = await dump(raw)
        with pytest.raises(QuotaExceeded, match="has 2 idempotency_keys and a quota of 2: calls without") as caught:
            await new_mailboxes(repository, parent, "m2", idempotency=keyed(2, quotas=quotas))
        assert (caught.value.quota, caught.value.current) == (2, 2)
        assert await dump(raw) == before
        with pytest.raises(Replayed):  # of a call that was committed before
            await new_mailboxes(repository, parent, "m1", idempotency=keyed(1, quotas=quotas))
        await new_mailboxes(repository, parent, "m3")
        await new_domain(repository, other, "other.test", idempotency=keyed(2, quotas=quotas))
        await repository.work.remove_expired_responses(NOW + timedelta(hours=23), 10)
        with pytest.raises(QuotaExceeded):
            await new_mailboxes(repository, parent, "m4", idempotency=keyed(4, quotas=quotas, hours=23))
        await repository.work.remove_expired_responses(NOW + timedelta(hours=24), 10)
        await new_mailboxes(repository, parent, "m4", idempotency=keyed(4, quotas=quotas, hours=24))
        await check_invariants(raw)

    async def test_the_size_of_responses_has_a_quota(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        parent = await new_domain(repository, tenant)
        quotas = Quotas(response_octets=2 * (1_000 + KEY_AND_DIGEST))
        for number in range(2):
            await new_mailboxes(repository, parent, f"m{number}", idempotency=keyed(number, quotas=quotas))
        with pytest.raises(QuotaExceeded) as caught:
            await new_mailboxes(repository, parent, "m2", idempotency=keyed(2, b"", quotas=quotas))
        assert (caught.value.resource, caught.value.current) == ("idempotency_octets", 2 * (1_000 + KEY_AND_DIGEST))
        # An expired response gives way to its successor, also before the worker removes it.
        await new_mailboxes(repository, parent, "m2", idempotency=keyed(1, quotas=quotas, hours=24))
        await check_invariants(raw)

    async def test_concurrent_calls_never_exceed_the_quota_of_responses(
        self, repository: Repository, raw: AsyncEngine
    ) -> None:
        tenant = await new_tenant(repository)
        parents = [await new_domain(repository, tenant, f"{number}.test") for number in range(4)]
        quotas = Quotas(responses=3)
        outcomes = await asyncio.gather(
            *(
                new_mailboxes(repository, parents[number % 4], f"m{number}", idempotency=keyed(number, quotas=quotas))
                for number in range(8)
            ),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes].count(QuotaExceeded) == 5
        assert (await count_of(raw, t.idempotency_keys), await count_of(raw, t.mailboxes)) == (3, 3)
        await check_invariants(raw)

    async def test_a_call_that_changes_nothing_stores_its_key_and_digest_only(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
        other_name = await new_alias(repository, ann, "other")

        async def change_alias(number: int, description: str | None) -> None:
            rule = partial(describe_alias, description=description, now=NOW)
            context = replace(tenant.context, idempotency=keyed(number))
            await repository.aliases.change(context, other_name.id, rule)

        context = replace(tenant.context, idempotency=keyed(0))
        assert await repository.mailboxes.change(context, ann.id, lambda it, _: it) == ann
        await change_alias(1, None)
        await change_alias(2, "another")
        stored = await rows_of(raw, t.idempotency_keys.select().order_by(t.idempotency_keys.c.key))
        assert [row[4] for row in stored] == [b"", b"", b"x" * 1_000]
        for number in range(2):
            with pytest.raises(Replayed) as caught:
                await repository.require_unused(replace(tenant.context, idempotency=keyed(number)))
            assert caught.value.response == b""
        await check_invariants(raw)

    async def test_without_another_way_to_the_response_it_is_stored_for_an_unchanged_resource_too(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        (ann,) = await new_mailboxes(repository, await new_domain(repository, tenant), "ann")
        context = replace(tenant.context, idempotency=replace(keyed(0), rereads=False))
        await repository.mailboxes.change(context, ann.id, lambda it, _: it)
        with pytest.raises(Replayed) as caught:
            await repository.require_unused(context)
        assert caught.value.response == b"x" * 1_000
