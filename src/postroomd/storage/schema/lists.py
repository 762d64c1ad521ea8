"""The indexes that serve lists and searches."""

from typing import Any

from sqlalchemy import Column, Index, Table

from postroomd.storage.schema.aliases import aliases
from postroomd.storage.schema.domains import domains
from postroomd.storage.schema.forwardings import forwardings
from postroomd.storage.schema.mailboxes import mailboxes

LIST_INDEXES = (
    (domains, ("organization_id", "project_id"), ("created_at", "updated_at", "name", "mailbox_total_count")),
    (mailboxes, ("organization_id", "project_id", "domain_id"), ("created_at", "updated_at", "email")),
    (aliases, ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
    (forwardings, ("organization_id", "project_id", "mailbox_id"), ("created_at", "updated_at", "email")),
)
"""Table, the columns that a list is filtered by, and those it is ordered by: one index per pair.

Every list is filtered by its organization, and every index begins with it: SQLite, which keeps no statistics, then
chooses the index that matches the most conditions. Each index ends with the status, so that a list filtered by status
skips rows without reading them. An index with the status before the order would serve only such lists, and each write
of a mailbox would maintain nine more; where few rows have a status, the `gathered` index finds them instead.
"""

for _table, _filters, _orders in LIST_INDEXES:
    for _filter in _filters:
        _prefix = [_table.c[name] for name in dict.fromkeys(("organization_id", _filter))]
        for _order in _orders:
            Index(f"ix_{_table.name}_{_filter}_{_order}", *_prefix, _table.c[_order], _table.c.id, _table.c.status)
    Index(f"ix_{_table.name}_gathered", _table.c.organization_id, _table.c.status, _table.c.project_id, _table.c.id)

SEARCHED = ((mailboxes, "email"), (mailboxes, "folded_name"), (domains, "name"))
"""Columns that are searched by substring. PostgreSQL has a trigram index of each, SQLite one of each table (migrations
0008 and 0015)."""

SEARCHED_NAMES = tuple((table.name, column) for table, column in SEARCHED)


def search_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of the view that PostgreSQL searches a table through."""
    filters, orders = next((filters, orders) for listed, filters, orders in LIST_INDEXES if listed is table)
    names = dict.fromkeys(("id", *filters, *orders, "status", *searched_columns(table)))
    return [table.c[name] for name in names]


def searched_columns(table: Table) -> tuple[str, ...]:
    """Return the names of a table's columns that are searched by substring."""
    return tuple(column for searched, column in SEARCHED if searched is table)
