"""Hot statements: they answer what the same statements answer over SQLAlchemy, and fail, wait and end as safely."""

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
from postroomd.storage.drivers.pools import ExclusivePool, PooledConnection
from postroomd.storage.opening import open_database
from postroomd.storage.sql import SqlRepository
from postroomd.storage.sql.mailboxes import fetch_mailbox
from postroomd.storage.sql.rows import reached, values_of
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
from tests.support.stored import eventually
from tests.support.strategies import INSTANTS, MAILBOXES, listed

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
    found = select(*columns).where(t.mailboxes.c.id == bindparam("id"), *reached(t.mailboxes, limited=limited))
    return CompiledRead(found, by_key=True)


ALL = MailboxQuery(ordering=Ordering(field="created_at", descending=True), page=1, page_size=10)
STATEMENTS = {limited: mailbox_statement(limited=limited) for limited in (False, True)}


def as_values(rows: Rows) -> list[list[Any]]:
    return [list(row) for row in rows]


def kinds(rows: Sequence[Sequence[Any]]) -> list[list[type]]:
    return [[type(value) for value in row] for row in rows]


# --- The same answers -------------------------------------------------------------------------------------------------


@READS
@given(mailbox=MAILBOXES)
async def test_any_mailbox_reads_the_same_hot_and_plain_for_whoever_asks(
    mailbox: Mailbox, database: Database, repository: SqlRepository
) -> None:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    neighbor = await new_neighbor(repository, tenant)
    within = await new_domain(repository, tenant, f"{new_id()}.test")
    stored = replace(
        mailbox,
        id=new_id(),
        organization_id=tenant.organization.id,
        project_id=tenant.project.id,
        domain_id=within.id,
        provision_id=None if mailbox.provision_id is None else new_id(),
    )

    async def store(connection: AsyncConnection) -> None:
        row = values_of(stored) | {"password_hash": "none", "due_at": None}
        await connection.execute(insert(t.mailboxes).values(row))

    await database.write(store)
    foreign = tenant_context(organization_id=other.organization.id, project_id=tenant.project.id)
    seeing = (tenant.context, tenant.project_context)
    for context in (*seeing, neighbor.project_context, other.context, other.project_context, foreign):
        statement = STATEMENTS[context.scope.project_id is not None]
        for asked in (stored.id, new_id()):
            values = {
                "organization_id": context.scope.organization_id,
                "project_id": context.scope.project_id,
                "id": asked,
            }

            async def plain(connection: AsyncConnection, values: Any = values, one: Any = statement) -> Rows:
                return await via_sqlalchemy(connection, one, values)

            hot = await database.fetch(statement, {"id": asked}, context)
            expected = as_values(await database.read(plain, context))
            assert (as_values(hot), kinds(hot)) == (expected, kinds(expected))
            visible = asked == stored.id and context in seeing
            assert len(hot) == visible
            if visible:
                assert await repository.mailboxes.get(context, asked) == stored
                assert await repository.mailboxes.view(context, asked) == listed(stored)
                assert (await repository.mailboxes.list(context, ALL)).items == [stored]
                assert (await repository.mailboxes.list_views(context, ALL)).items == [listed(stored)]
                assert await database.read(lambda c, s=context: fetch_mailbox(c, s.scope, stored.id), context) == stored  # type: ignore[misc]
            else:
                for read in (repository.mailboxes.get, repository.mailboxes.view):
                    with pytest.raises(NotFound):
                        await read(context, asked)


@READS
@given(
    limited=st.booleans(),
    expires_at=st.none() | INSTANTS,
    revoked_at=st.none() | INSTANTS,
    rest=st.binary(min_size=24, max_size=24),
)
async def test_any_api_key_is_found_by_the_whole_of_its_digest(
    limited: bool, expires_at: datetime | None, revoked_at: datetime | None, rest: bytes, repository: SqlRepository
) -> None:
    tenant = await new_tenant(repository)
    secret = digest(new_id())
    key = replace(api_key(tenant, limited=limited), expires_at=expires_at, revoked_at=revoked_at)
    await repository.tenancy.create_key(key, secret)
    alike = secret[:8] + rest  # another digest, of the same prefix
    assert await repository.tenancy.find_key(alike) is None
    await repository.tenancy.create_key(api_key(tenant), alike)
    assert await repository.tenancy.find_key(secret) == key
    assert await repository.tenancy.find_key(digest(new_id())) is None


