"""Rows of every table and the stored schema, to compare a database before and after a migration."""

from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Uuid,
    select,
    text,
)

from postroomd.storage.schema import DERIVED_TABLES
from tests.support.revisions import is_declared, reflect

ROWS = 3  # per table
DERIVED = {table.name for table in DERIVED_TABLES}


SCHEMA_STATEMENTS = {
    "sqlite": "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
    "postgresql": """
        SELECT 'column', attrelid::regclass::text, attname::text, concat_ws(
            ' ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid)
        )
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'index', tablename::text, indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'view', viewname::text, '', definition FROM pg_views WHERE schemaname = 'public'
        UNION ALL SELECT 'policy', tablename::text, policyname::text, concat_ws(' ', roles, cmd, qual, with_check)
        FROM pg_policies WHERE schemaname = 'public'
        ORDER BY 1, 2, 3
    """,
}


def stored_schema(connection: Connection) -> object:
    """Return the schema in a form that two databases of an engine can differ in, and that is read fast."""
    return [tuple(row) for row in connection.execute(text(SCHEMA_STATEMENTS[connection.dialect.name]))]


# --- The schema at HEAD -----------------------------------------------------------------------------------------------


def example_value(column: Column[Any], number: int) -> Any:
    """Return a value of a column's type, distinct for each number."""
    kind = column.type
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, Integer | BigInteger):
        return 1_700_000_000_000_000 + number if isinstance(kind, BigInteger) else number
    if isinstance(kind, LargeBinary):
        return bytes([number]) * 8
    if isinstance(kind, Uuid) or column.name == "id" or column.name.endswith("_id"):
        return str(uuid4())
    if column.name == "dns_name":
        return f"name{number}.example."  # in the form that 0006 leaves unchanged
    if column.name == "payment":
        return "settled"  # whose row 0007 leaves unchanged
    return f"{column.name[:20]} {number}"


def insert_rows(connection: Connection, tables: MetaData | None = None) -> None:
    """Insert a few rows into every existing table, which are those of `tables` if given."""
    inserted: dict[str, list[dict[str, Any]]] = {}
    for table in (tables or reflect(connection)).sorted_tables:
        if not is_declared(table.name) or table.name in DERIVED:
            continue
        rows = []
        for number in range(ROWS):
            row = {column.name: example_value(column, number) for column in table.columns}
            for column in table.columns:
                for key in column.foreign_keys:
                    row[column.name] = inserted[key.column.table.name][number][key.column.name]
            rows.append(row)
        connection.execute(table.insert(), rows)
        inserted[table.name] = rows


def all_rows(connection: Connection, tables: MetaData | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table, which are those of `tables` if given."""
    contents = {}
    for table in (tables or reflect(connection)).sorted_tables:
        if is_declared(table.name) and table.name not in DERIVED:
            rows = connection.execute(select(table).order_by(*_key(table))).mappings()
            contents[table.name] = [dict(row) for row in rows]
    return contents


def _key(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns) or list(table.columns)
