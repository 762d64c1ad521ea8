"""Lists served by a real streaming replica, and by the primary whenever the replica can't be trusted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import monotonic

import pytest

from postroomd.domain.context import Consistency
from postroomd.domain.queries import DomainQuery, Ordering
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import ReplicaUrl, open_database
from postroomd.storage.sql import SqlRepository
from tests.support.factories import Tenant, new_domain, new_id, new_tenant
from tests.support.postgres import FAST, PostgresServer, running_server

pytestmark = pytest.mark.xdist_group("postgresql")

STALENESS_SECONDS = 2.0
PATIENCE_SECONDS = 20.0
FIRST_PAGE = DomainQuery(ordering=Ordering(field="name", descending=False), page=1, page_size=50)


def a_name() -> str:
    return f"{new_id()}.example"


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with running_server(settings=FAST) as server:
        server.sql("CREATE DATABASE postroom")
        migrate(server.url("postroom"))
        yield server


@pytest.fixture(scope="module")
def replica(primary: PostgresServer) -> Iterator[PostgresServer]:
    server = primary.new_replica(primary.directory.with_name("replica"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def repository(primary: PostgresServer, replica: PostgresServer) -> AsyncIterator[SqlRepository]:
    replica.sql("SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused()")
    database = open_database(
        primary.url("postroom"),
        replica=ReplicaUrl(url=replica.url("postroom"), max_staleness_seconds=STALENESS_SECONDS),
    )
    opened = SqlRepository(database)
    assert database._replica is not None
    await eventually(database._replica.usable)
    yield opened
    await opened.close()


async def eventually(holds: object) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not holds():  # type: ignore[operator]
        assert monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


async def listed(
    repository: SqlRepository, tenant: Tenant, consistency: Consistency = Consistency.BOUNDED_STALENESS
) -> int:
    context = replace(tenant.context, consistency=consistency)
    return (await repository.domains.list(context, FIRST_PAGE)).total_count


async def until_listed(repository: SqlRepository, tenant: Tenant, count: int) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while await listed(repository, tenant) != count:
        assert monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


async def test_lists_come_from_the_replica(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    await new_domain(repository, tenant, a_name())
    await until_listed(repository, tenant, 1)
    # With its replay paused, what the replica does not know tells who answered.
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, a_name())
    assert await listed(repository, tenant) == 1


async def test_a_caller_can_refuse_a_stale_list(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, a_name())
    assert await listed(repository, tenant, Consistency.STRONG) == 1
    assert await listed(repository, tenant) == 0


async def test_single_reads_always_come_from_the_primary(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    domain = await new_domain(repository, tenant, a_name())
    assert (await repository.domains.get(tenant.context, domain.id)).id == domain.id


async def test_a_replica_that_falls_behind_is_left_alone(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, a_name())
    assert await listed(repository, tenant) == 0
    await until_listed(repository, tenant, 1)  # by the primary, once the bound has passed
    replica.sql("SELECT pg_wal_replay_resume()")


async def test_a_lost_replica_falls_back_to_the_primary_and_is_used_again_when_it_returns(
    repository: SqlRepository, replica: PostgresServer
) -> None:
    tenant = await new_tenant(repository)
    await new_domain(repository, tenant, a_name())
    await until_listed(repository, tenant, 1)
    replica.kill()
    for _ in range(20):
        assert await listed(repository, tenant) == 1
    replica.start()
    database = repository._database
    assert database._replica is not None
    await eventually(database._replica.usable)
    assert await listed(repository, tenant) == 1


async def test_a_primary_is_not_taken_for_a_replica(primary: PostgresServer) -> None:
    url = primary.url("postroom")
    database = open_database(url, replica=ReplicaUrl(url=url, max_staleness_seconds=STALENESS_SECONDS))
    assert database._replica is not None
    await database._replica._probe()
    assert not database._replica.usable()
    await database.close()
