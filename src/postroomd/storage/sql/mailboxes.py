"""Mailboxes, their addresses, and the counts that are kept with them."""

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
from postroomd.storage.sql.lists import Lists
from postroomd.storage.sql.rows import (
    ById,
    columns_of,
    counted,
    made,
    this_row,
    within,
)

MAILBOX = columns_of(Mailbox, t.mailboxes)
_BY_ID = ById(Mailbox, t.mailboxes, "mailbox")
_VIEW_BY_ID = ById(MailboxView, t.mailboxes, "mailbox")


async def fetch_mailbox(connection: AsyncConnection, scope: Scope, mailbox_id: str, *, lock: bool = False) -> Mailbox:
    """One mailbox of the caller's, with its row locked where it is to be written. Raises NotFound."""
    found = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id, *within(t.mailboxes, scope))
    row = (await connection.execute(found.with_for_update() if lock else found)).one_or_none()
    if row is None:
        raise NotFound("mailbox", mailbox_id)
    return made(Mailbox, row)


async def require_free(
    connection: AsyncConnection,
    scope: Scope,
    domain: Domain,
    local_parts: Collection[str],
    quarantine: Quarantine | None,
) -> None:
    """Raise Conflict, with every address of the domain that a mailbox or an alias has already, or had too lately."""
    has_them = select(t.addresses.c.local_part, t.addresses.c.mailbox_id, t.addresses.c.alias_id).where(
        t.addresses.c.organization_id == scope.organization_id,
        t.addresses.c.domain_id == domain.id,
        t.addresses.c.local_part.in_(local_parts),
    )
    taken = (await connection.execute(has_them.order_by(t.addresses.c.local_part))).all()
    if taken:
        names = [
            ResourceName("alias", row.alias_id) if row.alias_id else ResourceName("mailbox", row.mailbox_id)
            for row in taken
        ]
        addresses = summarize([str(Address(row.local_part, domain.name)) for row in taken])
        raise Conflict(f"already in use: {addresses}", names)
    if quarantine is not None:
        await _require_out_of_quarantine(connection, domain, local_parts, quarantine)


async def _require_out_of_quarantine(
    connection: AsyncConnection, domain: Domain, local_parts: Collection[str], quarantine: Quarantine
) -> None:
    addresses = {
        address_hash(domain.organization_id, address): address
        for address in (str(Address(local_part, domain.name)) for local_part in sorted(local_parts))
    }
    kept = select(t.tombstones.c.address_hash, t.tombstones.c.purged_at).where(
        t.tombstones.c.organization_id == domain.organization_id,
        t.tombstones.c.address_hash.in_(addresses),
        t.tombstones.c.purged_at > quarantine.since,
    )
    found = (await connection.execute(kept)).all()
    if found:
        until = quarantine.end(max(row.purged_at for row in found))
        names = sorted({addresses[row.address_hash] for row in found})
        raise Conflict(
            f"purged not long ago, and kept from use until {until:%Y-%m-%dT%H:%M:%SZ}: {summarize(names)}",
            [ResourceName("mailbox", name) for name in names],
        )


class SqlMailboxes:
    """The mailboxes of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lists = Lists(database, Mailbox, t.mailboxes)
        self._views = Lists(database, MailboxView, t.mailboxes)

    async def create(
        self, context: CallContext, domain_id: str, batch: Sequence[NewMailbox], quarantine: Quarantine | None = None
    ) -> Sequence[Mailbox]:
        """Store new mailboxes of one domain, all or none, and take their project's quota with them.

        Raises NotFound for the domain, Conflict with every address that is taken or in quarantine, QuotaExceeded.
        """

        async def work(connection: AsyncConnection) -> list[Mailbox]:
            # The domain's lock is what makes the look for taken addresses hold until the commit.
            domain = await fetch_domain(connection, context.scope, domain_id, lock=True)
            created = [new.make(domain) for new in batch]
            local_parts = [mailbox.address.local_part for mailbox in created]
            await require_free(connection, context.scope, domain, local_parts, quarantine)
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

        return await self._database.write(work, context)

    async def get(self, context: CallContext, mailbox_id: str) -> Mailbox:
        """One mailbox. Raises NotFound."""
        return await _BY_ID.found(self._database, context, mailbox_id)

    async def view(self, context: CallContext, mailbox_id: str) -> MailboxView:
        """What callers see of one mailbox. Raises NotFound."""
        return await _VIEW_BY_ID.found(self._database, context, mailbox_id)

    async def list(self, context: CallContext, query: MailboxQuery) -> Page[Mailbox]:
        """One page of mailboxes."""
        return await self._lists.page(context, query)

    async def list_views(self, context: CallContext, query: MailboxQuery) -> Page[MailboxView]:
        """The same page, of what callers see: it is read in a quarter of the time."""
        return await self._views.page(context, query)

    async def change(
        self, context: CallContext, mailbox_id: str, rule: MailboxRule, password_hash: str | None = None
    ) -> Mailbox:
        """Apply a rule to a mailbox and the status of its domain, and store the password. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Mailbox:
            mailbox = await fetch_mailbox(connection, context.scope, mailbox_id, lock=True)
            domain = await fetch_domain(connection, context.scope, mailbox.domain_id)
            changed = rule(mailbox, domain.status)
            if changed is not mailbox:
                changed = counted(changed)
                await store_mailbox(connection, context.actor, mailbox, changed, password_hash)
            return changed

        return await self._database.write(work, context)


async def _take_quota(connection: AsyncConnection, domain: Domain, count: int) -> None:
    """Count new mailboxes on their project and domain. Raises QuotaExceeded.

    The condition stands in the UPDATE itself: of two batches that race for the last place, the second matches no row.
    """
    project = (t.projects.c.id == domain.project_id, t.projects.c.organization_id == domain.organization_id)
    more = t.projects.c.mailbox_count + count
    taking = update(t.projects).where(*project, more <= t.projects.c.mailbox_quota).values(mailbox_count=more)
    if (await connection.execute(taking)).rowcount == 0:
        standing = select(t.projects.c.mailbox_quota, t.projects.c.mailbox_count).where(*project)
        quota, current = (await connection.execute(standing)).one()
        raise QuotaExceeded("mailboxes", quota, current, domain.project_id)
    await connection.execute(
        update(t.domains)
        .where(*this_row(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count + count, revision=t.domains.c.revision + 1)
    )
