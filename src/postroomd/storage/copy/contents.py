"""What tables hold, read the same way from either engine: in chunks by primary key, and as checksums."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.storage.schema import DERIVED_TABLES, metadata

Key = Sequence[str | int]
"""The values of a row's primary key."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds. Two tables with the same rows have the same, on either engine."""

    table: str
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table with instants as numbers and enums as texts: values that need no conversion to be copied."""

    table: sa.TableClause
    keys: Sequence[sa.ColumnClause[Any]]
    derived: bool
    """Whether triggers make its rows of other tables' rows."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self.table.c.keys())

    def key_of(self, row: Mapping[str, Any]) -> Key:
        """A row's primary key."""
        return [row[key.name] for key in self.keys]


def raw_tables() -> list[RawTable]:
    """All tables, each after those that its rows refer to."""
    return [_raw(table) for table in metadata.sorted_tables]


def _raw(table: sa.Table) -> RawTable:
    def raw(column: sa.Column[Any]) -> sa.ColumnClause[Any]:
        kind = column.type
        return sa.column(column.name, kind.impl_instance if isinstance(kind, sa.TypeDecorator) else kind)

    light = sa.table(table.name, *map(raw, table.columns))
    return RawTable(light, [light.c[column.name] for column in table.primary_key], table in DERIVED_TABLES)


async def count_rows(connection: AsyncConnection, table: RawTable) -> int:
    """How many rows there are."""
    counting = sa.select(sa.func.count()).select_from(table.table)
    return int((await connection.execute(counting)).scalar_one())


async def has_rows(connection: AsyncConnection, table: RawTable) -> bool:
    """Whether there is any row."""
    return (await connection.execute(sa.select(*table.keys).limit(1))).first() is not None


async def rows_after(connection: AsyncConnection, table: RawTable, key: Key | None, size: int) -> list[dict[str, Any]]:
    """Up to `size` rows that follow a primary key, or the first ones, in the order of that key."""
    listing = sa.select(table.table).order_by(*table.keys).limit(size)
    if key is not None:
        last = [sa.literal(value, column.type) for value, column in zip(key, table.keys, strict=True)]
        listing = listing.where(sa.tuple_(*table.keys) > sa.tuple_(*last))
    return [dict(row) for row in (await connection.execute(listing)).mappings()]


Told = Callable[[str, int], None]
"""Told of each step by its table and how many rows it was."""


async def contents_of(
    connection: AsyncConnection, tables: Iterable[RawTable], size: int, told: Told
) -> Sequence[Contents]:
    """What each table holds. Rows are read `size` at a time, in the order of their primary keys' octets."""
    return [await _contents(connection, table, size, told) for table in tables]


async def _contents(connection: AsyncConnection, table: RawTable, size: int, told: Told) -> Contents:
    digest, count = sha256(), 0
    order = [_by_octets(key, connection.dialect) for key in table.keys]
    listing = sa.select(table.table).order_by(*order).execution_options(yield_per=size)
    async with connection.stream(listing) as rows:
        async for partition in rows.partitions():
            for row in partition:
                digest.update(b"".join(map(_encoded, row)))
            count += len(partition)
            told(table.name, len(partition))
    return Contents(table.name, count, digest.hexdigest())


async def see_every_row(connection: AsyncConnection) -> None:
    """Have PostgreSQL fail where row-level security would hide rows, which would be missed without a word."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text("SELECT set_config('row_security', 'off', true)"))


def _by_octets(key: sa.ColumnClause[Any], dialect: sa.Dialect) -> sa.ColumnElement[Any]:
    # PostgreSQL compares texts by the database's locale unless it is told otherwise.
    is_text = isinstance(key.type.dialect_impl(dialect), sa.String)
    return sa.collate(key, "C") if is_text and dialect.name == "postgresql" else key


def _encoded(value: object) -> bytes:
    """One form of a value, whichever engine it comes from, that tells where it ends."""
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
