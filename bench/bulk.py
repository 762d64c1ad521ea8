"""Bulk inserts at the maximum rate of each engine."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain, islice
from typing import Any

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

CHUNK = 20_000

Rows = Iterator[Mapping[str, object]]

# Name and definition of the indexes created by a statement; the implicit index of a constraint can't be dropped.
_INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = :table",
    "postgresql": (
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = :table"
        " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
    ),
}


@asynccontextmanager
async def without_indexes(connection: AsyncConnection, *tables: Table) -> AsyncIterator[None]:
    """Drop the tables' indexes, and recreate them at the end of the block: one sort each instead of many inserts."""
    query = text(_INDEXES[connection.dialect.name])
    indexes = [row for table in tables for row in await connection.execute(query, {"table": table.name})]
    for name, _ in indexes:
        await connection.exec_driver_sql(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        await connection.exec_driver_sql(definition)


async def insert_rows(connection: AsyncConnection, table: Table, rows: Rows) -> None:
    """Insert rows with identical columns through the driver: COPY on PostgreSQL, executemany on SQLite."""
    first = next(rows, None)
    if first is None:
        return
    columns = list(first)
    records = _driver_records(connection, table, columns, chain([first], rows))
    if connection.dialect.name == "postgresql":
        pooled = await connection.get_raw_connection()
        assert pooled.driver_connection is not None  # noqa: S101 - for the type checker
        await pooled.driver_connection.copy_records_to_table(table.name, records=records, columns=columns)
        return
    placeholders = ", ".join("?" for _ in columns)
    statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({placeholders})"  # noqa: S608 - our own names
    while chunk := list(islice(records, CHUNK)):
        await connection.exec_driver_sql(statement, chunk)


def _driver_records(
    connection: AsyncConnection, table: Table, columns: list[str], rows: Rows
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows with values converted for the driver."""
    processors = [
        table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for name in columns
    ]
    for row in rows:
        values = (row[name] for name in columns)
        yield tuple(process(value) if process else value for process, value in zip(processors, values, strict=True))
