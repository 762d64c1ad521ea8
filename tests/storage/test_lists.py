"""Query plans of lists on SQLite: which indexes they use, and what they sort."""

from typing import Any

import pytest
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from postroomd.domain.audit import AuditFilter
from postroomd.domain.model import AliasStatus, DomainStatus, ForwardingStatus, MailboxStatus
from postroomd.domain.queries import AliasQuery, DomainQuery, ForwardingQuery, MailboxQuery, Ordering, Position
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Values
from postroomd.storage.database import Database
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.sql import lists
from postroomd.storage.sql.audit import list_query
from tests.support.database_state import check_lists
from tests.support.factories import NOW, Tenant, new_alias, new_domain, new_forwarding, new_id, new_mailboxes

Executed = list[tuple[CompiledRead, Values]]
LITERALS = {"literal_binds": True}
SORT = "USE TEMP B-TREE FOR ORDER BY"
UNIQUE_NAMES = "INDEX sqlite_autoindex_domains_2 (organization_id=? AND name"
"""The unique index of domain names, which a keyset condition on names can use too."""


@pytest.fixture
def clean_store(sqlite_store: str) -> str:
    """Run on SQLite only."""
    return sqlite_store


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """Return the compiled reads that are executed, with their bound values."""
    statements: Executed = []
    fetch = Database.fetch

    async def recording_fetch(
        self: Database, statement: CompiledRead, values: Values, *scope: Any, **options: Any
    ) -> Any:
        statements.append((statement, values))
        return await fetch(self, statement, values, *scope, **options)

    monkeypatch.setattr(Database, "fetch", recording_fetch)
    return statements


async def plan_of(raw: AsyncEngine, executed: Executed) -> list[str]:
    """Return SQLite's query plan for the last executed read."""
    statement, values = executed[-1]
    compiled = statement.compiled(raw.dialect, None)
    async with raw.connect() as connection:
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled.sql}", tuple(compiled.arguments(values)))
        return [row.detail for row in rows]


@pytest.fixture
async def list_calls(repository: Repository, tenant: Tenant) -> dict[str, Any]:
    """Return by table: the list method, its query type, a filter by status. And `ids`, the values of id filters."""
    domain = await new_domain(repository, tenant)
    ada, _ = await new_mailboxes(repository, domain, "ada", "bob")
    for name in ("countess", "lovelace"):
        await new_alias(repository, ada, name)
        await new_forwarding(repository, ada, f"{name}@elsewhere.example")
    await new_domain(repository, tenant, "example.net", DomainStatus.VALIDATING)
    return {
        "domains": (repository.domains.list, DomainQuery, {"statuses": tuple(DomainStatus)}),
        "mailboxes": (repository.mailboxes.list, MailboxQuery, {"statuses": tuple(MailboxStatus)}),
        "aliases": (repository.aliases.list, AliasQuery, {"status": AliasStatus.READY}),
        "forwardings": (repository.forwardings.list, ForwardingQuery, {"status": ForwardingStatus.READY}),
        "ids": {"project_id": tenant.project.id, "domain_id": domain.id, "mailbox_id": ada.id},
    }


LISTS = [(table, column, order) for table, columns, orders in t.LIST_INDEXES for column in columns for order in orders]


@pytest.mark.parametrize(
    ("table", "column", "order"), LISTS, ids=[f"{table.name}-{column}-{order}" for table, column, order in LISTS]
)
async def test_every_list_scans_the_index_of_its_order_without_a_sort(
    tenant: Tenant,
    raw: AsyncEngine,
    list_calls: dict[str, Any],
    executed: Executed,
    table: Table,
    column: str,
    order: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lists, "MAX_SORTED_ROWS", 0)
    call, query, by_status = list_calls[table.name]
    ids = list_calls["ids"]
    id_filter = {column: ids[column]} if column in ids else {}
    values: dict[str, str | int] = {"name": "a", "email": "a", "mailbox_total_count": 1}
    after = Position(values.get(order, NOW), new_id())
    for descending in (False, True):
        for status_filter in (dict[str, Any](), by_status):
            for start in (dict[str, Any](), {"after": after}, {"page": 2}):
                ordering = Ordering(field=order, descending=descending)
                fields = {"ordering": ordering, "page": 1, "page_size": 1, **id_filter, **status_filter, **start}
                assert (await call(tenant.context, query(**fields))).total_count == 2
                steps = await plan_of(raw, executed)
                index = f"INDEX ix_{table.name}_{column}_{order} "
                scanned = (index, UNIQUE_NAMES) if "after" in start else (index,)
                assert any(step.startswith("SEARCH ") and any(map(step.__contains__, scanned)) for step in steps), steps
                if "page" in start:  # rows before the offset are skipped in the index, and only the page is sorted
                    assert any(f"COVERING {index}" in step for step in steps), steps
                    assert steps.index(SORT) == len(steps) - 1, steps
                else:
                    assert not [step for step in steps if "TEMP" in step or step.startswith("SCAN")], steps


