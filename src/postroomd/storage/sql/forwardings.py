"""Storage of forwardings and of their settings."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.destinations import local_address
from postroomd.domain.errors import NotFound
from postroomd.domain.forwardings import ForwardingSource, default_settings, request_forwarding
from postroomd.domain.model import Alias, Domain, Forwarding, Mailbox, MailboxForwarding
from postroomd.domain.queries import ForwardingQuery, Page
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import ForwardingRule, RedirectionRule, SettingsRule
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.mailboxes import fetch_mailbox
from postroomd.storage.sql.provisions import store_provisions, void_provisions
from postroomd.storage.sql.rows import (
    LookupById,
    columns_of,
    from_row,
    row_filter,
    scope_filter,
    to_row,
    with_next_revision,
)

ALIAS = columns_of(Alias, t.aliases)
FORWARDING = columns_of(Forwarding, t.forwardings)
SETTINGS = columns_of(MailboxForwarding, t.mailbox_forwardings)
_LOOKUP = LookupById(Forwarding, t.forwardings, "forwarding")


async def forwardings_of(connection: AsyncConnection, mailbox: Mailbox, *, lock: bool = False) -> Sequence[Forwarding]:
    """Return all forwardings of a mailbox, whose row is locked; with their rows locked if `lock`."""
    columns = t.forwardings.c
    query = select(*FORWARDING).where(
        columns.mailbox_id == mailbox.id, columns.organization_id == mailbox.organization_id
    )
    rows = await connection.execute(query.order_by(columns.id).with_for_update() if lock else query)
    return [from_row(Forwarding, row) for row in rows]


async def store_forwarding(connection: AsyncConnection, before: Forwarding, after: Forwarding, now: datetime) -> None:
    """Update a changed forwarding and its provisions."""
    await connection.execute(update(t.forwardings).where(*row_filter(t.forwardings, before)).values(to_row(after)))
    await store_provisions(connection, [(before, after)], now)


async def remove_forwarding(connection: AsyncConnection, forwarding: Forwarding, now: datetime) -> None:
    """Delete a forwarding, and void its pending provision."""
    await connection.execute(delete(t.forwardings).where(*row_filter(t.forwardings, forwarding)))
    await void_provisions(connection, [forwarding.provision_id] if forwarding.provision_id else [], now)


async def fetch_settings(connection: AsyncConnection, mailbox: Mailbox) -> MailboxForwarding:
    """Return the settings of a mailbox's forwardings."""
    columns = t.mailbox_forwardings.c
    query = select(*SETTINGS).where(
        columns.mailbox_id == mailbox.id, columns.organization_id == mailbox.organization_id
    )
    row = (await connection.execute(query)).one_or_none()
    return from_row(MailboxForwarding, row) if row else default_settings(mailbox)


