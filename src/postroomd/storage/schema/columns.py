"""The metadata of the schema, and columns that many tables have."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BindParameter, Column, Integer, MetaData, literal

from postroomd.storage.column_types import Instant
from postroomd.storage.drivers.types import ID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def identifier(name: str = "id", **options: Any) -> Column[str]:
    """Return a column of ids that is never NULL."""
    return Column(name, ID, nullable=False, **options)


def owner() -> Iterator[Column[str]]:
    """Yield the columns of the tenant that a row belongs to."""
    yield identifier("organization_id")
    yield identifier("project_id")


def times() -> Iterator[Column[datetime]]:
    """Yield the instants of a row's creation and latest change."""
    yield Column("created_at", Instant, nullable=False)
    yield Column("updated_at", Instant, nullable=False)


def revision() -> Column[int]:
    """Return the number of the row's changes, from which its etag is made."""
    return Column("revision", Integer, nullable=False, server_default="1")


def rendered(column: Column[Any], value: StrEnum) -> BindParameter[Any]:
    """Return a value rendered into the SQL, from which SQLite can tell that a partial index applies."""
    return literal(value, column.type, literal_execute=True)


def lease() -> Iterator[Column[int]]:
    """Yield the generation of the row's lease, and its consecutive failures."""
    yield Column("claim", Integer, nullable=False, server_default="0")  # the generation
    yield Column("failures", Integer, nullable=False, server_default="0")
