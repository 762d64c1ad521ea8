"""The operator's side: payments, the mail platform's work, locks, history and tombstones, of every tenant."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import InvalidArguments, NotFound, Reason, Violation
from postroomd.domain.history import Tombstone, Transition, address_hash
from postroomd.domain.model import Alias, Domain, DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision, ProvisionKind
from postroomd.domain.queries import Slice
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule, ProvisionRule
from postroomd.storage.sql.aliases import ALIAS, remove_alias, store_alias
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.domains import DOMAIN, lock_domain, store_domain
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import columns_of, from_row, row_filter, to_row, with_next_revision

PAYMENT = columns_of(Payment, t.payments)
PROVISION = columns_of(Provision, t.provisions)
TRANSITION = columns_of(Transition, t.transitions)
TOMBSTONE = columns_of(Tombstone, t.tombstones)

CHUNK = 500  # organizations whose tombstones are looked through at a time


class SqlAdministration:
    """The operator's side of every tenant's mailboxes. A cursor is "" for the start of a list, and opaque."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending_payments(self, cursor: str, limit: int) -> Slice[Payment]:
        """Payments that are pending, refused or overdue, oldest first, but for those of mailboxes that are to go."""
        columns = t.payments.c
        listing = (
            select(*[*PAYMENT, t.mailboxes.c.email.label("address")])
            .join(t.mailboxes, t.mailboxes.c.id == columns.mailbox_id)
            .where(
                t.OPEN_PAYMENT,
                t.mailboxes.c.status.not_in((MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING)),
                *_beyond(cursor, columns.requested_at, columns.id),
            )
            .order_by(columns.requested_at, columns.id)
            .limit(limit + 1)
        )

        async def work(connection: AsyncConnection) -> list[Payment]:
            return [from_row(Payment, row) for row in await connection.execute(listing)]

        found = await self._database.read(work)
        return _slice(found, limit, lambda payment: _cursor(payment.requested_at, payment.id))

    async def settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Payment:
            found = select(*PAYMENT).where(t.payments.c.id == payment_id)
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                raise NotFound("payment", payment_id)
            # The mailbox's row comes first, as where the worker moves both.
            mailbox, status = await _lock_mailbox(connection, row.mailbox_id)
            payment = _payment((await connection.execute(found.with_for_update())).one())
            settled, changed = rule(payment, mailbox, status)
            if settled is not payment:
                storing = update(t.payments).where(t.payments.c.id == payment.id)
                await connection.execute(storing.values(to_row(settled)))
            if mailbox is not None and changed is not None and changed is not mailbox:
                await store_mailbox(connection, context.actor, mailbox, with_next_revision(changed))
            return replace(settled, address=mailbox.email if mailbox else "")

        return await self._database.write(work, context)

    async def pending_provisions(self, now: datetime, cursor: str, limit: int) -> Slice[Provision]:
        """The mail platform's work that may be tried by now, the longest due first."""
        columns = t.provisions.c
        address = func.coalesce(t.aliases.c.email, t.mailboxes.c.email, t.domains.c.name, "")
        listing = (
            select(*[*PROVISION, address.label("address")])
            .join(t.domains, t.domains.c.id == columns.domain_id, isouter=True)
            .join(t.mailboxes, t.mailboxes.c.id == columns.mailbox_id, isouter=True)
            .join(t.aliases, t.aliases.c.id == columns.alias_id, isouter=True)
            .where(
                t.PENDING_PROVISION,
                columns.next_attempt_at <= now,
                *_beyond(cursor, columns.next_attempt_at, columns.id),
            )
            .order_by(columns.next_attempt_at, columns.id)
            .limit(limit + 1)
        )

        async def work(connection: AsyncConnection) -> list[Provision]:
            return [from_row(Provision, row) for row in await connection.execute(listing)]

        found = await self._database.read(work)
        return _slice(found, limit, lambda provision: _cursor(provision.next_attempt_at, provision.id))

    async def settle_provision(self, context: CallContext, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a piece of work and what it is about. Raises NotFound."""

        async def work(connection: AsyncConnection) -> Provision:
            found = select(*PROVISION).where(t.provisions.c.id == provision_id)
            row = (await connection.execute(found)).one_or_none()
            if row is None:
                raise NotFound("provision", provision_id)
            domain, subject = await _lock_subject(connection, _provision(row))
            provision = _provision((await connection.execute(found.with_for_update())).one())
            status = domain.status if domain else DomainStatus.DELETING
            settled, changed = rule(provision, subject, status)
            if settled is not provision:
                storing = update(t.provisions).where(t.provisions.c.id == provision.id)
                await connection.execute(storing.values(to_row(settled)))
            if domain is not None and subject is not None and changed is not subject:
                await _store_subject(
                    connection, context.actor, domain, subject, changed, settled.settled_at or settled.requested_at
                )
            return replace(settled, address=_address(subject))

        return await self._database.write(work, context)

    async def change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox of any tenant. Raises NotFound, also for a purged one."""

        async def work(connection: AsyncConnection) -> Mailbox:
            mailbox, status = await _lock_mailbox(connection, mailbox_id)
            if mailbox is None:
                raise NotFound("mailbox", mailbox_id)
            changed = rule(mailbox, status)
            if changed is not mailbox:
                changed = with_next_revision(changed)
                await store_mailbox(connection, context.actor, mailbox, changed)
            return changed

        return await self._database.write(work, context)

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """A mailbox of any tenant, or what is left of it. Raises NotFound for one that never was."""

        async def work(connection: AsyncConnection) -> Mailbox | Tombstone:
            living = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id)
            if row := (await connection.execute(living)).one_or_none():
                return from_row(Mailbox, row)
            purged = select(*TOMBSTONE).where(t.tombstones.c.mailbox_id == mailbox_id)
            if row := (await connection.execute(purged)).one_or_none():
                return from_row(Tombstone, row)
            raise NotFound("mailbox", mailbox_id)

        return await self._database.read(work)

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """A mailbox's history beyond a revision, in order. Raises NotFound for a mailbox that never was."""

        async def work(connection: AsyncConnection) -> list[Transition]:
            columns = t.transitions.c
            listing = select(*TRANSITION).where(columns.mailbox_id == mailbox_id, columns.revision > after)
            rows = (await connection.execute(listing.order_by(columns.revision).limit(limit))).all()
            return [from_row(Transition, row) for row in rows]

        found = await self._database.read(work)
        if not found:
            await self.get_mailbox(mailbox_id)
        return found

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """The ids of all mailboxes that have the address, or had it when they were purged: newest last."""

        async def work(connection: AsyncConnection) -> list[str]:
            # By way of the organizations: every index on addresses begins with theirs.
            living = (
                select(t.mailboxes.c.id, t.mailboxes.c.created_at)
                .select_from(t.organizations)
                .join(t.mailboxes, t.mailboxes.c.organization_id == t.organizations.c.id)
                .where(t.mailboxes.c.email == address)
                .order_by(t.mailboxes.c.created_at, t.mailboxes.c.id)
            )
            ids = [row.id for row in await connection.execute(living)]
            organizations = (await connection.execute(select(t.organizations.c.id))).scalars().all()
            purged: list[tuple[datetime, str]] = []
            columns = t.tombstones.c
            for start in range(0, len(organizations), CHUNK):
                hashes = [(each, address_hash(each, address)) for each in organizations[start : start + CHUNK]]
                theirs = tuple_(columns.organization_id, columns.address_hash).in_(hashes)
                listing = select(columns.purged_at, columns.mailbox_id).where(theirs)
                purged += [(row.purged_at, row.mailbox_id) for row in await connection.execute(listing)]
            return [mailbox_id for _, mailbox_id in sorted(purged)] + ids

        return await self._database.read(work)


