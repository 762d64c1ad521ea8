"""Storage of mailboxes, their addresses and the counts of mailboxes."""

from collections.abc import Collection, Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.addresses import Address
from postroomd.domain.context import CallContext
from postroomd.domain.errors import Conflict, NotFound, QuotaExceeded, ResourceName, summarize
from postroomd.domain.history import address_hash
from postroomd.domain.model import Domain, Mailbox, MailboxView
from postroomd.domain.policy import Quarantine
from postroomd.domain.queries import MailboxQuery, Page
from postroomd.domain.tenancy import Scope
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.mailboxes import NewMailbox
from postroomd.storage.protocols.rules import MailboxRule
from postroomd.storage.sql.changes import insert_mailboxes, store_mailbox
from postroomd.storage.sql.domains import fetch_domain
from postroomd.storage.sql.lists import ListReader
from postroomd.storage.sql.rows import (
    LookupById,
    columns_of,
    from_row,
    row_filter,
    scope_filter,
    with_next_revision,
)

MAILBOX = columns_of(Mailbox, t.mailboxes)
_LOOKUP = LookupById(Mailbox, t.mailboxes, "mailbox")
_VIEW_LOOKUP = LookupById(MailboxView, t.mailboxes, "mailbox")


async def fetch_mailbox(connection: AsyncConnection, scope: Scope, mailbox_id: str, *, lock: bool = False) -> Mailbox:
    """Return a mailbox in the scope, with its row locked if `lock`. Raises NotFound."""
    query = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id, *scope_filter(t.mailboxes, scope))
    row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound("mailbox", mailbox_id)
    return from_row(Mailbox, row)


async def require_available(
    connection: AsyncConnection,
    scope: Scope,
    domain: Domain,
    local_parts: Collection[str],
    quarantine: Quarantine | None,
) -> None:
    """Raise Conflict with every address of the domain that is in use by a mailbox or an alias, or in quarantine.

    The caller has locked the domain's row, so that no other transaction can take an address before the commit.
    """
    query = select(t.addresses.c.local_part, t.addresses.c.mailbox_id, t.addresses.c.alias_id).where(
        t.addresses.c.organization_id == scope.organization_id,
        t.addresses.c.domain_id == domain.id,
        t.addresses.c.local_part.in_(local_parts),
    )
    in_use = (await connection.execute(query.order_by(t.addresses.c.local_part))).all()
    if in_use:
        names = [
            ResourceName("alias", row.alias_id) if row.alias_id else ResourceName("mailbox", row.mailbox_id)
            for row in in_use
        ]
        addresses = summarize([str(Address(row.local_part, domain.name)) for row in in_use])
        raise Conflict(f"local_part is already in use: {addresses}; choose another", names)
    if quarantine is not None:
        await _require_unquarantined(connection, domain, local_parts, quarantine)


async def _require_unquarantined(
    connection: AsyncConnection, domain: Domain, local_parts: Collection[str], quarantine: Quarantine
) -> None:
    addresses = {
        address_hash(domain.organization_id, address): address
        for address in (str(Address(local_part, domain.name)) for local_part in sorted(local_parts))
    }
    query = select(t.tombstones.c.address_hash, t.tombstones.c.purged_at).where(
        t.tombstones.c.organization_id == domain.organization_id,
        t.tombstones.c.address_hash.in_(addresses),
        t.tombstones.c.purged_at > quarantine.since,
    )
    quarantined = (await connection.execute(query)).all()
    if quarantined:
        until = quarantine.end(max(row.purged_at for row in quarantined))
        names = sorted({addresses[row.address_hash] for row in quarantined})
        raise Conflict(
            f"local_part is in quarantine until {until:%Y-%m-%dT%H:%M:%SZ}: {summarize(names)};"
            " choose another, or wait",
            [ResourceName("mailbox", name) for name in names],
        )


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
            await require_available(connection, context.scope, domain, local_parts, quarantine)
            await _take_quota(connection, domain, len(created))
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
        """Apply a rule to a mailbox, store its new password if it has one, and return the mailbox. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Mailbox:
            mailbox = await fetch_mailbox(connection, context.scope, mailbox_id, lock=True)
            domain = await fetch_domain(connection, context.scope, mailbox.domain_id)
            changed = rule(mailbox, domain.status)
            if changed is not mailbox:
                changed = with_next_revision(changed)
                await store_mailbox(connection, context.actor, mailbox, changed, password_hash)
            return changed

        return await self._database.write(transaction, context)


async def _take_quota(connection: AsyncConnection, domain: Domain, count: int) -> None:
    """Add new mailboxes to the counts of their project and domain. Raises QuotaExceeded.

    The UPDATE itself has the condition: of two batches that race for the last place, the second matches no row.
    """
    project = (t.projects.c.id == domain.project_id, t.projects.c.organization_id == domain.organization_id)
    new_count = t.projects.c.mailbox_count + count
    counting = update(t.projects).where(*project, new_count <= t.projects.c.mailbox_quota)
    if (await connection.execute(counting.values(mailbox_count=new_count))).rowcount == 0:
        usage = select(t.projects.c.mailbox_quota, t.projects.c.mailbox_count).where(*project)
        quota, current = (await connection.execute(usage)).one()
        raise QuotaExceeded("mailboxes", quota, current, domain.project_id)
    await connection.execute(
        update(t.domains)
        .where(*row_filter(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count + count, revision=t.domains.c.revision + 1)
    )
