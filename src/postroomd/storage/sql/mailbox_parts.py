"""Storage of what belongs to a mailbox and is provisioned by itself: its aliases and forwardings."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.model import Alias, Domain, Forwarding, Mailbox
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.mailboxes import fetch_mailbox
from postroomd.storage.sql.provisions import store_provisions, void_provisions
from postroomd.storage.sql.rows import columns_of, from_row, row_filter, to_row, with_next_revision

Part = TypeVar("Part", Alias, Forwarding)

TABLES: Mapping[type[Any], Table] = {Alias: t.aliases, Forwarding: t.forwardings}
COLUMNS = {kind: columns_of(kind, table) for kind, table in TABLES.items()}

_TO_REQUEST: Mapping[type[Any], tuple[ColumnElement[bool], ...]] = {
    Alias: t.TO_REQUEST,
    Forwarding: t.FORWARDINGS_TO_REQUEST,
}


async def lock_mailbox(connection: AsyncConnection, scope: Scope, mailbox_id: str) -> tuple[Domain, Mailbox]:
    """Lock and return a mailbox and its domain. Raises NotFound.

    Every transaction locks the domain's row before the mailbox's, and that before those of its parts: other orders
    could deadlock, with the activation of the domain too.
    """
    unlocked = await fetch_mailbox(connection, scope, mailbox_id)
    domain = await fetch_domain(connection, scope, unlocked.domain_id, lock=True)
    return domain, await fetch_mailbox(connection, scope, mailbox_id, lock=True)


async def store_part(connection: AsyncConnection, before: Part, after: Part, now: datetime) -> None:
    """Update a changed part and its provisions."""
    table = TABLES[type(before)]
    await connection.execute(update(table).where(*row_filter(table, before)).values(to_row(after)))
    await store_provisions(connection, [(before, after)], now)


async def remove_part(connection: AsyncConnection, part: Alias | Forwarding, now: datetime) -> None:
    """Delete a part, an alias with its address, and void its pending provision."""
    table = TABLES[type(part)]
    await connection.execute(delete(table).where(*row_filter(table, part)))
    await void_provisions(connection, [part.provision_id] if part.provision_id else [], now)


async def delete_part(connection: AsyncConnection, part: Part, rule: Callable[[Part], Part]) -> Part | Unchanged[Part]:
    """Apply a rule that deletes a part, whose row is locked: the row stays while its deletion is provisioned."""
    deleted = rule(part)
    if deleted is part:
        return Unchanged(part)
    if deleted.provision_id is not None:
        deleted = with_next_revision(deleted)
        await store_part(connection, part, deleted, deleted.updated_at)
    else:
        await remove_part(connection, part, deleted.updated_at)
    return deleted


async def request_parts(
    connection: AsyncConnection,
    domain: Domain,
    kind: type[Part],
    rule: Callable[[Part], Part],
    now: datetime,
    limit: int,
) -> int:
    """Apply a rule to parts that wait for their domain, whose row is locked. Returns their number."""
    table = TABLES[kind]
    waiting = select(*COLUMNS[kind]).where(table.c.domain_id == domain.id, *_TO_REQUEST[kind]).limit(limit)
    parts = [from_row(kind, row) for row in await connection.execute(waiting.with_for_update())]
    for part in parts:
        await store_part(connection, part, with_next_revision(rule(part)), now)
    return len(parts)