async def _lock_mailbox(connection: AsyncConnection, mailbox_id: str) -> tuple[Mailbox | None, DomainStatus]:
    """A mailbox of any tenant, with its row locked, and where its domain stands."""
    found = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id).with_for_update()
    row = (await connection.execute(found)).one_or_none()
    if row is None:
        return None, DomainStatus.DELETING
    mailbox = from_row(Mailbox, row)
    its_domain = select(t.domains.c.status).where(t.domains.c.id == mailbox.domain_id)
    return mailbox, (await connection.execute(its_domain)).scalar_one()


async def _lock_subject(connection: AsyncConnection, provision: Provision) -> tuple[Domain | None, Subject | None]:
    """What work is about, with its row locked; the domain's row before it where that keeps the counts."""
    counts = provision.kind is ProvisionKind.DELETE or provision.mailbox_id is None
    if counts:
        domain = await lock_domain(connection, provision.domain_id)
    else:
        found = await connection.execute(select(*DOMAIN).where(t.domains.c.id == provision.domain_id))
        domain = from_row(Domain, row) if (row := found.one_or_none()) else None
    if provision.alias_id is not None:
        finding = select(*ALIAS).where(t.aliases.c.id == provision.alias_id).with_for_update()
        alias = (await connection.execute(finding)).one_or_none()
        return domain, from_row(Alias, alias) if alias else None
    if provision.mailbox_id is not None:
        finding = select(*MAILBOX).where(t.mailboxes.c.id == provision.mailbox_id).with_for_update()
        mailbox = (await connection.execute(finding)).one_or_none()
        return domain, from_row(Mailbox, mailbox) if mailbox else None
    return domain, domain


