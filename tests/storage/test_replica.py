"""Lists served by a streaming replica, and by the primary whenever the replica is stale or unavailable."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from postroomd.domain.context import Consistency
from postroomd.domain.queries import DomainQuery, Ordering
from postroomd.storage.migrations import migrate
from postroomd.storage.opening import ReplicaUrl, open_database
from postroomd.storage.sql import SqlRepository
from tests.support.factories import Tenant, new_domain, new_id, new_tenant
from tests.support.postgres import FAST, running_server
from tests.support.waiting import wait_until
from tools.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgresql")

STALENESS_SECONDS = 300.0
"""Longer than any test takes: a list that the replica may serve comes from it."""
FIRST_PAGE = DomainQuery(ordering=Ordering(field="name", descending=False), page=1, page_size=50)


def new_name() -> str:
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
    await wait_until(database._replica.usable)
    yield opened
    await opened.close()


async def list_count(
    repository: SqlRepository, tenant: Tenant, consistency: Consistency = Consistency.BOUNDED_STALENESS
) -> int:
    context = replace(tenant.context, consistency=consistency)
    return (await repository.domains.list(context, FIRST_PAGE)).total_count


async def wait_for_count(repository: SqlRepository, tenant: Tenant, count: int) -> None:
    async def is_reached() -> bool:
        return await list_count(repository, tenant) == count

    await wait_until(is_reached)


async def test_lists_come_from_the_replica(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    await new_domain(repository, tenant, new_name())
    await wait_for_count(repository, tenant, 1)
    # While replay is paused, a row that the replica lacks shows which server the list comes from.
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, new_name())
    assert await list_count(repository, tenant) == 1


async def test_a_caller_can_require_a_strongly_consistent_list(
    repository: SqlRepository, replica: PostgresServer
) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, new_name())
    assert await list_count(repository, tenant, Consistency.STRONG) == 1
    assert await list_count(repository, tenant) == 0


async def test_single_reads_always_come_from_the_primary(repository: SqlRepository, replica: PostgresServer) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    domain = await new_domain(repository, tenant, new_name())
    assert (await repository.domains.get(tenant.context, domain.id)).id == domain.id


async def test_a_replica_that_exceeds_the_staleness_bound_is_not_used(
    repository: SqlRepository, replica: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await new_tenant(repository)
    replica.sql("SELECT pg_wal_replay_pause()")
    await new_domain(repository, tenant, new_name())
    assert await list_count(repository, tenant) == 0
    monkeypatch.setattr(repository._database._replica, "_max_staleness", 0.5)
    await wait_for_count(repository, tenant, 1)  # from the primary, once the bound is exceeded
    replica.sql("SELECT pg_wal_replay_resume()")


async def test_lists_fall_back_to_the_primary_until_a_lost_replica_returns(
    repository: SqlRepository, replica: PostgresServer
) -> None:
    tenant = await new_tenant(repository)
    await new_domain(repository, tenant, new_name())
    await wait_for_count(repository, tenant, 1)
    replica.kill()
    for _ in range(20):
        assert await list_count(repository, tenant) == 1
    replica.start()
    database = repository._database
    assert database._replica is not None
    await wait_until(database._replica.usable)
    assert await list_count(repository, tenant) == 1


async def test_a_primary_is_never_used_as_a_replica(primary: PostgresServer) -> None:
    url = primary.url("postroom")
    database = open_database(url, replica=ReplicaUrl(url=url, max_staleness_seconds=STALENESS_SECONDS))
    assert database._replica is not None
    await database._replica._probe()
    assert not database._replica.usable()
    await database.close()
