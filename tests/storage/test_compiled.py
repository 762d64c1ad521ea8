"""Compiled reads: equal results to SQLAlchemy's, tenant isolation, and failures, timeouts and cancellation."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Integer, bindparam, func, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from postroomd.domain.errors import NotFound, StorageUnavailable
from postroomd.domain.model import Domain, Mailbox
from postroomd.domain.queries import MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Rows, via_sqlalchemy
from postroomd.storage.database import Database
from postroomd.storage.drivers import postgresql
from postroomd.storage.drivers.postgresql_isolation import TENANT_ROLE
from postroomd.storage.drivers.postgresql_pool import Connection, ExclusivePool
from postroomd.storage.opening import open_database
from postroomd.storage.sql import SqlRepository
from postroomd.storage.sql.mailboxes import fetch_mailbox
from postroomd.storage.sql.rows import bound_scope_filter, to_row
from tests.support.factories import (
    Tenant,
    api_key,
    digest,
    new_domain,
    new_id,
    new_mailboxes,
    new_neighbor,
    new_tenant,
    tenant_context,
)
from tests.support.strategies import INSTANTS, MAILBOXES, view_of
from tests.support.waiting import wait_until

READS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def database(clean_store: str) -> AsyncIterator[Database]:
    opened = open_database(clean_store)
    yield opened
    await opened.close()


@pytest.fixture
def repository(database: Database) -> SqlRepository:
    return SqlRepository(database)


def mailbox_statement(*, limited: bool) -> CompiledRead:
    columns = [t.mailboxes.c[name] for name in get_type_hints(Mailbox)]
    query = select(*columns).where(
        t.mailboxes.c.id == bindparam("id"), *bound_scope_filter(t.mailboxes, by_project=limited)
    )
    return CompiledRead(query, by_key=True)


ALL = MailboxQuery(ordering=Ordering(field="created_at", descending=True), page=1, page_size=10)
STATEMENTS = {limited: mailbox_statement(limited=limited) for limited in (False, True)}


def as_values(rows: Rows) -> list[list[Any]]:
    return [list(row) for row in rows]


def types_of(rows: Sequence[Sequence[Any]]) -> list[list[type]]:
    return [[type(value) for value in row] for row in rows]


# --- Equal results ----------------------------------------------------------------------------------------------------


@READS
@given(mailbox=MAILBOXES)
async def test_any_mailbox_reads_the_same_both_ways_for_any_caller(
    mailbox: Mailbox, database: Database, repository: SqlRepository
) -> None:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    neighbor = await new_neighbor(repository, tenant)
    parent = await new_domain(repository, tenant, f"{new_id()}.test")
    stored = replace(
        mailbox,
        id=new_id(),
        organization_id=tenant.organization.id,
        project_id=tenant.project.id,
        domain_id=parent.id,
        provision_id=None if mailbox.provision_id is None else new_id(),
    )

    async def store(connection: AsyncConnection) -> None:
        row = to_row(stored) | {"password_hash": "none", "due_at": None}
        await connection.execute(insert(t.mailboxes).values(row))

    await database.write(store)
    foreign = tenant_context(organization_id=other.organization.id, project_id=tenant.project.id)
    permitted = (tenant.context, tenant.project_context)
    for context in (*permitted, neighbor.project_context, other.context, other.project_context, foreign):
        statement = STATEMENTS[context.scope.project_id is not None]
        for mailbox_id in (stored.id, new_id()):
            values = {
                "organization_id": context.scope.organization_id,
                "project_id": context.scope.project_id,
                "id": mailbox_id,
            }

            async def read(connection: AsyncConnection, values: Any = values, statement: Any = statement) -> Rows:
                return await via_sqlalchemy(connection, statement, values)

            rows = await database.fetch(statement, {"id": mailbox_id}, context)
            expected = as_values(await database.read(read, context))
            assert (as_values(rows), types_of(rows)) == (expected, types_of(expected))
            visible = mailbox_id == stored.id and context in permitted
            assert len(rows) == visible
            if visible:
                assert await repository.mailboxes.get(context, mailbox_id) == stored
                assert await repository.mailboxes.view(context, mailbox_id) == view_of(stored)
                assert (await repository.mailboxes.list(context, ALL)).items == [view_of(stored)]
                assert await database.read(lambda c, s=context: fetch_mailbox(c, s.scope, stored.id), context) == stored  # type: ignore[misc]
            else:
                for method in (repository.mailboxes.get, repository.mailboxes.view):
                    with pytest.raises(NotFound):
                        await method(context, mailbox_id)


@READS
@given(
    limited=st.booleans(),
    expires_at=st.none() | INSTANTS,
    revoked_at=st.none() | INSTANTS,
    rest=st.binary(min_size=24, max_size=24),
)
async def test_any_api_key_is_found_by_its_whole_digest(
    limited: bool, expires_at: datetime | None, revoked_at: datetime | None, rest: bytes, repository: SqlRepository
) -> None:
    tenant = await new_tenant(repository)
    secret = digest(new_id())
    key = replace(api_key(tenant, limited=limited), expires_at=expires_at, revoked_at=revoked_at)
    await repository.tenancy.create_key(key, secret)
    same_prefix = secret[:8] + rest
    assert await repository.tenancy.find_key(same_prefix) is None
    await repository.tenancy.create_key(api_key(tenant), same_prefix)
    assert await repository.tenancy.find_key(secret) == key
    assert await repository.tenancy.find_key(digest(new_id())) is None


async def test_an_ordered_page_reads_the_same_both_ways(database: Database, repository: SqlRepository) -> None:
    tenant = await new_tenant(repository)
    parent = await new_domain(repository, tenant)
    await new_mailboxes(repository, parent, *(f"m{number}" for number in range(20)))
    order = t.mailboxes.c.email.desc()
    query = select(t.mailboxes.c.email).where(*bound_scope_filter(t.mailboxes, by_project=True)).order_by(order)
    page = CompiledRead(query.limit(bindparam("size", type_=Integer)).offset(bindparam("skip", type_=Integer)))
    values = {"size": 5, "skip": 3}
    rows = await database.fetch(page, values, tenant.project_context)
    scope = {"organization_id": tenant.organization.id, "project_id": tenant.project.id}
    expected = await database.read(lambda c: via_sqlalchemy(c, page, values | scope), tenant.project_context)
    assert as_values(rows) == as_values(expected)
    assert len(rows) == 5


async def test_a_statement_whose_sql_depends_on_its_values_is_rejected(database: Database) -> None:
    several = CompiledRead(select(t.mailboxes.c.id).where(t.mailboxes.c.id.in_(bindparam("ids", expanding=True))))
    with pytest.raises(ValueError, match="one SQL"):
        await database.fetch(several, {"ids": [new_id()]})


async def test_a_missing_value_is_an_error(database: Database, repository: SqlRepository) -> None:
    tenant = await new_tenant(repository)
    with pytest.raises(KeyError, match="id"):
        await database.fetch(STATEMENTS[False], {}, tenant.context)


# --- Tenant isolation -------------------------------------------------------------------------------------------------


async def two_domains(repository: SqlRepository) -> tuple[Tenant, Domain, Domain]:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    return tenant, await new_domain(repository, tenant, "own.test"), await new_domain(repository, other, "other.test")


UNSCOPED = CompiledRead(select(t.domains.c.id).where(literal(1) == bindparam("one", type_=Integer)))


@pytest.fixture
async def on_postgresql(postgresql_store: str) -> AsyncIterator[Database]:
    database = open_database(postgresql_store, pool_size=3)
    yield database
    await database.close()


@pytest.mark.xdist_group("postgresql")
async def test_a_tenants_unscoped_statement_finds_the_tenants_rows_only(on_postgresql: Database) -> None:
    tenant, own, other = await two_domains(SqlRepository(on_postgresql))
    assert as_values(await on_postgresql.fetch(UNSCOPED, {"one": 1}, tenant.context)) == [[own.id]]
    # Without a tenant the same statement finds all rows: the tenant's connection isolates.
    assert {row[0] for row in await on_postgresql.fetch(UNSCOPED, {"one": 1})} == {own.id, other.id}


@pytest.mark.xdist_group("postgresql")
async def test_a_tenants_connection_sees_nothing_between_statements(on_postgresql: Database) -> None:
    tenant, own, _ = await two_domains(SqlRepository(on_postgresql))
    compiled = on_postgresql._engines.compiled
    assert compiled is not None
    unwrapped = UNSCOPED.compiled(compiled.dialect, None)
    for _ in range(8):  # past the point from which PostgreSQL keeps one plan
        assert as_values(await on_postgresql.fetch(UNSCOPED, {"one": 1}, tenant.context)) == [[own.id]]
        assert await compiled.tenant.by_key.fetch(unwrapped.sql, unwrapped.arguments({"one": 1})) == []
    (row,) = await compiled.tenant.by_key.fetch("SELECT current_user, current_setting('postroom.organization_id')", [])
    assert list(row) == [TENANT_ROLE, ""]


@pytest.mark.xdist_group("postgresql")
async def test_behind_a_pooler_statements_run_over_sqlalchemy(postgresql_store: str) -> None:
    database = open_database(f"{postgresql_store}?prepared_statement_cache_size=0")
    assert database._engines.compiled is None
    tenant, own, _ = await two_domains(SqlRepository(database))
    assert await SqlRepository(database).domains.get(tenant.context, own.id) == own
    assert as_values(await database.fetch(UNSCOPED, {"one": 1}, tenant.context)) == [[own.id]]
    await database.close()


# --- Failures, timeouts and cancellation ------------------------------------------------------------------------------

SLEEP = CompiledRead(select(func.pg_sleep(bindparam("seconds"))))


@pytest.mark.xdist_group("postgresql")
async def test_a_connection_lost_in_a_statement_is_unavailable_and_replaced(
    on_postgresql: Database, raw_postgresql: AsyncEngine
) -> None:
    repository = SqlRepository(on_postgresql)
    tenant, own, _ = await two_domains(repository)
    sleeping = asyncio.create_task(on_postgresql.fetch(SLEEP, {"seconds": 60}, tenant.context))
    await terminate(raw_postgresql, "state = 'active' AND query LIKE '%pg_sleep%'")
    with pytest.raises(StorageUnavailable):
        await sleeping
    assert await repository.domains.get(tenant.context, own.id) == own
    # The loss of an idle connection has no effect.
    await terminate(raw_postgresql, "true")
    compiled = on_postgresql._engines.compiled
    assert compiled is not None
    pool = compiled.tenant.by_key
    assert isinstance(pool, ExclusivePool)
    await wait_until(lambda: all(each.is_closed() for each in pool._idle))
    assert await repository.domains.get(tenant.context, own.id) == own


@pytest.fixture
async def raw_postgresql(postgresql_store: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgresql_store)
    yield engine
    await engine.dispose()


async def terminate(raw: AsyncEngine, condition: str) -> None:
    """Terminate the other sessions of the database that meet a condition, once there is at least one."""
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    query = text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others} AND {condition}")

    async def terminated() -> bool:
        async with raw.connect() as connection:
            return bool((await connection.execute(query)).all())

    await wait_until(terminated)


@pytest.mark.xdist_group("postgresql")
async def test_an_exhausted_pool_makes_the_database_unavailable(
    postgresql_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "POOL_TIMEOUT_SECONDS", 0.05)
    database = open_database(postgresql_store, pool_size=3)  # one connection for tenants
    repository = SqlRepository(database)
    tenant, own, _ = await two_domains(repository)
    assert await repository.domains.get(tenant.context, own.id) == own
    sleeping = asyncio.create_task(database.fetch(SLEEP, {"seconds": 60}, tenant.context))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable):
        await repository.domains.get(tenant.context, own.id)
    sleeping.cancel()
    assert await asyncio.gather(sleeping, return_exceptions=True)
    assert await repository.domains.get(tenant.context, own.id) == own
    await database.close()


async def test_cancelled_callers_leave_others_their_own_results(repository: SqlRepository, database: Database) -> None:
    tenant = await new_tenant(repository)
    parent = await new_domain(repository, tenant)
    mailboxes = await new_mailboxes(repository, parent, *(f"m{number}" for number in range(10)))
    chance = random.Random(7)
    cancelled = 0
    for _ in range(40):
        wanted = [chance.choice(mailboxes) for _ in range(20)]
        calls = [asyncio.create_task(repository.mailboxes.get(tenant.context, each.id)) for each in wanted]
        for call in chance.sample(calls, 10):
            await asyncio.sleep(chance.choice([0, 0, 0.0002, 0.001]))
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for mailbox, result in zip(wanted, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                cancelled += 1
            else:
                assert result == mailbox
    assert cancelled
    assert [await repository.mailboxes.get(tenant.context, each.id) for each in mailboxes] == list(mailboxes)


async def test_closing_waits_for_running_calls_and_the_next_call_reopens(
    database: Database, repository: SqlRepository
) -> None:
    tenant, own, _ = await two_domains(repository)
    calls = [asyncio.create_task(repository.domains.get(tenant.context, own.id)) for _ in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*calls) == [own] * 20
    assert await repository.domains.get(tenant.context, own.id) == own


class BlockingConnection:
    """A connection whose statements end once an event is set."""

    def __init__(self) -> None:
        self.running = 0
        self.released = asyncio.Event()

    async def fetch(self, query: str, *arguments: Any) -> Rows:
        self.running += 1
        assert self.running == 1, "two statements at a time"
        try:
            await self.released.wait()
        finally:
            self.running -= 1
        return [[query]]

    def is_closed(self) -> bool:
        return False

    async def close(self) -> None:
        assert self.running == 0


async def test_a_connection_handed_to_a_cancelled_caller_goes_to_the_next() -> None:
    connection = BlockingConnection()

    async def connect() -> Connection:
        return connection

    pool = ExclusivePool(connect, 1, timeout_seconds=5)

    async def hold_then_cancel() -> Rows:
        rows = await pool.fetch("first", [])
        assert second.cancel()  # which has been handed the connection, and has not run since
        return rows

    first = asyncio.create_task(hold_then_cancel())
    second, third = (asyncio.create_task(pool.fetch(name, [])) for name in ("second", "third"))
    await asyncio.sleep(0)
    connection.released.set()
    assert await first == [["first"]]
    assert await third == [["third"]]
    with pytest.raises(asyncio.CancelledError):
        await second
    await pool.close()


async def test_a_failed_connection_attempt_frees_its_place_in_the_pool() -> None:
    async def connect() -> Connection:
        raise ConnectionRefusedError

    pool = ExclusivePool(connect, 1, timeout_seconds=5)
    for _ in range(3):
        errors = await asyncio.gather(*(pool.fetch("", []) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in errors] == [ConnectionRefusedError] * 3
    await pool.close()
