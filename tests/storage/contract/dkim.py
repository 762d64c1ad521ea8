"""Contract of the rotations of DKIM keys."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.dkim import DkimRotation, require_cancelable
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import NotFound, PreconditionFailed
from postroomd.domain.model import Domain, DomainStatus, RecordLevel, RecordStatus
from postroomd.domain.queries import Slice
from postroomd.domain.records import RECORD_KINDS, Finding
from postroomd.storage import schema as t
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.work import DomainLease
from tests.support.database_state import dump, rows_of
from tests.support.factories import (
    NOW,
    OPERATOR,
    SECRETS,
    Tenant,
    new_dkim_key,
    new_domain,
    new_id,
    new_neighbor,
    rotate_dkim_key,
)
from tests.support.lifecycle import FREE
from tests.support.stores import Store
from tests.support.worker import validation_rule

LATER = NOW + timedelta(hours=1)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)
INTERVAL = timedelta(days=1)
OVERLAP = FREE.dkim_overlap
VALID = Finding(RecordStatus.VALID)
ALL_VALID: Mapping[str, Finding] = dict.fromkeys(RECORD_KINDS, VALID)
PUBLISHED = {**ALL_VALID, "dkim_next": VALID}


async def private_keys(repository: Repository) -> list[tuple[str, str, bool]]:
    """Selector, private key, and whether it signs, of every exported key."""
    return [(key.selector, key.private_pem, key.signs) for key in await repository.signing_keys.page("", 100)]


async def shown(repository: Repository, tenant: Tenant, domain: Domain) -> dict[str, tuple[str, RecordLevel]]:
    """The selector and the level of the DKIM records that the tenant sees, by kind."""
    found = await repository.domains.records(tenant.context, domain.id)
    assert {kind for kind in found if not kind.startswith("dkim_")} == set(RECORD_KINDS)
    dkim = {kind: record for kind, record in found.items() if kind.startswith("dkim")}
    return {kind: (record.dns_name.partition(".")[0], record.level) for kind, record in dkim.items()}


async def lease_lookup(repository: Repository, now: datetime) -> DomainLease:
    (lease,) = await repository.work.lease_domains(now, LEASE, 10)
    return lease


async def look_up(repository: Repository, findings: Mapping[str, Finding], now: datetime) -> Domain:
    """Lease the only domain that is due, and settle its lookup."""
    rule = validation_rule(findings, INTERVAL, now)
    return (await repository.work.settle_validation(await lease_lookup(repository, now), rule)).domain


OLD = (SECRETS.dkim_selector, SECRETS.dkim_private_key)
NEW = ("new", "the private key of new")
REQUIRED, RECOMMENDED = RecordLevel.REQUIRED, RecordLevel.RECOMMENDED


class DkimContract:
    """The contract of `DkimRotations`, and of the switch and the retirement in `Work`."""

    async def test_the_present_key_signs_until_the_next_one_is_published(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant)
        started = await rotate_dkim_key(repository, domain)
        expected = DkimRotation(
            domain_id=domain.id, organization_id=domain.organization_id, selector="new", started_at=NOW
        )
        assert (started.selector, started.rotation) == (OLD[0], expected)
        assert set(started.records) == {"dkim", "dkim_next"}
        pending = {"dkim": (OLD[0], REQUIRED), "dkim_next": ("new", RECOMMENDED)}
        assert await shown(repository, tenant, domain) == pending
        assert await private_keys(repository) == [(*OLD, True)]

        missing = {**ALL_VALID, "dkim_next": Finding(RecordStatus.NOT_FOUND, "no TXT record")}
        assert (await look_up(repository, missing, NOW)).status is DomainStatus.READY
        assert await shown(repository, tenant, domain) == pending
        assert await private_keys(repository) == [(*OLD, True)]
        assert (await repository.dkim_rotations.find(domain.id)).rotation == expected

        assert await repository.work.lease_domains(LATER - timedelta(minutes=1), LEASE, 10) == []
        assert (await look_up(repository, PUBLISHED, LATER)).status is DomainStatus.READY
        keys = await repository.dkim_rotations.find(domain.id)
        retires_at = LATER + OVERLAP
        assert (keys.selector, keys.rotation) == (
            "new",
            replace(expected, selector=OLD[0], switched_at=LATER, retires_at=retires_at),
        )
        signing = {"dkim": ("new", REQUIRED), "dkim_previous": (OLD[0], RECOMMENDED)}
        assert await shown(repository, tenant, domain) == signing
        assert await private_keys(repository) == [(*NEW, True), (*OLD, False)]
        assert keys.records["dkim"].id == started.records["dkim_next"].id
        assert {record.status for record in keys.records.values()} == {RecordStatus.VALID}

    async def test_the_previous_key_is_erased_after_the_overlap_period(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        await new_domain(repository, tenant, "other.test")
        await rotate_dkim_key(repository, domain, immediately=True)
        ends = NOW + OVERLAP
        due = await repository.work.next_due()
        assert due.steps == ends
        assert await repository.work.retire_dkim_keys(ends - timedelta(microseconds=1), 10) == 0
        assert await repository.work.retire_dkim_keys(ends, 10) == 1
        assert await repository.work.retire_dkim_keys(ends, 10) == 0
        assert (await repository.work.next_due()).steps is None
        assert await shown(repository, tenant, domain) == {"dkim": ("new", REQUIRED)}
        assert await private_keys(repository) == [(*NEW, True), (*OLD, True)]  # the latter of the other domain
        assert await rows_of(raw, select(t.dkim_rotations)) == []
        assert (await rotate_dkim_key(repository, domain, "newer")).rotation is not None

    async def test_retirements_are_bounded_and_skip_rows(self, repository: Repository, tenant: Tenant) -> None:
        domains = [await new_domain(repository, tenant, f"d{number}.test") for number in range(3)]
        for domain in domains:
            await rotate_dkim_key(repository, domain, immediately=True)
        assert await repository.work.retire_dkim_keys(FAR, 2, [domains[0].id]) == 2
        assert await repository.work.retire_dkim_keys(FAR, 2, [domains[0].id]) == 0
        assert await repository.work.retire_dkim_keys(FAR, 2) == 1

    async def test_a_switch_at_once_needs_no_lookup(self, repository: Repository, tenant: Tenant) -> None:
        for name, before in (("a.test", False), ("b.test", True)):
            domain = await new_domain(repository, tenant, name)
            if before:
                await rotate_dkim_key(repository, domain)
            keys = await rotate_dkim_key(repository, domain, immediately=True, now=LATER)
            assert keys.selector == "new"
            assert keys.rotation is not None
            assert (keys.rotation.selector, keys.rotation.switched_at) == (OLD[0], LATER)
            assert {lease.domain.id for lease in await repository.work.lease_domains(LATER, LEASE, 10)} == {domain.id}

    async def test_a_repeated_rotation_keeps_its_key_and_requests_a_lookup(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        await rotate_dkim_key(repository, domain)
        await look_up(repository, {**ALL_VALID, "dkim_next": Finding(RecordStatus.NOT_FOUND)}, NOW)
        before = await dump(raw)
        assert await repository.work.lease_domains(NOW, LEASE, 10) == []
        repeated = await rotate_dkim_key(repository, domain, "another")
        assert repeated.rotation is not None
        assert repeated.rotation.selector == "new"
        changed = {table for table, rows in (await dump(raw)).items() if rows != before[table]}
        assert changed == {"domains"}  # neither a record of the audit log nor a key
        assert (await lease_lookup(repository, NOW)).domain.id == domain.id

    async def test_a_rotation_is_canceled_without_a_trace(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        domain = await new_domain(repository, tenant)
        cancel = partial(repository.dkim_rotations.cancel, OPERATOR, domain.id, require_cancelable)
        before = await dump(raw)
        assert (await cancel(NOW)).rotation is None
        assert await dump(raw) == before
        await rotate_dkim_key(repository, domain)
        assert (await cancel(NOW)).rotation is None
        assert await shown(repository, tenant, domain) == {"dkim": (OLD[0], REQUIRED)}
        assert await rows_of(raw, select(t.dkim_rotations)) == []
        await rotate_dkim_key(repository, domain, immediately=True)
        with pytest.raises(PreconditionFailed):
            await cancel(NOW)

    async def test_a_lookup_of_the_former_records_is_not_stored(self, repository: Repository, tenant: Tenant) -> None:
        domain = await new_domain(repository, tenant)
        await rotate_dkim_key(repository, domain)
        lease = await lease_lookup(repository, NOW)
        await repository.dkim_rotations.cancel(OPERATOR, domain.id, require_cancelable, NOW)
        await rotate_dkim_key(repository, domain, "another")
        check = await repository.work.settle_validation(lease, validation_rule(PUBLISHED, INTERVAL, NOW))
        assert (check.key_switch, check.domain) == (None, lease.domain)
        keys = await repository.dkim_rotations.find(domain.id)
        assert (keys.selector, keys.records["dkim_next"].status) == (OLD[0], RecordStatus.UNKNOWN_STATUS)
        assert "dkim_next" in (await lease_lookup(repository, NOW)).records

    async def test_a_validation_that_was_requested_is_done_after_a_rotation(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        domain = await new_domain(repository, tenant, status=DomainStatus.VALIDATING)
        await repository.domains.begin_validation(tenant.context, domain.id, lambda stored: stored, NOW)
        await lease_lookup(repository, NOW)
        await rotate_dkim_key(repository, domain)
        assert (await look_up(repository, PUBLISHED, NOW)).status is DomainStatus.PROVISIONING
        assert await shown(repository, tenant, domain) == {
            "dkim": ("new", REQUIRED),
            "dkim_previous": (OLD[0], RECOMMENDED),
        }

    async def test_a_domain_that_waits_for_its_validation_is_not_looked_up(
        self, repository: Repository, tenant: Tenant
    ) -> None:
        for number, status in enumerate(set(DomainStatus) - {DomainStatus.READY, DomainStatus.DELETING}):
            await rotate_dkim_key(repository, await new_domain(repository, tenant, f"d{number}.test", status))
        assert await repository.work.lease_domains(FAR, LEASE, 10) == []

    async def test_concurrent_rotations_create_one_key(self, store: Store, tenant: Tenant) -> None:
        repositories = [await store.open() for _ in range(3)]
        domain = await new_domain(repositories[0], tenant)
        rotated = await asyncio.gather(
            *(rotate_dkim_key(each, domain, f"s{number}") for number, each in enumerate(repositories))
        )
        assert len({keys.rotation.selector for keys in rotated if keys.rotation}) == 1
        assert len(rotated[0].records) == 2

    async def test_a_purge_erases_both_keys(self, repository: Repository, tenant: Tenant, raw: AsyncEngine) -> None:
        domains = [await new_domain(repository, tenant, f"d{number}.test") for number in range(2)]
        for domain in domains:
            await rotate_dkim_key(repository, domain, immediately=domain is domains[0])
            rule = partial(delete_domain, force=True, now=NOW)
            await repository.domains.delete(tenant.context, domain.id, rule, NOW)
        assert await repository.work.purge_domains(_purged, _purged, NOW, 10)
        assert await repository.work.purge_domains(_purged, _purged, NOW, 10)
        for table in (t.dkim_rotations, t.domain_records, t.domains):
            assert await rows_of(raw, select(table)) == []

    async def test_rotations_are_listed_by_domain(self, repository: Repository, tenant: Tenant, other: Tenant) -> None:
        assert await repository.dkim_rotations.list("", 10) == Slice([], "")
        domains = [await new_domain(repository, each, "example.com") for each in (tenant,)]
        domains += [await new_domain(repository, other, f"d{number}.test") for number in range(3)]
        await new_domain(repository, tenant, "still.test")
        for domain in domains:
            await rotate_dkim_key(repository, domain)
        expected, cursor = sorted(domain.id for domain in domains), ""
        found: list[str] = []
        while True:
            page = await repository.dkim_rotations.list(cursor, 3)
            found += [keys.domain_id for keys in page.items]
            if not (cursor := page.next_cursor):
                break
        assert found == expected

    async def test_domains_are_found_by_name_and_by_id(
        self, repository: Repository, tenant: Tenant, other: Tenant
    ) -> None:
        owner = await new_domain(repository, tenant)
        rival = await new_domain(repository, other, status=DomainStatus.WAITING_VALIDATION)
        found = await repository.dkim_rotations.domains_named("example.com")
        assert [each.id for each in found] == sorted([owner.id, rival.id])
        assert (await repository.dkim_rotations.find(rival.id)).domain == rival
        assert await repository.dkim_rotations.domains_named("example.org") == []
        absent = new_id()
        for call in (
            repository.dkim_rotations.find(absent),
            repository.dkim_rotations.cancel(OPERATOR, absent, require_cancelable, NOW),
            rotate_dkim_key(repository, replace(owner, id=absent)),
        ):
            with pytest.raises(NotFound):
                await call

    async def test_tenants_do_not_reach_rotations(
        self, repository: Repository, tenant: Tenant, raw: AsyncEngine
    ) -> None:
        """Their table is none of the tables that PostgreSQL's role of tenants may read."""
        assert t.dkim_rotations not in t.TENANT_TABLES
        domain = await new_domain(repository, tenant)
        neighbor = await new_neighbor(repository, tenant)
        await rotate_dkim_key(repository, domain, key=new_dkim_key(domain))
        with pytest.raises(NotFound):
            await repository.domains.records(neighbor.project_context, domain.id)


def _purged(_subject: object) -> None:
    """A rule that purges any mailbox or domain."""