async def _store_subject(
    connection: AsyncConnection, actor: str, domain: Domain, before: Subject, after: Subject | None, now: datetime
) -> None:
    match before, after:
        case Mailbox(), None:
            await purge_mailboxes(connection, actor, domain, [before], now)
        case Alias(), None:
            await remove_alias(connection, before, now)
        case Domain(), None:
            await connection.execute(t.domains.delete().where(*row_filter(t.domains, before)))
        case Mailbox(), Mailbox():
            await store_mailbox(connection, actor, before, with_next_revision(after))
        case Alias(), Alias():
            await store_alias(connection, before, with_next_revision(after), now)
        case Domain(), Domain():
            await store_domain(connection, before, with_next_revision(after))


def _payment(row: Row[Any]) -> Payment:
    return from_row(Payment, row)


def _provision(row: Row[Any]) -> Provision:
    return from_row(Provision, row)


def _address(subject: Subject | None) -> str:
    if subject is None:
        return ""
    return subject.name if isinstance(subject, Domain) else subject.email


# --- Cursors ----------------------------------------------------------------------------------------------------------


def _slice(found: Sequence[Any], limit: int, cursor: Any) -> Slice[Any]:
    items = found[:limit]
    return Slice(items, cursor(items[-1]) if len(found) > limit else "")


def _cursor(instant: datetime, row_id: str) -> str:
    return urlsafe_b64encode(f"{(instant - t.EPOCH) // t.MICROSECOND}/{row_id}".encode()).decode()


def _beyond(cursor: str, instant: Any, row_id: Any) -> list[ColumnElement[bool]]:
    """The condition of the rows that follow a cursor. Raises InvalidArguments for one that no list gave."""
    if not cursor:
        return []
    try:
        number, _, last = urlsafe_b64decode(cursor.encode()).decode().partition("/")
        at = t.EPOCH + timedelta(microseconds=int(number))
        last = str(UUID(last))
    except (ValueError, OverflowError):
        violation = Violation("page_token", Reason.FORMAT, "what an earlier answer gave as next_page_token, or nothing")
        raise InvalidArguments([violation]) from None
    return [tuple_(instant, row_id) > tuple_(literal(at, t.Instant), literal(last, t.ID))]
