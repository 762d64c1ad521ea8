"""Storage of mailboxes, their addresses and the counts of mailboxes."""

from collections.abc import Mapping, Sequence

from sqlalchemy import and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.addresses import Address
from postroomd.domain.context import CallContext
from postroomd.domain.errors import QUARANTINED, NameTaken, Taken
from postroomd.domain.history import address_hash
from postroomd.domain.model import Domain, Mailbox, MailboxStatus, MailboxView
from postroomd.domain.policy import Quarantine
from postroomd.domain.queries import MailboxQuery, Page
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.rules import MailboxRule
from postroomd.storage.sql.changes import insert_mailboxes, store_mailbox
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.quotas import take_quota
from postroomd.storage.sql.rows import (
    LookupById,
    columns_of,
    row_filter,
    with_next_revision,
)

MAILBOX = columns_of(Mailbox, t.mailboxes)
_LOOKUP = LookupById(Mailbox, t.mailboxes, "mailbox")
_VIEW_LOOKUP = LookupById(MailboxView, t.mailboxes, "mailbox")


async def fetch_mailbox(connection: AsyncConnection, scope: Scope, mailbox_id: str, *, lock: bool = False) -> Mailbox:
    """Return a mailbox in the scope, with its row locked if `lock`. Raises NotFound."""
    return await _LOOKUP.within(connection, scope, mailbox_id, lock=lock)


async def require_available(
    connection: AsyncConnection,
    scope: Scope,
    domain: Domain,
    fields: Mapping[str, str],
    quarantine: Quarantine | None,
) -> None:
    """Raise NameTaken with every address of the domain that is in use by a mailbox or an alias, or in quarantine.

    `fields` has the paths of the arguments by local part. The caller has locked the domain's row, so that no other
    transaction can take an address before the commit.
    """
    taken = await _in_use(connection, scope, domain, fields)
    if quarantine is not None:
        taken = await _in_quarantine(connection, domain, fields, quarantine) | taken
    if taken:
        raise NameTaken([taken[local_part] for local_part in fields if local_part in taken])


async def _in_use(
    connection: AsyncConnection, scope: Scope, domain: Domain, fields: Mapping[str, str]
) -> dict[str, Taken]:
    """Return the addresses that mailboxes and aliases have, by local part."""
    addresses, mailboxes, aliases = t.addresses.c, t.mailboxes.c, t.aliases.c
    of_mailbox = and_(mailboxes.id == addresses.mailbox_id, mailboxes.organization_id == addresses.organization_id)
    of_alias = and_(aliases.id == addresses.alias_id, aliases.organization_id == addresses.organization_id)
    query = (
        select(
            addresses.local_part,
            addresses.alias_id,
            addresses.mailbox_id,
            mailboxes.status.label("mailbox_status"),
            aliases.status.label("alias_status"),
            mailboxes.deletion_scheduled_at,
        )
        .select_from(t.addresses.outerjoin(t.mailboxes, of_mailbox).outerjoin(t.aliases, of_alias))
        .where(
            addresses.organization_id == scope.organization_id,
            addresses.domain_id == domain.id,
            addresses.local_part.in_(fields),
        )
    )
    return {
        row.local_part: Taken(
            field=fields[row.local_part],
            name=str(Address(row.local_part, domain.name)),
            resource_type="alias" if row.alias_id else "mailbox",
            resource_id=row.alias_id or row.mailbox_id,
            status=row.alias_status or row.mailbox_status,
            until=row.deletion_scheduled_at if row.mailbox_status is MailboxStatus.DELETION_SCHEDULED else None,
        )
        for row in await connection.execute(query)
    }


