"""Storage of forwardings and of their settings."""

from collections.abc import Callable, Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.destinations import local_address
from postroomd.domain.forwardings import ForwardingSource, default_settings, request_forwarding
from postroomd.domain.model import Alias, Forwarding, Mailbox, MailboxForwarding
from postroomd.domain.queries import ForwardingQuery, Page
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import ForwardingRule, RedirectionRule, SettingsRule
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.mailbox_parts import COLUMNS, delete_part, lock_mailbox, store_part
from postroomd.storage.sql.mailboxes import fetch_mailbox
from postroomd.storage.sql.provisions import store_provisions
from postroomd.storage.sql.rows import LookupById, columns_of, from_row, to_row, with_next_revision

SETTINGS = columns_of(MailboxForwarding, t.mailbox_forwardings)
_LOOKUP = LookupById(Forwarding, t.forwardings, "forwarding")


async def forwardings_of(connection: AsyncConnection, mailbox: Mailbox, *, lock: bool = False) -> Sequence[Forwarding]:
    """Return all forwardings of a mailbox, whose row is locked; with their rows locked if `lock`."""
    columns = t.forwardings.c
    query = select(*COLUMNS[Forwarding]).where(
        columns.mailbox_id == mailbox.id, columns.organization_id == mailbox.organization_id
    )
    rows = await connection.execute(query.order_by(columns.id).with_for_update() if lock else query)
    return [from_row(Forwarding, row) for row in rows]


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
            domain, mailbox = await lock_mailbox(connection, context.scope, mailbox_id)
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
            unlocked = await _LOOKUP.within(connection, context.scope, forwarding_id)
            _, mailbox = await lock_mailbox(connection, context.scope, unlocked.mailbox_id)
            forwarding = await _LOOKUP.within(connection, context.scope, forwarding_id, lock=True)
            changed = rule(forwarding, await _fetch_source(connection, mailbox, destination))
            if changed is forwarding:
                return Unchanged(forwarding)
            changed = with_next_revision(changed)
            await store_part(connection, forwarding, changed, changed.updated_at)
            return changed

        return await self._database.write(transaction, context)

    async def delete(self, context: CallContext, forwarding_id: str, rule: ForwardingRule) -> Forwarding:
        """Apply a rule that deletes a forwarding, and return it as the rule returned it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Forwarding | Unchanged[Forwarding]:
            forwarding = await _LOOKUP.within(connection, context.scope, forwarding_id, lock=True)
            return await delete_part(connection, forwarding, rule)

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
            _, mailbox = await lock_mailbox(connection, context.scope, mailbox_id)
            settings = await fetch_settings(connection, mailbox)
            changed = rule(settings, mailbox)
            if changed is settings:
                return Unchanged(settings)
            changed = with_next_revision(changed)
            await _store_settings(connection, settings, changed)
            for forwarding in await forwardings_of(connection, mailbox, lock=True):
                applied = forwarding_rule(forwarding)
                if applied is not forwarding:
                    await store_part(connection, forwarding, with_next_revision(applied), changed.updated_at)
            return changed

        return await self._database.write(transaction, context)


async def _fetch_source(connection: AsyncConnection, mailbox: Mailbox, destination: str | None) -> ForwardingSource:
    """Return a mailbox, whose row is locked, as the source of a forwarding to a destination."""
    forwardings = await forwardings_of(connection, mailbox)
    if destination is None:
        return ForwardingSource(mailbox=mailbox, forwardings=forwardings)
    columns = t.aliases.c
    query = select(*COLUMNS[Alias]).where(
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
