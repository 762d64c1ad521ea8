"""Promises of PostgreSQL only: tenants isolated by the server itself, and serializable transactions."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic

import pytest
import structlog
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from postroomd.domain.context import CallContext
from postroomd.domain.domains import delete_domain
from postroomd.domain.errors import Conflict, PreconditionFailed, QuotaExceeded
from postroomd.domain.forwardings import change_settings
from postroomd.domain.mailboxes import delete_mailbox
from postroomd.domain.model import DomainStatus, MailboxStatus
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.opening import open_database
from postroomd.storage.sql import SqlRepository
from postroomd.worker.steps import Worker
from tests.support.databases import NewDatabase
from tests.support.factories import (
    NOW,
    Tenant,
    mailbox,
    new_alias,
    new_domain,
    new_forwarding,
    new_mailbox,
    new_mailboxes,
    new_tenant,
)
from tests.support.lifecycle import BILLED, FREE, PLATFORM
from tests.support.waiting import wait_until
from tests.support.worker import drain

pytestmark = pytest.mark.xdist_group("postgresql")


@pytest.fixture
async def database(new_postgres_database: NewDatabase) -> Database:
    return open_database(new_postgres_database())


async def two_tenants(database: Database) -> tuple[Tenant, Tenant]:
    repository = SqlRepository(database)
    tenants = (await new_tenant(repository), await new_tenant(repository))
    for number, tenant in enumerate(tenants):
        domain = await new_domain(repository, tenant, f"example{number}.com")
        await new_mailboxes(repository, domain, "ann", "bob")
    return tenants


async def test_an_unscoped_statement_finds_the_callers_rows_only(database: Database) -> None:
    tenant, other = await two_tenants(database)
    repository = SqlRepository(database)
    for each in (tenant, other):
        parent = await new_domain(repository, each, f"{each.project.id}.com")
        purged = await new_mailbox(repository, parent, mailbox("purged", policy=BILLED))
        await repository.mailboxes.change(each.context, purged.id, lambda it, _: delete_mailbox(it, timedelta(0), NOW))
        await drain(Worker(work=repository.work, prober=None, policy=FREE), NOW)
        ready = await new_mailbox(repository, parent, mailbox("ready"))
        await repository.mailboxes.change(each.context, ready.id, lambda it, _: replace(it, login_disabled=True))
        creating = await new_mailbox(repository, parent, mailbox("creating", policy=PLATFORM))
        await new_alias(repository, creating, "alias")
        await new_forwarding(repository, creating, "ann@elsewhere.example")
        mute = partial(change_settings, keep_copy=False, enabled=None, now=NOW)
        await repository.forwardings.change_settings(each.context, creating.id, mute, lambda stored: stored)

    async def owners_by_table(connection: AsyncConnection) -> dict[str, set[str]]:
        owners = {}
        for table in t.TENANT_TABLES:
            rows = await connection.execute(select(table.c.organization_id))
            owners[table.name] = set(rows.scalars())
        return owners

    for caller in (tenant, other):
        found = await database.read(owners_by_table, caller.context)
        assert found.pop("idempotency_keys") == set()
        for name, owners in found.items():
            assert owners == {caller.organization.id}, name
    await database.close()


async def test_an_unscoped_write_changes_the_callers_rows_only(database: Database) -> None:
    tenant, other = await two_tenants(database)

    async def unscoped(connection: AsyncConnection) -> int:
        return (await connection.execute(t.mailboxes.update().values(password_hash="changed"))).rowcount

    assert await database.write(unscoped, replace(tenant.context, audit=None)) == 2

    async def unchanged(connection: AsyncConnection) -> int:
        query = select(func.count()).where(
            t.mailboxes.c.organization_id == other.organization.id, t.mailboxes.c.password_hash != "changed"
        )
        return (await connection.execute(query)).scalar_one()

    assert await database.read(unchanged) == 2
    await database.close()


async def test_a_row_of_another_organization_cannot_be_written(database: Database) -> None:
    tenant, other = await two_tenants(database)

    async def smuggle(connection: AsyncConnection) -> None:
        row = {
            "id": other.project.id[:-4] + "ffff",
            "organization_id": other.organization.id,
            "name": "smuggled",
            "mailbox_quota": 1,
            "mailbox_count": 0,
            "created_at": NOW,
        }
        await connection.execute(insert(t.projects).values(row))

    with pytest.raises(DBAPIError, match="row-level security"):
        await database.write(smuggle, tenant.context)
    await database.close()


@pytest.mark.parametrize("table", [t.api_keys, t.organizations])
async def test_tenants_statements_have_no_access_to_keys_and_organizations(database: Database, table: object) -> None:
    tenant, _ = await two_tenants(database)

    async def read(connection: AsyncConnection) -> None:
        await connection.execute(select(table))  # type: ignore[call-overload]

    with pytest.raises(DBAPIError, match="permission denied"):
        await database.read(read, tenant.context)
    await database.close()


async def test_without_an_organization_the_tenant_role_sees_no_rows(new_postgres_database: NewDatabase) -> None:
    url = new_postgres_database()
    database = open_database(url)
    await two_tenants(database)
    await database.close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL ROLE postroom_tenant"))
        for table in t.TENANT_TABLES:
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 0, table.name
    await engine.dispose()


async def test_every_table_with_tenants_rows_is_isolated(new_postgres_database: NewDatabase) -> None:
    engine = create_async_engine(new_postgres_database())
    async with engine.begin() as connection:
        query = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r'")
        isolated = set((await connection.execute(query)).scalars())
    await engine.dispose()
    with_tenants = {name for name, table in t.metadata.tables.items() if "organization_id" in table.c}
    assert isolated == {table.name for table in t.TENANT_TABLES}
    assert with_tenants - isolated == {"api_keys", "dkim_rotations"}  # which tenants have no access to


RETENTION = timedelta(days=30)
WRITERS = 16
CALLS = 12
TIMEOUT_SECONDS = 120.0
"""All writers contend for the counts of one project: none may give up on a slow machine."""


async def test_serializable_writers_retry_and_keep_every_invariant(
    new_postgres_database: NewDatabase,
) -> None:
    quota = 60
    database = open_database(new_postgres_database(), pool_size=WRITERS, isolation="SERIALIZABLE")
    repository = SqlRepository(database)
    tenant = await new_tenant(repository, quota=quota)
    domain = await new_domain(repository, tenant)
    outcomes: list[str] = []
    deadline = monotonic() + TIMEOUT_SECONDS

    async def writer(number: int) -> None:
        chance = random.Random(number)
        for _ in range(CALLS):
            names = [f"m{chance.randrange(60)}" for _ in range(2)]
            try:
                created = await new_mailboxes(repository, domain, *sorted(set(names)), deadline=deadline)
            except Conflict:
                outcomes.append("conflict")
            except QuotaExceeded:
                outcomes.append("quota")
            else:
                outcomes.append("created")
                await repository.mailboxes.change(
                    replace(tenant.context, deadline=deadline),
                    created[0].id,
                    lambda mailbox, _: delete_mailbox(mailbox, RETENTION, NOW),
                )

    with structlog.testing.capture_logs() as logs:
        await asyncio.gather(*(writer(number) for number in range(WRITERS)))

    assert len(outcomes) == WRITERS * CALLS
    assert {"conflict", "created"} <= set(outcomes)
    assert [entry for entry in logs if entry["event"] == "transaction retried"], "no transaction was retried"
    await _require_counts_equal_a_recount(database, tenant.context, quota)
    await database.close()


async def _require_counts_equal_a_recount(database: Database, scope: CallContext, quota: int) -> None:
    async def counts(connection: AsyncConnection) -> tuple[int, int, int, int]:
        count = select(func.count()).select_from
        return (
            (await connection.execute(count(t.mailboxes))).scalar_one(),
            (await connection.execute(count(t.addresses))).scalar_one(),
            (await connection.execute(select(t.projects.c.mailbox_count))).scalar_one(),
            (await connection.execute(select(t.domains.c.mailbox_total_count))).scalar_one(),
        )

    mailboxes, addresses, of_project, of_domain = await database.read(counts, scope)
    assert 0 < mailboxes <= quota
    assert mailboxes == addresses == of_project == of_domain


async def test_deleting_a_domain_does_not_block_the_projects_other_domains(database: Database) -> None:
    tenant, _ = await two_tenants(database)
    repository = SqlRepository(database)
    deleted = await new_domain(repository, tenant, "deleted.test")
    (ada,) = await new_mailboxes(repository, deleted, "ada")
    blocked_sessions = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def is_blocked() -> bool:
        return bool(await database.read(lambda connection: connection.scalar(blocked_sessions)))

    deletion = partial(delete_domain, force=True, now=NOW)
    async with database._engines.writer.begin() as holding:
        await holding.execute(select(t.mailboxes.c.id).where(t.mailboxes.c.id == ada.id).with_for_update())
        deleting = asyncio.create_task(repository.domains.delete(tenant.context, deleted.id, deletion, NOW))
        await wait_until(is_blocked)
        await asyncio.wait_for(new_domain(repository, tenant, "new.test"), TIMEOUT_SECONDS)
        assert not deleting.done()
    assert (await deleting).status is DomainStatus.DELETING
    await database.close()


async def test_a_mailbox_restored_during_a_domains_deletion_refuses_it(database: Database) -> None:
    tenant, _ = await two_tenants(database)
    repository = SqlRepository(database)
    domain = await new_domain(repository, tenant, "deleted.test")
    (ada,) = await new_mailboxes(repository, domain, "ada")
    statuses = update(t.mailboxes).where(t.mailboxes.c.id == ada.id)
    async with database._engines.writer.begin() as deleting_mailbox:
        await deleting_mailbox.execute(statuses.values(status=MailboxStatus.DELETION_SCHEDULED))
    blocked_sessions = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    async def is_blocked() -> bool:
        return bool(await database.read(lambda connection: connection.scalar(blocked_sessions)))

    deletion = partial(delete_domain, force=False, now=NOW)
    async with database._engines.writer.begin() as restoring:
        await restoring.execute(statuses.values(status=MailboxStatus.READY))
        deleting = asyncio.create_task(repository.domains.delete(tenant.context, domain.id, deletion, NOW))
        await wait_until(is_blocked)
    with pytest.raises(PreconditionFailed, match="1 mailbox "):
        await deleting
    assert (await repository.domains.get(tenant.context, domain.id)).status is not DomainStatus.DELETING
    await database.close()
