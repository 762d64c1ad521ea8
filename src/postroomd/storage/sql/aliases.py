"""Storage of aliases and their addresses."""

from collections.abc import Callable

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.aliases import request_alias
from postroomd.domain.context import CallContext
from postroomd.domain.errors import ResourceName
from postroomd.domain.forwardings import require_no_forwarding
from postroomd.domain.model import Alias, Mailbox
from postroomd.domain.policy import DEFAULT_QUOTAS, Quarantine, Quotas
from postroomd.domain.queries import AliasQuery, Page
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import AliasRule
from postroomd.storage.sql.forwardings import forwardings_of
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.mailbox_parts import delete_part, lock_mailbox, store_part
from postroomd.storage.sql.mailboxes import require_available
from postroomd.storage.sql.provisions import store_provisions
from postroomd.storage.sql.rows import LookupById, to_row, with_next_revision
from postroomd.storage.usage import require_within

_LOOKUP = LookupById(Alias, t.aliases, "alias")


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
            domain, mailbox = await lock_mailbox(connection, context.scope, mailbox_id)
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
            alias = await _LOOKUP.within(connection, context.scope, alias_id, lock=True)
            changed = rule(alias)
            if changed is alias:
                return Unchanged(alias)
            changed = with_next_revision(changed)
            await store_part(connection, alias, changed, changed.updated_at)
            return changed

        return await self._database.write(transaction, context)

    async def delete(self, context: CallContext, alias_id: str, rule: AliasRule) -> Alias:
        """Apply a rule that deletes an alias, and return the alias as the rule returned it. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Alias | Unchanged[Alias]:
            alias = await _LOOKUP.within(connection, context.scope, alias_id, lock=True)
            return await delete_part(connection, alias, rule)

        return await self._database.write(transaction, context)
