"""Aliases, and the addresses that they hold."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.aliases import request_alias
from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.model import Alias, Mailbox
from postroomd.domain.policy import Quarantine
from postroomd.domain.queries import AliasQuery, Page
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import AliasRule
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.lists import Lists
from postroomd.storage.sql.mailboxes import fetch_mailbox, require_free
from postroomd.storage.sql.provisions import store_provisions, void_provisions
from postroomd.storage.sql.rows import ById, columns_of, counted, made, this_row, values_of, within

ALIAS = columns_of(Alias, t.aliases)
_BY_ID = ById(Alias, t.aliases, "alias")


async def fetch_alias(connection: AsyncConnection, scope: Scope, alias_id: str, *, lock: bool = False) -> Alias:
    """One alias of the caller's, with its row locked where it is to be written. Raises NotFound."""
    found = select(*ALIAS).where(t.aliases.c.id == alias_id, *within(t.aliases, scope))
    row = (await connection.execute(found.with_for_update() if lock else found)).one_or_none()
    if row is None:
        raise NotFound("alias", alias_id)
    return made(Alias, row)


async def store_alias(connection: AsyncConnection, before: Alias, after: Alias, now: datetime) -> None:
    """Write an alias that a rule has changed, with the mail platform's work on it."""
    await connection.execute(update(t.aliases).where(*this_row(t.aliases, before)).values(values_of(after)))
    await store_provisions(connection, [(before, after)], now)


async def remove_alias(connection: AsyncConnection, alias: Alias, now: datetime) -> None:
    """Delete an alias, whose address goes with it; nobody waits for work on it any more."""
    await connection.execute(delete(t.aliases).where(*this_row(t.aliases, alias)))
    await void_provisions(connection, [alias.provision_id] if alias.provision_id else [], now)


class SqlAliases:
    """The aliases of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lists = Lists(database, Alias, t.aliases)

    async def create(
        self,
        context: CallContext,
        mailbox_id: str,
        make: Callable[[Mailbox], Alias],
        quarantine: Quarantine | None = None,
    ) -> Alias:
        """Store a new alias, made from its mailbox.

        Raises NotFound for the mailbox, Conflict for an address that is taken or in quarantine.
        """

        async def work(connection: AsyncConnection) -> Alias:
            # The domain's row is locked first, as in every write that takes both: two orders could deadlock.
            unlocked = await fetch_mailbox(connection, context.scope, mailbox_id)
            domain = await fetch_domain(connection, context.scope, unlocked.domain_id, lock=True)
            alias = make(await fetch_mailbox(connection, context.scope, mailbox_id, lock=True))
            local_part = alias.address.local_part
            await require_free(connection, context.scope, domain, [local_part], quarantine)
            alias = request_alias(alias, domain.status)
            await connection.execute(insert(t.aliases).values(values_of(alias)))
            await store_provisions(connection, [(None, alias)], alias.created_at)
            address = {
                "domain_id": alias.domain_id,
                "local_part": local_part,
                "organization_id": alias.organization_id,
                "alias_id": alias.id,
            }
            await connection.execute(insert(t.addresses).values(address))
            return alias

        return await self._database.write(work, context)

    async def get(self, context: CallContext, alias_id: str) -> Alias:
        """One alias. Raises NotFound."""
        return await _BY_ID.found(self._database, context, alias_id)

    async def list(self, context: CallContext, query: AliasQuery) -> Page[Alias]:
        """One page of aliases."""
        return await self._lists.page(context, query)

    async def change(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule to an alias. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Alias:
            alias = await fetch_alias(connection, context.scope, alias_id, lock=True)
            changed = rule(alias)
            if changed is not alias:
                changed = counted(changed)
                await store_alias(connection, alias, changed, changed.updated_at)
            return changed

        return await self._database.write(work, context)

    async def delete(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and remove it unless its mail platform has to first. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Alias:
            alias = await fetch_alias(connection, context.scope, alias_id, lock=True)
            deleted = rule(alias)
            if deleted is alias:
                return alias
            if deleted.provision_id is not None:
                deleted = counted(deleted)
                await store_alias(connection, alias, deleted, deleted.updated_at)
            else:
                await remove_alias(connection, alias, deleted.updated_at)
            return deleted

        return await self._database.write(work, context)