@pytest.mark.parametrize("columns", [(), ("project_id",)])
@pytest.mark.parametrize("table", ["domains", "mailboxes", "aliases", "forwardings"])
async def test_few_rows_of_some_statuses_are_read_through_one_index(
    tenant: Tenant,
    raw: AsyncEngine,
    list_calls: dict[str, Any],
    executed: Executed,
    table: str,
    columns: tuple[str, ...],
) -> None:
    call, query, by_status = list_calls[table]
    ordering = Ordering(field="updated_at", descending=True)
    id_filter = {name: list_calls["ids"][name] for name in columns}
    await call(tenant.context, query(ordering=ordering, page=1, page_size=1, **id_filter, **by_status))
    steps = await plan_of(raw, executed)
    searches = [step for step in steps if f"ix_{table}_gathered" in step]
    assert len(searches) == len(by_status.get("statuses", [1]))
    for step in searches:
        assert "status=?" in step
        assert ("project_id=?" in step) == bool(columns)


@pytest.mark.parametrize(("table", "search"), [("domains", "xampl"), ("mailboxes", "ada")])
async def test_a_search_reads_the_trigram_index_and_then_rows_by_id(
    tenant: Tenant, raw: AsyncEngine, list_calls: dict[str, Any], executed: Executed, table: str, search: str
) -> None:
    call, query, _ = list_calls[table]
    ordering = Ordering(field="created_at", descending=True)
    for id_filter in ({}, {"project_id": tenant.project.id}):
        await call(tenant.context, query(ordering=ordering, page=1, page_size=1, search=search, **id_filter))
        steps = await plan_of(raw, executed)
        assert f"SCAN search_{table}_terms VIRTUAL TABLE INDEX 0:M1" in steps
        rows = [step for step in steps if step.startswith(f"SEARCH {table} ")]
        assert len(rows) == 2, steps
        assert all(step.endswith("(id=?)") for step in rows), steps


@pytest.mark.parametrize("columns", [(), ("project_id",), ("domain_id",)])
async def test_a_short_search_counts_display_names_in_their_own_index(
    tenant: Tenant, raw: AsyncEngine, list_calls: dict[str, Any], executed: Executed, columns: tuple[str, ...]
) -> None:
    call, query, _ = list_calls["mailboxes"]
    id_filter = {name: list_calls["ids"][name] for name in columns}
    by_name = Ordering(field="email", descending=False)
    assert (await call(tenant.context, query(ordering=by_name, page=1, page_size=1, search="o", **id_filter))).items
    executed[:] = executed[:1]  # the statement of the total
    steps = await plan_of(raw, executed)
    assert len([step for step in steps if "COVERING INDEX ix_mailboxes_named" in step]) == 1, steps
    assert len([step for step in steps if "COVERING INDEX" in step]) == 2, steps


async def test_a_trigram_index_survives_a_vacuum(
    repository: Repository, tenant: Tenant, raw: AsyncEngine, list_calls: dict[str, Any]
) -> None:
    async with raw.connect() as connection:
        await connection.exec_driver_sql("DELETE FROM mailboxes WHERE email LIKE 'bob@%'")
        await connection.commit()
        driver = await connection.get_raw_connection()
        await driver.driver_connection.execute("VACUUM")  # type: ignore[union-attr]
    domain = await new_domain(repository, tenant, "example.org")
    await new_mailboxes(repository, domain, "eve")
    await check_lists(raw)


@pytest.mark.parametrize("column", t.AUDIT_FILTERS)
async def test_every_list_of_audit_events_is_served_by_one_index_in_its_order(raw: AsyncEngine, column: str) -> None:
    every_filter = {name: new_id() for name in t.AUDIT_FILTERS}
    for filters in ({column: new_id()}, {name: every_filter[name] for name in t.AUDIT_FILTERS if name >= column}):
        chosen = next(name for name in t.AUDIT_FILTERS if name in filters)
        async with raw.connect() as connection:
            matching = AuditFilter(since=NOW, **filters)  # type: ignore[arg-type]
            query = list_query(connection, matching, "", 10).compile(connection.sync_engine, compile_kwargs=LITERALS)
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
            plan = [row.detail for row in rows]
        assert len(plan) == 1
        assert f"INDEX ix_audit_events_{chosen} ({chosen}=? AND at>?)" in plan[0]
