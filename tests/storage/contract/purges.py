"""Contract of the purges of mailboxes and domains."""

import asyncio
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import NotFound
from postroomd.domain.forwardings import change_settings
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import DomainStatus, MailboxStatus
from postroomd.domain.records import RECORD_KINDS
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from tests.storage.contract.steps import FAR, RETENTION, lease_due, lease_of, purge, purging, step
from tests.support.database_state import check_invariants, count_of, rows_of
from tests.support.factories import NOW, Tenant, new_alias, new_domain, new_forwarding, new_mailboxes
from tests.support.lifecycle import MICROSECOND


class PurgesContract:
    """The contract of `Work` for what is deleted."""

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