async def test_a_page_with_a_limit_and_an_order_reads_the_same(database: Database, repository: SqlRepository) -> None:
    tenant = await new_tenant(repository)
    within = await new_domain(repository, tenant)
    await new_mailboxes(repository, within, *(f"m{number}" for number in range(20)))
    order = t.mailboxes.c.email.desc()
    listing = select(t.mailboxes.c.email).where(*reached(t.mailboxes, limited=True)).order_by(order)
    page = CompiledRead(listing.limit(bindparam("size", type_=Integer)).offset(bindparam("skip", type_=Integer)))
    values = {"size": 5, "skip": 3}
    hot = await database.fetch(page, values, tenant.project_context)
    scope = {"organization_id": tenant.organization.id, "project_id": tenant.project.id}
    expected = await database.read(lambda c: via_sqlalchemy(c, page, values | scope), tenant.project_context)
    assert as_values(hot) == as_values(expected)
    assert len(hot) == 5


async def test_a_statement_whose_sql_depends_on_its_values_is_refused(database: Database) -> None:
    several = CompiledRead(select(t.mailboxes.c.id).where(t.mailboxes.c.id.in_(bindparam("ids", expanding=True))))
    with pytest.raises(ValueError, match="one SQL"):
        await database.fetch(several, {"ids": [new_id()]})


async def test_a_value_that_is_missing_is_an_error(database: Database, repository: SqlRepository) -> None:
    tenant = await new_tenant(repository)
    with pytest.raises(KeyError, match="id"):
        await database.fetch(STATEMENTS[False], {}, tenant.context)


# --- Kept inside an organization --------------------------------------------------------------------------------------


async def two_domains(repository: SqlRepository) -> tuple[Tenant, Domain, Domain]:
    tenant, other = await new_tenant(repository), await new_tenant(repository)
    return tenant, await new_domain(repository, tenant, "own.test"), await new_domain(repository, other, "other.test")


FORGETFUL = CompiledRead(select(t.domains.c.id).where(literal(1) == bindparam("one", type_=Integer)))


@pytest.fixture
async def on_postgresql(postgresql_store: str) -> AsyncIterator[Database]:
    database = open_database(postgresql_store, pool_size=3)
    yield database
    await database.close()


@pytest.mark.xdist_group("postgresql")
async def test_a_tenants_statement_that_forgets_its_scope_finds_nothing_of_others(on_postgresql: Database) -> None:
    tenant, own, other = await two_domains(SqlRepository(on_postgresql))
    assert as_values(await on_postgresql.fetch(FORGETFUL, {"one": 1}, tenant.context)) == [[own.id]]
    # Our own statements see all: what keeps a tenant's inside is its connection.
    assert {row[0] for row in await on_postgresql.fetch(FORGETFUL, {"one": 1})} == {own.id, other.id}


@pytest.mark.xdist_group("postgresql")
async def test_a_tenants_connection_sees_nothing_between_statements(on_postgresql: Database) -> None:
    tenant, own, _ = await two_domains(SqlRepository(on_postgresql))
    compiled = on_postgresql._engines.compiled
    assert compiled is not None
    unwrapped = FORGETFUL.compiled(compiled.dialect, None)
    for _ in range(8):  # past the point from which PostgreSQL keeps one plan
        assert as_values(await on_postgresql.fetch(FORGETFUL, {"one": 1}, tenant.context)) == [[own.id]]
        assert await compiled.tenant.by_key.fetch(unwrapped.sql, unwrapped.arguments({"one": 1})) == []
    (row,) = await compiled.tenant.by_key.fetch("SELECT current_user, current_setting('postroom.organization_id')", [])
    assert list(row) == [postgresql.TENANT_ROLE, ""]


@pytest.mark.xdist_group("postgresql")
async def test_behind_a_pooler_statements_run_plainly(postgresql_store: str) -> None:
    database = open_database(f"{postgresql_store}?prepared_statement_cache_size=0")
    assert database._engines.compiled is None
    tenant, own, _ = await two_domains(SqlRepository(database))
    assert await SqlRepository(database).domains.get(tenant.context, own.id) == own
    assert as_values(await database.fetch(FORGETFUL, {"one": 1}, tenant.context)) == [[own.id]]
    await database.close()


# --- Failing, waiting and ending --------------------------------------------------------------------------------------

SLEEPING = CompiledRead(select(func.pg_sleep(bindparam("seconds"))))


@pytest.mark.xdist_group("postgresql")
async def test_a_connection_that_is_lost_in_a_statement_is_out_of_reach_and_replaced(
    on_postgresql: Database, raw_postgresql: AsyncEngine
) -> None:
    repository = SqlRepository(on_postgresql)
    tenant, own, _ = await two_domains(repository)
    sleeping = asyncio.create_task(on_postgresql.fetch(SLEEPING, {"seconds": 60}, tenant.context))
    await end_all(raw_postgresql, "state = 'active' AND query LIKE '%pg_sleep%'")
    with pytest.raises(StorageUnavailable):
        await sleeping
    assert await repository.domains.get(tenant.context, own.id) == own
    # One that was lost while nothing ran on it is not even noticed.
    await end_all(raw_postgresql, "true")
    compiled = on_postgresql._engines.compiled
    assert compiled is not None
    await eventually(lambda: all(line.is_closed() for line in compiled.tenant.by_key._idle))  # type: ignore[attr-defined]
    assert await repository.domains.get(tenant.context, own.id) == own


