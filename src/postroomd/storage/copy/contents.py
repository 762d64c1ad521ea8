"""The contents of tables, read the same way from either engine: in chunks by primary key, and as checksums."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage.drivers import driver_of
from postroomd.storage.schema import DERIVED_TABLES, metadata

Key = Sequence[str | int]
"""The values of a row's primary key."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The row count and checksum of a table, equal for tables with the same rows on either engine."""

    table: str
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table whose columns keep their stored values, such as numbers for instants, which are copied unconverted."""

    table: sa.TableClause
    keys: Sequence[sa.ColumnClause[Any]]
    derived: bool
    """Whether triggers maintain its rows."""

    @property
    def name(self) -> str:
        """The name of the table."""
        return self.table.name

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.table.c.keys())

    def key_of(self, row: Mapping[str, Any]) -> Key:
        """Return the primary key of a row."""
        return [row[key.name] for key in self.keys]


def raw_tables() -> list[RawTable]:
    """Return all tables, each after those that its foreign keys refer to."""
    return [_raw(table) for table in metadata.sorted_tables]


def _raw(table: sa.Table) -> RawTable:
    def raw(column: sa.Column[Any]) -> sa.ColumnClause[Any]:
        stored = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
        return sa.column(column.name, stored)

    clause = sa.table(table.name, *map(raw, table.columns))
    return RawTable(clause, [clause.c[column.name] for column in table.primary_key], table in DERIVED_TABLES)


async def count_rows(connection: AsyncConnection, table: RawTable) -> int:
    """Return the number of rows."""
    query = sa.select(sa.func.count()).select_from(table.table)
    return int((await connection.execute(query)).scalar_one())


async def has_rows(connection: AsyncConnection, table: RawTable) -> bool:
    """Return whether the table has any row."""
    return (await connection.execute(sa.select(*table.keys).limit(1))).first() is not None


async def rows_after(connection: AsyncConnection, table: RawTable, key: Key | None, size: int) -> list[dict[str, Any]]:
    """Return up to `size` rows after a primary key, or from the first, in the order of primary keys."""
    query = sa.select(table.table).order_by(*table.keys).limit(size)
    if key is not None:
        last = [sa.literal(value, column.type) for value, column in zip(key, table.keys, strict=True)]
        query = query.where(sa.tuple_(*table.keys) > sa.tuple_(*last))
    return [dict(row) for row in (await connection.execute(query)).mappings()]


ProgressCallback = Callable[[str, int], None]
"""Called with a table's name and the number of its rows that were processed since the last call."""


async def contents_of(
    connection: AsyncConnection, tables: Iterable[RawTable], size: int, progress: ProgressCallback
) -> Sequence[Contents]:
    """Return the contents of each table. Rows are read `size` at a time, in the octet order of their primary keys."""
    return [await _contents(connection, table, size, progress) for table in tables]


async def _contents(connection: AsyncConnection, table: RawTable, size: int, progress: ProgressCallback) -> Contents:
    digest, count = sha256(), 0
    driver = driver_of(connection)
    order = [driver.octet_order(key) for key in table.keys]
    query = sa.select(table.table).order_by(*order).execution_options(yield_per=size)
    async with connection.stream(query) as rows:
        async for partition in rows.partitions():
            for row in partition:
                digest.update(b"".join(map(_encode, row)))
            count += len(partition)
            progress(table.name, len(partition))
    return Contents(table.name, count, digest.hexdigest())


def _encode(value: object) -> bytes:
    """Return a self-delimiting encoding of a value, the same on every engine."""
    match value:
        case None:
            return b"n;"
        case bool() | int():
            return b"i%d;" % value
        case str():
            kind, octets = b"s", value.encode()
        case bytes():
            kind, octets = b"b", value
        case _:
            raise TypeError(f"there is no encoding of {type(value).__name__} for the checksum")
    return b"%b%d:%b" % (kind, len(octets), octets)