async def _in_quarantine(
    connection: AsyncConnection, domain: Domain, fields: Mapping[str, str], quarantine: Quarantine
) -> dict[str, Taken]:
    """Return the addresses that are in quarantine, by local part."""
    local_parts = {
        address_hash(domain.organization_id, str(Address(local_part, domain.name))): local_part for local_part in fields
    }
    last_purge = func.max(t.tombstones.c.purged_at, type_=t.Instant).label("last_purge")
    query = (
        select(t.tombstones.c.address_hash, last_purge)
        .where(
            t.tombstones.c.organization_id == domain.organization_id,
            t.tombstones.c.address_hash.in_(local_parts),
            t.tombstones.c.purged_at > quarantine.since,
        )
        .group_by(t.tombstones.c.address_hash)
    )
    return {
        (local_part := local_parts[row.address_hash]): Taken(
            field=fields[local_part],
            name=str(Address(local_part, domain.name)),
            resource_type="mailbox",
            status=QUARANTINED,
            until=quarantine.end(row.last_purge),
        )
        for row in await connection.execute(query)
    }


class SqlMailboxes:
    """The mailboxes of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._list = ListReader(database, MailboxView, t.mailboxes)

    async def create(
        self, context: CallContext, domain_id: str, batch: Sequence[NewMailbox], quarantine: Quarantine | None = None
    ) -> Sequence[Mailbox]:
        """Store a batch of mailboxes of one domain, all or none. Raises NotFound, Conflict, QuotaExceeded."""

        async def transaction(connection: AsyncConnection) -> list[Mailbox]:
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            created = [new.make(domain) for new in batch]
            local_parts = [mailbox.address.local_part for mailbox in created]
            fields = {local_part: f"mailboxes[{index}].local_part" for index, local_part in enumerate(local_parts)}
            await require_available(connection, context.scope, domain, fields, quarantine)
            await take_quota(connection, domain, len(created))
            await _add_to_total(connection, domain, len(created))
            addresses = [
                {
                    "domain_id": domain.id,
                    "local_part": local_part,
                    "organization_id": domain.organization_id,
                    "mailbox_id": mailbox.id,
                }
                for mailbox, local_part in zip(created, local_parts, strict=True)
            ]
            await insert_mailboxes(connection, context.actor, created, [new.password_hash for new in batch])
            await connection.execute(insert(t.addresses), addresses)
            return created

        return await self._database.write(transaction, context)

    async def get(self, context: CallContext, mailbox_id: str) -> Mailbox:
        """Return a mailbox. Raises NotFound."""
        return await _LOOKUP.fetch(self._database, context, mailbox_id)

    async def view(self, context: CallContext, mailbox_id: str) -> MailboxView:
        """Return the view of a mailbox. Raises NotFound."""
        return await _VIEW_LOOKUP.fetch(self._database, context, mailbox_id)

    async def list(self, context: CallContext, query: MailboxQuery) -> Page[MailboxView]:
        """Return one page of mailbox views."""
        return await self._list.page(context, query)

    async def change(
        self, context: CallContext, mailbox_id: str, rule: MailboxRule, password_hash: str | None = None
    ) -> Mailbox:
        """Apply a rule to a mailbox, store its new password if it has one, and return the mailbox.

        Raises NotFound, and QuotaExceeded for a restored mailbox that did not count while it was deleted.
        """

        async def transaction(connection: AsyncConnection) -> Mailbox | Unchanged[Mailbox]:
            mailbox = await fetch_mailbox(connection, context.scope, mailbox_id, lock=True)
            domain = await fetch_domain(connection, context.scope, mailbox.domain_id)
            changed = rule(mailbox, domain.status)
            if changed is mailbox:
                return Unchanged(mailbox)
            changed = with_next_revision(changed)
            await store_mailbox(connection, context.actor, mailbox, changed, password_hash)
            return changed

        return await self._database.write(transaction, context)


async def _add_to_total(connection: AsyncConnection, domain: Domain, count: int) -> None:
    """Add new mailboxes to the total of their domain."""
    await connection.execute(
        update(t.domains)
        .where(*row_filter(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count + count, revision=t.domains.c.revision + 1)
    )
