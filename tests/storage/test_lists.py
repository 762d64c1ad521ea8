"""How SQLite finds the pages of lists: by which indexes, and that it sorts nothing that may be long."""

from typing import Any

import pytest
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus
from postroomd.domain.queries import AliasQuery, DomainQuery, MailboxQuery, Ordering, Position
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Values
from postroomd.storage.database import Database
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.sql import lists
from tests.support.factories import NOW, Tenant, new_alias, new_domain, new_id, new_mailboxes
from tests.support.stored import check_lists

Executed = list[tuple[CompiledRead, Values]]
SORT = "USE TEMP B-TREE FOR ORDER BY"
UNIQUE_NAMES = "INDEX sqlite_autoindex_domains_2 (organization_id=? AND name"
"""The key of domains, whose order is that of names: it serves as well from a name on."""


@pytest.fixture
def clean_store(sqlite_store: str) -> str:
    """SQLite alone."""
    return sqlite_store


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """The hot statements that run, with their values."""
    found: Executed = []
    fetch = Database.fetch

    async def fetching(self: Database, statement: CompiledRead, values: Values, *scope: Any, **options: Any) -> Any:
        found.append((statement, values))
        return await fetch(self, statement, values, *scope, **options)

    monkeypatch.setattr(Database, "fetch", fetching)
    return found


async def plan_of(raw: AsyncEngine, executed: Executed) -> list[str]:
    """The plan of what ran last, as SQLite chooses it."""
    statement, values = executed[-1]
    compiled = statement.compiled(raw.dialect, None)
    async with raw.connect() as connection:
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.sql}", tuple(compiled.arguments(values)))
        return [row.detail for row in rows]


@pytest.fixture
async def listed(repository: Repository, tenant: Tenant) -> dict[str, Any]:
    """By table: what lists it, its query, what narrows it by status, and the ids to narrow it by."""
    within = await new_domain(repository, tenant)
    ada, _ = await new_mailboxes(repository, within, "ada", "bob")
    for name in ("countess", "lovelace"):
        await new_alias(repository, ada, name)
    await new_domain(repository, tenant, "example.net", DomainStatus.VALIDATING)
    return {
        "domains": (repository.domains.list, DomainQuery, {"statuses": tuple(DomainStatus)}),
        "mailboxes": (repository.mailboxes.list, MailboxQuery, {"statuses": tuple(MailboxStatus)}),
        "aliases": (repository.aliases.list, AliasQuery, {"status": AliasStatus.READY}),
        "ids": {"project_id": tenant.project.id, "domain_id": within.id, "mailbox_id": ada.id},
    }


LISTS = [
    (table, narrowed, order) for table, filters, orders in t.LIST_INDEXES for narrowed in filters for order in orders
]


@pytest.mark.parametrize(("table", "narrowed", "order"), LISTS, ids=[f"{one.name}-{f}-{o}" for one, f, o in LISTS])
async def test_every_list_walks_the_index_of_its_order_and_sorts_nothing(
    tenant: Tenant,
    raw: AsyncEngine,
    listed: dict[str, Any],
    executed: Executed,
    table: Table,
    narrowed: str,
    order: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lists, "MAX_SORTED_ROWS", 0)
    call, query, by_status = listed[table.name]
    ids = listed["ids"]
    narrowing = {narrowed: ids[narrowed]} if narrowed in ids else {}
    values: dict[str, str | int] = {"name": "a", "email": "a", "mailbox_total_count": 1}
    after = Position(values.get(order, NOW), new_id())
    for descending in (False, True):
        for more in (dict[str, Any](), by_status):
            for start in (dict[str, Any](), {"after": after}, {"page": 2}):
                ordering = Ordering(field=order, descending=descending)
                asked = query(**{"ordering": ordering, "page": 1, "page_size": 1, **narrowing, **more, **start})
                assert (await call(tenant.context, asked)).total_count == 2
                steps = await plan_of(raw, executed)
                index = f"INDEX ix_{table.name}_{narrowed}_{order} "
                walked = (index, UNIQUE_NAMES) if "after" in start else (index,)
                assert any(step.startswith("SEARCH ") and any(map(step.__contains__, walked)) for step in steps), steps
                if "page" in start:  # what is passed over is passed over in the index; a page alone is sorted
                    assert any(f"COVERING {index}" in step for step in steps), steps
                    assert steps.index(SORT) == len(steps) - 1, steps
                else:
                    assert not [step for step in steps if "TEMP" in step or step.startswith("SCAN")], steps


@pytest.mark.parametrize("narrowed", [(), ("project_id",)])
@pytest.mark.parametrize("table", ["domains", "mailboxes", "aliases"])
async def test_the_few_rows_of_some_statuses_are_gathered_by_one_index(
    tenant: Tenant, raw: AsyncEngine, listed: dict[str, Any], executed: Executed, table: str, narrowed: tuple[str, ...]
) -> None:
    call, query, by_status = listed[table]
    ordering = Ordering(field="updated_at", descending=True)
    narrowing = {name: listed["ids"][name] for name in narrowed}
    await call(tenant.context, query(ordering=ordering, page=1, page_size=1, **narrowing, **by_status))
    steps = await plan_of(raw, executed)
    gathered = [step for step in steps if f"ix_{table}_gathered" in step]
    assert len(gathered) == len(by_status.get("statuses", [1]))
    for step in gathered:
        assert "status=?" in step
        assert ("project_id=?" in step) == bool(narrowed)


@pytest.mark.parametrize(("table", "search"), [("domains", "xampl"), ("mailboxes", "ada")])
async def test_a_search_looks_a_substring_up_and_then_its_rows(
    tenant: Tenant, raw: AsyncEngine, listed: dict[str, Any], executed: Executed, table: str, search: str
) -> None:
    call, query, _ = listed[table]
    ordering = Ordering(field="created_at", descending=True)
    for narrowing in ({}, {"project_id": tenant.project.id}):
        await call(tenant.context, query(ordering=ordering, page=1, page_size=1, search=search, **narrowing))
        steps = await plan_of(raw, executed)
        assert f"SCAN search_{table} VIRTUAL TABLE INDEX 0:M1" in steps
        rows = [step for step in steps if step.startswith(f"SEARCH {table} ")]
        assert len(rows) == 2, steps
        assert all(step.endswith("(id=?)") for step in rows), steps


async def test_an_index_of_substrings_outlives_a_vacuum(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, listed: dict[str, Any]
) -> None:
    async with raw.connect() as connection:
        await connection.exec_driver_sql("DELETE FROM mailboxes WHERE email LIKE 'bob@%'")
        await connection.commit()
        driver = await connection.get_raw_connection()
        await driver.driver_connection.execute("VACUUM")  # type: ignore[union-attr]
    within = await new_domain(repository, tenant, "example.org")
    await new_mailboxes(repository, within, "eve")
    await check_lists(raw)
