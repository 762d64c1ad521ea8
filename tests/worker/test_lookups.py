"""The pool of lookups: sliding, fair to organizations, and with an interval between two lookups of one domain."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import chain

import pytest

from postroomd.domain.domains import begin_validation
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, RecordStatus
from postroomd.domain.records import Finding
from postroomd.storage.protocols.repository import Repository
from postroomd.worker import lookups
from postroomd.worker.backoff import Backoff
from postroomd.worker.lookups import LookupPool
from postroomd.worker.probers import TrustingProber
from postroomd.worker.steps import Worker
from tests.support.factories import NOW, Tenant, new_domain, new_id, new_tenant
from tests.support.lifecycle import FREE
from tests.support.waiting import wait_until

LEASE = timedelta(minutes=1)


class HeldProber(TrustingProber):
    """A prober whose lookups of named domains last until they are released; no domain has an MX record."""

    def __init__(self, *held: str) -> None:
        self.held = {name: asyncio.Event() for name in held}
        self.started: list[str] = []

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        self.started.append(domain.name)
        if domain.name in self.held:
            await self.held[domain.name].wait()
        return {**await super().probe(domain, records), "mx": Finding(RecordStatus.NOT_FOUND, "no MX record")}


async def request(repository: Repository, tenant: Tenant, domain: Domain) -> None:
    rule = partial(begin_validation, now=NOW)
    await repository.domains.begin_validation(tenant.context, domain.id, rule, NOW)


async def requested(repository: Repository, tenant: Tenant, *names: str) -> list[Domain]:
    """Domains whose lookup has been requested."""
    domains = [await new_domain(repository, tenant, name, DomainStatus.WAITING_VALIDATION) for name in names]
    for domain in domains:
        await request(repository, tenant, domain)
    return domains


@asynccontextmanager
async def pool_of(repository: Repository, prober: HeldProber) -> AsyncIterator[LookupPool]:
    worker = Worker(work=repository.work, prober=prober, policy=FREE)
    pool = LookupPool(worker, Backoff())
    try:
        yield pool
    finally:
        for event in prober.held.values():
            event.set()
        await pool.close()


async def until_idle(pool: LookupPool, running: int = 0) -> None:
    async with asyncio.timeout(30):
        while len(pool.tasks) > running:
            await asyncio.wait(pool.tasks, return_when=asyncio.FIRST_COMPLETED)
            pool.collect()


async def test_a_free_slot_is_filled_while_other_lookups_run(
    repository: Repository, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 4)  # two of them for one organization
    await requested(repository, tenant, "slow.test", "a.test", "b.test", "c.test")
    prober = HeldProber("slow.test")
    async with pool_of(repository, prober) as pool:
        while "slow.test" not in prober.started:  # equally overdue: in any order
            assert await pool.fill(NOW) > 0
            await until_idle(pool, 1)
        while len(prober.started) < 4:
            assert await pool.fill(NOW) == 1
            await until_idle(pool, 1)
        assert await pool.fill(NOW) == 0
        assert len(pool.tasks) == 1


async def test_an_organization_leaves_slots_to_the_others(
    repository: Repository, tenant: Tenant, other: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 6)
    slow = [f"slow{number}.test" for number in range(6)]
    await requested(repository, tenant, *slow)
    prober = HeldProber(*slow)
    async with pool_of(repository, prober) as pool:
        assert await pool.fill(NOW) == 3
        assert await pool.fill(NOW) == 0
        await wait_until(lambda: len(prober.started) == 3)
        await requested(repository, other, "b.test", "c.test", "d.test")
        assert await pool.fill(NOW) == 2
        await until_idle(pool, 3)
        assert await pool.fill(NOW) == 1
        await until_idle(pool, 3)
        assert set(prober.started[3:]) == {"b.test", "c.test", "d.test"}


async def test_organizations_together_leave_slots_to_the_next_one(repository: Repository) -> None:
    tenants = [await new_tenant(repository) for _ in range(6)]
    slow = [[f"{number}.{name}.test" for number in range(lookups.MAX_LOOKUPS)] for name in "abcdef"]
    started = []
    async with pool_of(repository, HeldProber(*chain(*slow))) as pool:
        for tenant, names in zip(tenants, slow, strict=True):
            await requested(repository, tenant, *names)
            started.append(await pool.fill(NOW))
        assert await pool.fill(NOW) == 0
    assert started == [10, 5, 3, 1, 1, 0]


async def test_organizations_take_turns(repository: Repository, tenant: Tenant, other: Tenant) -> None:
    domains = await requested(repository, tenant, *(f"a{number}.test" for number in range(6)))
    await requested(repository, other, "b0.test", "b1.test")
    leases = await repository.work.lease_domains(NOW, LEASE, 4)
    assert Counter(lease.domain.organization_id for lease in leases) == {
        tenant.organization.id: 2,
        other.organization.id: 2,
    }
    leases = await repository.work.lease_domains(NOW, LEASE, 10)
    assert {lease.domain.organization_id for lease in leases} == {tenant.organization.id}
    assert len(leases) == len(domains) - 2


async def test_running_lookups_count_towards_a_share(repository: Repository, tenant: Tenant, other: Tenant) -> None:
    await requested(repository, tenant, *(f"a{number}.test" for number in range(4)))
    await requested(repository, other, "b0.test")
    running = {tenant.organization.id: 2, new_id(): 7}
    leases = await repository.work.lease_domains(NOW, LEASE, 4, (), running)
    assert [lease.domain.name[:1] for lease in leases] == ["b", "a"]
    assert await repository.work.lease_domains(NOW, LEASE, 2, (), running) == []
    leases = await repository.work.lease_domains(NOW, LEASE, 3, (), running)
    assert [lease.domain.name[:1] for lease in leases] == ["a"]


async def test_a_pool_without_a_prober_leases_nothing(repository: Repository, tenant: Tenant) -> None:
    await requested(repository, tenant, "a.test")
    pool = LookupPool(Worker(work=repository.work, prober=None, policy=FREE), Backoff())
    assert await pool.fill(NOW) == 0
    assert len(await repository.work.lease_domains(NOW, LEASE, 10)) == 1
