"""Storage of aliases and their addresses."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.aliases import request_alias
from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound, ResourceName
from postroomd.domain.forwardings import require_no_forwarding
from postroomd.domain.model import Alias, Mailbox
from postroomd.domain.policy import DEFAULT_QUOTAS, Quarantine, Quotas
from postroomd.domain.queries import AliasQuery, Page
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import AliasRule
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.forwardings import forwardings_of
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.mailboxes import fetch_mailbox, require_available
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
from postroomd.storage.usage import require_within

ALIAS = columns_of(Alias, t.aliases)
_LOOKUP = LookupById(Alias, t.aliases, "alias")


async def fetch_alias(connection: AsyncConnection, scope: Scope, alias_id: str, *, lock: bool = False) -> Alias:
    """Return an alias in the scope, with its row locked if `lock`. Raises NotFound."""
    query = select(*ALIAS).where(t.aliases.c.id == alias_id, *scope_filter(t.aliases, scope))
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound("alias", alias_id)
    return from_row(Alias, row)


async def store_alias(connection: AsyncConnection, before: Alias, after: Alias, now: datetime) -> None:
    """Update a changed alias and its provisions."""
    await connection.execute(update(t.aliases).where(*row_filter(t.aliases, before)).values(to_row(after)))
    await store_provisions(connection, [(before, after)], now)


async def remove_alias(connection: AsyncConnection, alias: Alias, now: datetime) -> None:
    """Delete an alias with its address, and void its pending provision."""
    await connection.execute(delete(t.aliases).where(*row_filter(t.aliases, alias)))
    await void_provisions(connection, [alias.provision_id] if alias.provision_id else [], now)


class SqlAliases:
    """The aliases of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._list = ListReader(database, Alias, t.aliases)

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        make: Callable[[Mailbox], Alias],
        quarantine: Quarantine | None = None,
        quotas: Quotas = DEFAULT_QUOTAS,
    ) -> Alias:
        """Store and return the alias that `make` returns for its mailbox. Raises NotFound, NameTaken, QuotaExceeded."""

        async def transaction(connection: AsyncConnection) -> Alias:
            # Every transaction locks the domain's row before the mailbox's: two orders could deadlock.
            unlocked = await fetch_mailbox(connection, context.scope, mailbox_id)
            domain = await fetch_domain(connection, context.scope, unlocked.domain_id, lock=True)
            mailbox = await fetch_mailbox(connection, context.scope, mailbox_id, lock=True)
            alias = make(mailbox)
            local_part = alias.address.local_part
            await require_available(connection, context.scope, domain, {local_part: "local_part"}, quarantine)
            require_no_forwarding(alias, await forwardings_of(connection, mailbox))
            alias = request_alias(alias, domain.status)
            await connection.execute(insert(t.aliases).values(to_row(alias)))
            limits = {
                ResourceName("mailbox", mailbox_id): quotas.mailbox_aliases,
                ResourceName("organization", alias.organization_id): quotas.aliases,
            }
            await require_within(connection, alias.organization_id, t.aliases.name, limits, added=1)
            await store_provisions(connection, [(None, alias)], alias.created_at)
            address = {
                "domain_id": alias.domain_id,
                "local_part": local_part,
                "organization_id": alias.organization_id,
                "alias_id": alias.id,
            }
            await connection.execute(insert(t.addresses).values(address))
            return alias

        return await self._database.write(transaction, context)

    async def get(self, context: CallContext, alias_id: str) -> Alias:
        """Return an alias. Raises NotFound."""
        return await _LOOKUP.fetch(self._database, context, alias_id)

    async def list(self, context: CallContext, query: AliasQuery) -> Page[Alias]:
        """Return one page of aliases."""
        return await self._list.page(context, query)

    async def change(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule to an alias, and return the alias. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Alias | Unchanged[Alias]:
            alias = await fetch_alias(connection, context.scope, alias_id, lock=True)
            changed = rule(alias)
            if changed is alias:
                return Unchanged(alias)
            changed = with_next_revision(changed)
            await store_alias(connection, alias, changed, changed.updated_at)
            return changed

        return await self._database.write(transaction, context)

    async def delete(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and return the alias as the rule returned it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Alias | Unchanged[Alias]:
            alias = await fetch_alias(connection, context.scope, alias_id, lock=True)
            deleted = rule(alias)
            if deleted is alias:
                return Unchanged(alias)
            if deleted.provision_id is not None:
                deleted = with_next_revision(deleted)
                await store_alias(connection, alias, deleted, deleted.updated_at)
            else:
                await remove_alias(connection, alias, deleted.updated_at)
            return deleted

        return await self._database.write(transaction, context)