@pytest.fixture
async def raw_postgresql(postgresql_store: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgresql_store)
    yield engine
    await engine.dispose()


async def end_all(raw: AsyncEngine, which: str) -> None:
    """End the sessions of the database that match, of which there is one at least."""
    others = "pid <> pg_backend_pid() AND datname = current_database()"

    async def ended() -> bool:
        async with raw.connect() as connection:
            ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others} AND {which}"
            return bool((await connection.execute(text(ending))).all())

    await eventually(ended)


@pytest.mark.xdist_group("postgresql")
async def test_when_every_line_stays_taken_the_database_is_out_of_reach(
    postgresql_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "POOL_TIMEOUT_SECONDS", 0.05)
    database = open_database(postgresql_store, pool_size=3)  # one line for tenants
    repository = SqlRepository(database)
    tenant, own, _ = await two_domains(repository)
    assert await repository.domains.get(tenant.context, own.id) == own
    sleeping = asyncio.create_task(database.fetch(SLEEPING, {"seconds": 60}, tenant.context))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable):
        await repository.domains.get(tenant.context, own.id)
    sleeping.cancel()
    assert await asyncio.gather(sleeping, return_exceptions=True)
    assert await repository.domains.get(tenant.context, own.id) == own
    await database.close()


async def test_callers_that_hang_up_at_any_time_leave_others_their_own_answers(
    repository: SqlRepository, database: Database
) -> None:
    tenant = await new_tenant(repository)
    within = await new_domain(repository, tenant)
    mailboxes = await new_mailboxes(repository, within, *(f"m{number}" for number in range(10)))
    chance = random.Random(7)
    cancelled = 0
    for _ in range(40):
        asked = [chance.choice(mailboxes) for _ in range(20)]
        calls = [asyncio.create_task(repository.mailboxes.get(tenant.context, one.id)) for one in asked]
        for call in chance.sample(calls, 10):
            await asyncio.sleep(chance.choice([0, 0, 0.0002, 0.001]))
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for one, answer in zip(asked, answers, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                cancelled += 1
            else:
                assert answer == one
    assert cancelled
    assert [await repository.mailboxes.get(tenant.context, one.id) for one in mailboxes] == list(mailboxes)


async def test_a_database_is_closed_under_calls_and_opened_again_by_the_next(
    database: Database, repository: SqlRepository
) -> None:
    tenant, own, _ = await two_domains(repository)
    calls = [asyncio.create_task(repository.domains.get(tenant.context, own.id)) for _ in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*calls) == [own] * 20
    assert await repository.domains.get(tenant.context, own.id) == own


class Held:
    """A line whose statements end when they are told to."""

    def __init__(self) -> None:
        self.running = 0
        self.ended = asyncio.Event()

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        self.running += 1
        assert self.running == 1, "two statements at a time"
        try:
            await self.ended.wait()
        finally:
            self.running -= 1
        return [[sql]]

    def is_closed(self) -> bool:
        return False

    async def close(self) -> None:
        assert self.running == 0


async def test_a_line_that_comes_free_as_its_caller_hangs_up_goes_to_the_next() -> None:
    line = Held()

    async def connect() -> PooledConnection:
        return line

    lines = ExclusivePool(connect, 1, timeout_seconds=5)

    async def hold_then_cancel() -> Rows:
        rows = await lines.fetch("first", [])
        assert second.cancel()  # which has been given the line, and has not run since
        return rows

    first = asyncio.create_task(hold_then_cancel())
    second, third = (asyncio.create_task(lines.fetch(name, [])) for name in ("second", "third"))
    await asyncio.sleep(0)
    line.ended.set()
    assert await first == [["first"]]
    assert await third == [["third"]]
    with pytest.raises(asyncio.CancelledError):
        await second
    await lines.close()


async def test_a_line_that_can_not_be_opened_leaves_its_turn_to_the_next() -> None:
    async def connect() -> PooledConnection:
        raise ConnectionRefusedError

    lines = ExclusivePool(connect, 1, timeout_seconds=5)
    for _ in range(3):
        answers = await asyncio.gather(*(lines.fetch("", []) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionRefusedError] * 3
    await lines.close()