class SqlForwardings:
    """The forwardings of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._list = ListReader(database, Forwarding, t.forwardings)

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        destination: str,
        make: Callable[[ForwardingSource], Forwarding],
    ) -> Forwarding:
        """Store and return the forwarding that `make` returns for its source. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Forwarding:
            domain, mailbox = await _lock_mailbox(connection, context.scope, mailbox_id)
            source = await _fetch_source(connection, mailbox, destination)
            forwarding = request_forwarding(make(source), domain.status)
            await connection.execute(insert(t.forwardings).values(to_row(forwarding)))
            await store_provisions(connection, [(None, forwarding)], forwarding.created_at)
            return forwarding

        return await self._database.write(transaction, context)

    async def get(self, context: CallContext, forwarding_id: str) -> Forwarding:
        """Return a forwarding. Raises NotFound."""
        return await _LOOKUP.fetch(self._database, context, forwarding_id)

    async def list(self, context: CallContext, query: ForwardingQuery) -> Page[Forwarding]:
        """Return one page of forwardings."""
        return await self._list.page(context, query)

    async def redirect(
        self, context: CallContext, forwarding_id: str, destination: str | None, rule: RedirectionRule
    ) -> Forwarding:
        """Apply a rule to a forwarding and its source, and return the forwarding. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Forwarding | Unchanged[Forwarding]:
            unlocked = await _fetch_forwarding(connection, context.scope, forwarding_id)
            _, mailbox = await _lock_mailbox(connection, context.scope, unlocked.mailbox_id)
            forwarding = await _fetch_forwarding(connection, context.scope, forwarding_id, lock=True)
            changed = rule(forwarding, await _fetch_source(connection, mailbox, destination))
            if changed is forwarding:
                return Unchanged(forwarding)
            changed = with_next_revision(changed)
            await store_forwarding(connection, forwarding, changed, changed.updated_at)
            return changed

        return await self._database.write(transaction, context)

    async def delete(self, context: CallContext, forwarding_id: str, rule: ForwardingRule) -> Forwarding:
        """Apply a rule that deletes a forwarding, and return it as the rule returned it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Forwarding | Unchanged[Forwarding]:
            forwarding = await _fetch_forwarding(connection, context.scope, forwarding_id, lock=True)
            deleted = rule(forwarding)
            if deleted is forwarding:
                return Unchanged(forwarding)
            if deleted.provision_id is not None:
                deleted = with_next_revision(deleted)
                await store_forwarding(connection, forwarding, deleted, deleted.updated_at)
            else:
                await remove_forwarding(connection, forwarding, deleted.updated_at)
            return deleted

        return await self._database.write(transaction, context)

    async def settings(self, context: CallContext, mailbox_id: str) -> MailboxForwarding:
        """Return the settings of a mailbox's forwardings. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> MailboxForwarding:
            return await fetch_settings(connection, await fetch_mailbox(connection, context.scope, mailbox_id))

        return await self._database.read(transaction, context)

    async def change_settings(
        self, context: CallContext, mailbox_id: str, rule: SettingsRule, forwarding_rule: ForwardingRule
    ) -> MailboxForwarding:
        """Apply a rule to the settings of a mailbox's forwardings, and return the settings. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> MailboxForwarding | Unchanged[MailboxForwarding]:
            _, mailbox = await _lock_mailbox(connection, context.scope, mailbox_id)
            settings = await fetch_settings(connection, mailbox)
            changed = rule(settings, mailbox)
            if changed is settings:
                return Unchanged(settings)
            changed = with_next_revision(changed)
            await _store_settings(connection, settings, changed)
            for forwarding in await forwardings_of(connection, mailbox, lock=True):
                applied = forwarding_rule(forwarding)
                if applied is not forwarding:
                    await store_forwarding(connection, forwarding, with_next_revision(applied), changed.updated_at)
            return changed

        return await self._database.write(transaction, context)


async def _lock_mailbox(connection: AsyncConnection, scope: Scope, mailbox_id: str) -> tuple[Domain, Mailbox]:
    """Lock and return a mailbox and its domain. Raises NotFound.

    Every transaction locks the domain's row before the mailbox's, and that before those of its forwardings: other
    orders could deadlock, with the activation of the domain too.
    """
    unlocked = await fetch_mailbox(connection, scope, mailbox_id)
    domain = await fetch_domain(connection, scope, unlocked.domain_id, lock=True)
    return domain, await fetch_mailbox(connection, scope, mailbox_id, lock=True)


async def _fetch_forwarding(
    connection: AsyncConnection, scope: Scope, forwarding_id: str, *, lock: bool = False
) -> Forwarding:
    """Return a forwarding in the scope, with its row locked if `lock`. Raises NotFound."""
    query = select(*FORWARDING).where(t.forwardings.c.id == forwarding_id, *scope_filter(t.forwardings, scope))
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound("forwarding", forwarding_id)
    return from_row(Forwarding, row)


async def _fetch_source(connection: AsyncConnection, mailbox: Mailbox, destination: str | None) -> ForwardingSource:
    """Return a mailbox, whose row is locked, as the source of a forwarding to a destination."""
    forwardings = await forwardings_of(connection, mailbox)
    if destination is None:
        return ForwardingSource(mailbox=mailbox, forwardings=forwardings)
    columns = t.aliases.c
    query = select(*ALIAS).where(
        columns.organization_id == mailbox.organization_id,
        columns.mailbox_id == mailbox.id,
        columns.email == local_address(destination),
    )
    row = (await connection.execute(query)).one_or_none()
    return ForwardingSource(mailbox=mailbox, forwardings=forwardings, alias=from_row(Alias, row) if row else None)


async def _store_settings(connection: AsyncConnection, before: MailboxForwarding, after: MailboxForwarding) -> None:
    """Store changed settings. A mailbox without a row has the first revision, its defaults."""
    columns = t.mailbox_forwardings.c
    if before.revision == 1:
        await connection.execute(insert(t.mailbox_forwardings).values(to_row(after)))
        return
    stored = (columns.mailbox_id == after.mailbox_id, columns.organization_id == after.organization_id)
    await connection.execute(update(t.mailbox_forwardings).where(*stored).values(to_row(after)))
