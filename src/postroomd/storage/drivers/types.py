"""Column types and indexes that the engines declare differently.

Identifiers are 36 characters on SQLite and a native UUID on PostgreSQL, and text in both cases in Python. Text that is
compared octet by octet needs the collation "C" on PostgreSQL, which otherwise follows the locale of the database.
"""

from typing import Any

from sqlalchemy import ColumnElement, Index, String, Text
from sqlalchemy.dialects.postgresql import UUID

ID = String(36).with_variant(UUID(as_uuid=False), "postgresql")
OCTETS = Text().with_variant(Text(collation="C"), "postgresql")


def partial_index(name: str, *columns: Any, where: ColumnElement[bool], unique: bool = False) -> Index:
    """Return an index of the rows that meet a condition, on either engine."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
