"""A PostgreSQL dump restored into a fresh cluster, and every part that isolates tenants, missing by itself."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from postroomd.domain.errors import SchemaMismatch, StorageUnavailable
from postroomd.domain.queries import DomainQuery, MailboxQuery, Ordering
from postroomd.storage.migrations import migrate, require_current
from postroomd.storage.opening import open_repository
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.schema import TENANT_TABLE_NAMES
from tests.support.databases import NewDatabase
from tests.support.factories import Tenant, new_domain, new_mailboxes, new_tenant
from tests.support.postgres import FAST, running_server
from tools.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgresql")

ROLE = "postroom_tenant"
BY_CREATION = Ordering(field="created_at", descending=False)


@pytest.fixture(scope="module")
def fresh() -> Iterator[PostgresServer]:
    """A cluster in which Postroom has never run."""
    with running_server(settings=FAST) as server:
        yield server


@pytest.fixture
async def filled(new_postgres_database: NewDatabase) -> tuple[str, Sequence[Tenant]]:
    """The URL of a database with two tenants, who have a domain with two mailboxes each."""
    url = await asyncio.to_thread(new_postgres_database)
    repository = await open_repository(url)
    tenants = []
    for name in ("one.test", "two.test"):
        tenants.append(await new_tenant(repository))
        await new_mailboxes(repository, await new_domain(repository, tenants[-1], name), "ann", "bob")
    await repository.close()
    return url, tenants


async def listed(repository: Repository, tenant: Tenant) -> tuple[list[str], list[str], int]:
    """Return the domains, the found mailboxes and the total count that a tenant's lists have."""
    domains = await repository.domains.list(tenant.context, DomainQuery(ordering=BY_CREATION, page=1, page_size=10))
    found = await repository.mailboxes.list(
        tenant.context, MailboxQuery(ordering=BY_CREATION, page=1, page_size=10, search="ann@")
    )
    everything = await repository.mailboxes.list(
        tenant.context, MailboxQuery(ordering=BY_CREATION, page=1, page_size=10)
    )
    return [domain.name for domain in domains.items], [each.email for each in found.items], everything.total_count


@pytest.mark.parametrize("options", [(), ("--no-owner", "--no-privileges")], ids=["plain", "without privileges"])
async def test_a_restored_dump_is_explained_and_repaired_by_a_migration(
    postgres: PostgresServer,
    fresh: PostgresServer,
    filled: tuple[str, Sequence[Tenant]],
    options: tuple[str, ...],
) -> None:
    source, tenants = filled
    database = f"restored_{len(options)}"
    dump = await asyncio.to_thread(postgres.dump, source.rpartition("/")[2], *options)
    await asyncio.to_thread(fresh.sql, f"CREATE DATABASE {database}")
    errors = await asyncio.to_thread(fresh.restore, dump, database)
    url = fresh.url(database)
    await asyncio.to_thread(require_current, url)  # the schema is at the head: this alone would start
    repository = await open_repository(url)
    try:
        faults = "; ".join(await repository.faults())
        if f'role "{ROLE}" does not exist' in errors:
            assert f"the role {ROLE} does not exist" in faults
            with pytest.raises(StorageUnavailable) as refused:
                await listed(repository, tenants[0])
            assert "does not exist" in str(refused.value.__cause__)
        assert "the row-level security policy of projects, domains" in faults
        await asyncio.to_thread(migrate, url)
        assert await repository.faults() == []
    finally:
        await repository.close()
    repository = await open_repository(url)
    assert await listed(repository, tenants[0]) == (["one.test"], ["ann@one.test"], 2)
    assert await listed(repository, tenants[1]) == (["two.test"], ["ann@two.test"], 2)
    await repository.close()
    await asyncio.to_thread(migrate, url)  # a second one finds nothing to do
    await asyncio.to_thread(fresh.sql, f"DROP DATABASE {database}")
    await asyncio.to_thread(fresh.sql, f"DROP ROLE {ROLE}")


BROKEN = {
    "grant": (f"REVOKE UPDATE ON mailboxes FROM {ROLE}", f"the role {ROLE} lacks grants on mailboxes"),
    "view": (f"REVOKE SELECT ON search_domains FROM {ROLE}", f"the role {ROLE} lacks grants on search_domains"),
    "security": (
        "ALTER TABLE aliases DISABLE ROW LEVEL SECURITY",
        "row-level security is disabled on aliases",
    ),
    "policy": ("DROP POLICY tenant ON payments", "the row-level security policy of payments is missing"),
    "open policy": (
        "ALTER POLICY tenant ON payments USING (true)",
        "the row-level security policy of payments is missing",
    ),
    "policy for another role": (
        "ALTER POLICY tenant ON payments TO pg_monitor",
        "the row-level security policy of payments is missing",
    ),
    "function": (
        "DROP FUNCTION search_terms CASCADE",
        "the function search_terms(uuid, text) is missing;"
        " the index search_mailboxes_email, search_mailboxes_folded_name, search_domains_name is missing",
    ),
    "execution": (
        "REVOKE EXECUTE ON FUNCTION search_terms FROM PUBLIC",
        f"the role {ROLE} may not execute search_terms(uuid, text)",
    ),
    "index": ("DROP INDEX search_domains_name", "the index search_domains_name is missing"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_each_missing_part_is_named_and_repaired(
    postgres: PostgresServer, filled: tuple[str, Sequence[Tenant]], broken: str
) -> None:
    url, tenants = filled
    statement, fault = BROKEN[broken]
    repository = await open_repository(url)
    try:
        assert await repository.faults() == []
        await asyncio.to_thread(postgres.sql, statement, url.rpartition("/")[2])
        assert "; ".join(await repository.faults()) == fault
        await asyncio.to_thread(migrate, url)
        assert await repository.faults() == []
        assert await listed(repository, tenants[1]) == (["two.test"], ["ann@two.test"], 2)
    finally:
        await repository.close()


async def test_a_user_that_does_not_see_every_row_is_refused_at_the_start(
    postgres: PostgresServer, filled: tuple[str, Sequence[Tenant]]
) -> None:
    # Its worker would find nothing to do, and its service no project.
    url, _ = filled
    database = url.rpartition("/")[2]
    user = f"reader_{database}"
    await asyncio.to_thread(postgres.sql, f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    await asyncio.to_thread(postgres.sql, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}", database)
    with pytest.raises(SchemaMismatch, match="does not see every row of projects"):
        await asyncio.to_thread(require_current, f"postgresql+asyncpg://{user}:x@127.0.0.1:{postgres.port}/{database}")


async def test_a_user_that_may_not_create_the_role_learns_who_can(fresh: PostgresServer) -> None:
    await asyncio.to_thread(fresh.sql, "CREATE ROLE plain LOGIN PASSWORD 'x'")
    await asyncio.to_thread(fresh.sql, "CREATE DATABASE plain OWNER plain")
    with pytest.raises(SchemaMismatch, match=f"CREATE ROLE {ROLE} NOLOGIN"):
        await asyncio.to_thread(migrate, f"postgresql+asyncpg://plain:x@127.0.0.1:{fresh.port}/plain")


async def test_a_migrated_database_isolates_every_table_of_tenants(filled: tuple[str, Sequence[Tenant]]) -> None:
    url, _ = filled
    repository = await open_repository(url)
    assert await repository.faults() == []
    await repository.close()
    assert {"domains", "mailboxes", "idempotency_keys"} <= set(TENANT_TABLE_NAMES)
