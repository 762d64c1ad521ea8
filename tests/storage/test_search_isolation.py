"""What a search reads is the same whatever addresses and names other tenants have: so is its time.

Steps of SQLite's virtual machine, which FTS5 takes as well to read its index; pages and rows on PostgreSQL.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postroomd.domain.model import DomainStatus
from postroomd.domain.queries import DomainQuery, MailboxQuery, Ordering
from postroomd.storage import schema as t
from postroomd.storage.compiled import CompiledRead, Values
from postroomd.storage.database import Database
from postroomd.storage.drivers.postgresql import tenant_statement
from postroomd.storage.drivers.postgresql_isolation import TENANT_ROLE
from postroomd.storage.protocols.repository import Repository
from tests.support.factories import Tenant, new_domain, new_id, new_mailboxes

OWN_ROWS, FOREIGN_ROWS = 1_500, 3_000
ORDERING = Ordering(field="created_at", descending=True)

# Of each pair, other tenants have the first many times, and nobody has the second.
FOREIGN_AND_ABSENT = [
    ("@bigcorp", "@bigcorq"),
    ("bigcorp.", "bigcorq."),
    ("corp", "corq"),
    ("orp.exam", "orq.exam"),  # the tenant has most of its trigrams
    ("bigcorp clerk", "bigcorq clerk"),
    ("ig", "iq"),
    ("g", "q"),
]

Cost = tuple[int, ...]
"""What a statement reads: steps on SQLite; pages and rows on PostgreSQL."""


async def fill(repository: Repository, raw: AsyncEngine, owner: Tenant, name: str, rows: int) -> None:
    """Give a tenant many mailboxes, and as many further domains, like a domain and a mailbox of its own."""
    domain = await new_domain(repository, owner, name, DomainStatus.VALIDATING)
    (mailbox,) = await new_mailboxes(repository, domain, "first")
    async with raw.begin() as connection:
        for table, row_id, column, text in (
            (t.domains, domain.id, "name", f"{{}}.{name}"),
            (t.mailboxes, mailbox.id, "email", f"u{{}}@{name}"),
        ):
            row: dict[str, Any] = dict(
                (await connection.execute(table.select().where(table.c.id == row_id))).mappings().one()
            )
            copies = [row | {"id": new_id(), column: text.format(number)} for number in range(rows)]
            if table is t.mailboxes:
                clerks = f"{name.partition('.')[0]} clerk"
                copies = [copy | {"folded_name": f"{clerks} {number}"} for number, copy in enumerate(copies)]
            await connection.execute(insert(table), copies)


async def on_sqlite(connection: AsyncConnection, statement: CompiledRead, values: Values) -> Cost:
    compiled = statement.compiled(connection.dialect, None)
    pooled = await connection.get_raw_connection()
    driver: Any = pooled.driver_connection
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await driver.set_progress_handler(step, 1)
    await driver.execute_fetchall(compiled.sql, compiled.arguments(values))
    await driver.set_progress_handler(None, 1)
    return (steps,)


async def on_postgresql(connection: AsyncConnection, statement: CompiledRead, values: Values) -> Cost:
    report = await explain(connection, statement, values)
    rows = [
        node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0) for node in nodes_of(report)
    ]
    return (report["Plan"]["Shared Hit Blocks"] + report["Plan"]["Shared Read Blocks"], *rows)


async def explain(connection: AsyncConnection, statement: CompiledRead, values: Values) -> dict[str, Any]:
    """Run a tenant's statement on PostgreSQL, and return its plan with what it has read."""
    compiled = statement.compiled(connection.dialect, tenant_statement)
    await connection.exec_driver_sql(f"SET LOCAL ROLE {TENANT_ROLE}")
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled.sql}"
    (report,) = (await connection.exec_driver_sql(query, tuple(compiled.arguments(values)))).one()
    await connection.rollback()
    (plan,) = json.loads(report) if isinstance(report, str) else report
    return dict(plan)


def nodes_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    nodes, left = [], [report["Plan"]]
    while left:
        nodes.append(left.pop())
        left += nodes[-1].get("Plans", [])
    return nodes


Executed = list[tuple[CompiledRead, Values]]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """Return the compiled reads that are executed, with their bound values."""
    statements: Executed = []
    fetch = Database.fetch

    async def recording(self: Database, statement: CompiledRead, values: Values, *scope: Any, **options: Any) -> Any:
        statements.append((statement, values))
        return await fetch(self, statement, values, *scope, **options)

    monkeypatch.setattr(Database, "fetch", recording)
    return statements


Measure = Callable[[Awaitable[Any]], Awaitable[list[Cost]]]


@pytest.fixture
def measured(raw: AsyncEngine, executed: Executed) -> Measure:
    """Return a function that awaits a list, and returns the cost of each of its statements."""
    cost_on = {"sqlite": on_sqlite, "postgresql": on_postgresql}[raw.dialect.name]

    async def measure(call: Awaitable[Any]) -> list[Cost]:
        executed.clear()
        await call
        async with raw.connect() as connection:
            for statement, values in executed:  # once before, so that no cache is cold
                await cost_on(connection, statement, values)
            return [await cost_on(connection, statement, values) for statement, values in executed]

    return measure


async def test_what_a_search_reads_is_independent_of_other_tenants(
    repository: Repository,
    raw: AsyncEngine,
    tenant: Tenant,
    other: Tenant,
    measured: Measure,
) -> None:
    await fill(repository, raw, tenant, "own.example", OWN_ROWS)
    searches: list[tuple[Any, Any]] = [
        (repository.mailboxes.list, MailboxQuery),
        (repository.domains.list, DomainQuery),
    ]

    async def costs(text: str) -> list[list[Cost]]:
        return [
            await measured(call(tenant.context, query(ordering=ORDERING, page=1, page_size=50, search=text, **of)))
            for call, query in searches
            for of in ({}, {"project_id": tenant.project.id})
        ]

    await fill(repository, raw, other, "bigcorp.example", FOREIGN_ROWS)
    await settle(raw)
    for foreign, absent in FOREIGN_AND_ABSENT:
        assert await costs(foreign) == await costs(absent), foreign
    # What is compared is no constant: the tenant's own rows cost more.
    assert [each > empty for each, empty in zip(await costs("own.exa"), await costs("owx.exa"), strict=True)] == [
        True
    ] * 4


async def test_a_search_on_postgresql_reads_the_index_of_terms(
    repository: Repository, raw: AsyncEngine, tenant: Tenant, executed: Executed
) -> None:
    if raw.dialect.name == "sqlite":
        return  # test_lists.py has the plans of SQLite
    await fill(repository, raw, tenant, "own.example", OWN_ROWS)
    await settle(raw)
    searches: list[tuple[Any, Any, str]] = [
        (repository.mailboxes.list, MailboxQuery, "search_mailboxes_email"),
        (repository.domains.list, DomainQuery, "search_domains_name"),
    ]
    for call, query, index in searches:
        await call(tenant.context, query(ordering=ORDERING, page=1, page_size=50, search="u77"))
        async with raw.connect() as connection:
            report = await explain(connection, *executed[-1])
        used = [node.get("Index Name") for node in nodes_of(report)]
        assert index in used
        assert ("search_mailboxes_folded_name" in used) == (query is MailboxQuery)


async def settle(raw: AsyncEngine) -> None:
    """Do what a server does in the background: move new entries into the indexes, and refresh the statistics."""
    if raw.dialect.name == "postgresql":
        async with raw.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.exec_driver_sql("VACUUM (ANALYZE) mailboxes, domains")
