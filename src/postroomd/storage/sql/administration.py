"""The operator's view of all tenants: payments, provisions, locks, history."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Column, ColumnElement, and_, func, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.history import DomainTransition, Tombstone, Transition, address_hash
from postroomd.domain.model import Alias, Domain, DomainStatus, Forwarding, Mailbox, MailboxStatus
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision, ProvisionKind
from postroomd.domain.queries import Slice
from postroomd.storage import schema as t
from postroomd.storage.database import Database
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule, ProvisionRule
from postroomd.storage.sql.aliases import ALIAS, remove_alias, store_alias
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.cursors import after_cursor, slice_of
from postroomd.storage.sql.domain_changes import remove_domain, store_domain
from postroomd.storage.sql.domains import DOMAIN, lock_domain
from postroomd.storage.sql.forwardings import FORWARDING, fetch_settings, remove_forwarding, store_forwarding
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import columns_of, from_row, to_row, with_next_revision

PAYMENT = columns_of(Payment, t.payments)
PROVISION = columns_of(Provision, t.provisions)
TRANSITION = columns_of(Transition, t.transitions)
DOMAIN_TRANSITION = columns_of(DomainTransition, t.domain_transitions)
TOMBSTONE = columns_of(Tombstone, t.tombstones)

ORGANIZATIONS_PER_QUERY = 500
"""How many organizations one query searches for the tombstones of an address, with two bound parameters each."""


class SqlAdministration:
    """The operator's methods; they reach every tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending_payments(self, cursor: str, limit: int) -> Slice[Payment]:
        """Return payments that are pending, refused or overdue, oldest request first. Raises InvalidArguments."""
        columns = t.payments.c
        query = (
            select(*[*PAYMENT, t.mailboxes.c.email.label("address")])
            .join(t.mailboxes, t.mailboxes.c.id == columns.mailbox_id)
            .where(
                t.OPEN_PAYMENT,
                t.mailboxes.c.status.not_in((MailboxStatus.DELETION_SCHEDULED, MailboxStatus.DELETING)),
                *after_cursor(cursor, columns.requested_at, columns.id),
            )
            .order_by(columns.requested_at, columns.id)
            .limit(limit + 1)
        )

        async def transaction(connection: AsyncConnection) -> list[Payment]:
            return [from_row(Payment, row) for row in await connection.execute(query)]

        payments = await self._database.read(transaction)
        return slice_of(payments, limit, lambda last: (last.requested_at, last.id))

    async def settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox, and return the payment. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Payment:
            query = select(*PAYMENT).where(t.payments.c.id == payment_id)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise NotFound("payment", payment_id)
            # The worker, too, locks the mailbox's row before the payment's: two orders could deadlock.
            mailbox, status = await _lock_mailbox(connection, row.mailbox_id)
            payment = from_row(Payment, (await connection.execute(query.with_for_update())).one())
            settled, changed = rule(payment, mailbox, status)
            if settled is not payment:
                updating = update(t.payments).where(t.payments.c.id == payment.id)
                await connection.execute(updating.values(to_row(settled)))
            if mailbox is not None and changed is not None and changed is not mailbox:
                await store_mailbox(connection, context.actor, mailbox, with_next_revision(changed))
            return replace(settled, address=mailbox.email if mailbox else "")

        return await self._database.write(transaction, context)

    async def pending_provisions(self, now: datetime, cursor: str, limit: int) -> Slice[Provision]:
        """Return pending provisions whose next attempt is due, longest overdue first. Raises InvalidArguments."""
        columns = t.provisions.c
        forwardings, settings = t.forwardings.c, t.mailbox_forwardings.c
        address = func.coalesce(t.aliases.c.email, t.mailboxes.c.email, t.domains.c.name, "")
        is_forwarding = forwardings.id.is_not(None)
        details = (
            func.coalesce(forwardings.email, "").label("forwarding_email"),
            and_(is_forwarding, func.coalesce(settings.keep_copy, true())).label("forwarding_keep_copy"),
            and_(is_forwarding, func.coalesce(settings.enabled, true())).label("forwarding_enabled"),
        )
        query = (
            select(*[*PROVISION, address.label("address"), *details])
            .join(t.domains, t.domains.c.id == columns.domain_id, isouter=True)
            .join(t.mailboxes, t.mailboxes.c.id == columns.mailbox_id, isouter=True)
            .join(t.aliases, t.aliases.c.id == columns.alias_id, isouter=True)
            .join(t.forwardings, forwardings.id == columns.forwarding_id, isouter=True)
            .join(t.mailbox_forwardings, settings.mailbox_id == forwardings.mailbox_id, isouter=True)
            .where(
                t.PENDING_PROVISION,
                columns.next_attempt_at <= now,
                *after_cursor(cursor, columns.next_attempt_at, columns.id),
            )
            .order_by(columns.next_attempt_at, columns.id)
            .limit(limit + 1)
        )

        async def transaction(connection: AsyncConnection) -> list[Provision]:
            return [from_row(Provision, row) for row in await connection.execute(query)]

        provisions = await self._database.read(transaction)
        return slice_of(provisions, limit, lambda last: (last.next_attempt_at, last.id))

    async def settle_provision(self, context: CallContext, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a provision and its subject, and return the provision. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Provision:
            query = select(*PROVISION).where(t.provisions.c.id == provision_id)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise NotFound("provision", provision_id)
            domain, subject = await _lock_subject(connection, from_row(Provision, row))
            provision = from_row(Provision, (await connection.execute(query.with_for_update())).one())
            status = domain.status if domain else DomainStatus.DELETING
            settled, changed = rule(provision, subject, status)
            if settled is not provision:
                updating = update(t.provisions).where(t.provisions.c.id == provision.id)
                await connection.execute(updating.values(to_row(settled)))
            described = await _describe(connection, settled, subject)
            if domain is not None and subject is not None and changed is not subject:
                await _store_subject(
                    connection, context.actor, domain, subject, changed, settled.settled_at or settled.requested_at
                )
            return described

        return await self._database.write(transaction, context)

    async def change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox, and return the mailbox. Raises NotFound, also for a purged mailbox."""

        async def transaction(connection: AsyncConnection) -> Mailbox:
            mailbox, status = await _lock_mailbox(connection, mailbox_id)
            if mailbox is None:
                raise NotFound("mailbox", mailbox_id)
            changed = rule(mailbox, status)
            if changed is not mailbox:
                changed = with_next_revision(changed)
                await store_mailbox(connection, context.actor, mailbox, changed)
            return changed

        return await self._database.write(transaction, context)

    async def get_mailbox(self, mailbox_id: str) -> Mailbox | Tombstone:
        """Return a mailbox, or the tombstone of a purged one. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Mailbox | Tombstone:
            mailbox = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id)
            if row := (await connection.execute(mailbox)).one_or_none():
                return from_row(Mailbox, row)
            tombstone = select(*TOMBSTONE).where(t.tombstones.c.mailbox_id == mailbox_id)
            if row := (await connection.execute(tombstone)).one_or_none():
                return from_row(Tombstone, row)
            raise NotFound("mailbox", mailbox_id)

        return await self._database.read(transaction)

    async def transitions(self, mailbox_id: str, after: int, limit: int) -> Sequence[Transition]:
        """Return status transitions of a mailbox after a revision, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[Transition]:
            columns = t.transitions.c
            query = select(*TRANSITION).where(columns.mailbox_id == mailbox_id, columns.revision > after)
            rows = await connection.execute(query.order_by(columns.revision).limit(limit))
            return [from_row(Transition, row) for row in rows]

        transitions = await self._database.read(transaction)
        if not transitions:
            await self.get_mailbox(mailbox_id)  # raises NotFound for an unknown id
        return transitions

    async def domain_transitions(self, domain_id: str, after: int, limit: int) -> Sequence[DomainTransition]:
        """Return status transitions of a domain after a revision, oldest first. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> list[DomainTransition]:
            columns = t.domain_transitions.c
            of_domain = columns.domain_id == domain_id
            query = select(*DOMAIN_TRANSITION).where(of_domain, columns.revision > after)
            rows = (await connection.execute(query.order_by(columns.revision).limit(limit))).all()
            registered = select(t.domains.c.id).where(t.domains.c.id == domain_id)
            for known in (select(columns.domain_id).where(of_domain).limit(1), registered):
                if rows or (await connection.execute(known)).first():
                    return [from_row(DomainTransition, row) for row in rows]
            raise NotFound("domain", domain_id)

        return await self._database.read(transaction)

    async def domains_with_name(self, name: str) -> Sequence[str]:
        """Return the ids of all domains that have the name or had it when they were purged."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            registered = select(t.domains.c.created_at, t.domains.c.id).where(t.domains.c.name == name)
            created = {row.id: row.created_at for row in await connection.execute(registered)}
            columns = t.domain_transitions.c
            for matching in await _hash_filters(connection, name, columns.organization_id, columns.name_hash):
                first = func.min(columns.at, type_=t.Instant).label("created_at")
                recorded = select(columns.domain_id, first).where(matching).group_by(columns.domain_id)
                created = {row.domain_id: row.created_at for row in await connection.execute(recorded)} | created
            return sorted(created, key=lambda domain_id: (created[domain_id], domain_id))

        return await self._database.read(transaction)

    async def mailboxes_with_address(self, address: str) -> Sequence[str]:
        """Return the ids of all mailboxes that have the address or had it when they were purged."""

        async def transaction(connection: AsyncConnection) -> list[str]:
            # Joined to the organizations, since every index on addresses begins with the organization.
            mailboxes = (
                select(t.mailboxes.c.id, t.mailboxes.c.created_at)
                .select_from(t.organizations)
                .join(t.mailboxes, t.mailboxes.c.organization_id == t.organizations.c.id)
                .where(t.mailboxes.c.email == address)
                .order_by(t.mailboxes.c.created_at, t.mailboxes.c.id)
            )
            ids = [row.id for row in await connection.execute(mailboxes)]
            purged: list[tuple[datetime, str]] = []
            columns = t.tombstones.c
            for matching in await _hash_filters(connection, address, columns.organization_id, columns.address_hash):
                tombstones = select(columns.purged_at, columns.mailbox_id).where(matching)
                purged += [(row.purged_at, row.mailbox_id) for row in await connection.execute(tombstones)]
            return [mailbox_id for _, mailbox_id in sorted(purged)] + ids

        return await self._database.read(transaction)


async def _hash_filters(
    connection: AsyncConnection, text: str, organization_id: Column[str], hashed: Column[bytes]
) -> Sequence[ColumnElement[bool]]:
    """Return conditions that together match the rows of all organizations with the hash of an address or a name."""
    ids = (await connection.execute(select(t.organizations.c.id))).scalars().all()
    chunks = [ids[start : start + ORGANIZATIONS_PER_QUERY] for start in range(0, len(ids), ORGANIZATIONS_PER_QUERY)]
    return [
        tuple_(organization_id, hashed).in_([(each, address_hash(each, text)) for each in chunk]) for chunk in chunks
    ]


async def _lock_mailbox(connection: AsyncConnection, mailbox_id: str) -> tuple[Mailbox | None, DomainStatus]:
    """Lock and return a mailbox of any tenant, with the status of its domain; None and `deleting` if there is none."""
    query = select(*MAILBOX).where(t.mailboxes.c.id == mailbox_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None, DomainStatus.DELETING
    mailbox = from_row(Mailbox, row)
    domain_status = select(t.domains.c.status).where(t.domains.c.id == mailbox.domain_id)
    return mailbox, (await connection.execute(domain_status)).scalar_one()


async def _lock_subject(connection: AsyncConnection, provision: Provision) -> tuple[Domain | None, Subject | None]:
    """Lock the subject of a provision, and return its domain and the subject; None for what is removed.

    The domain's row is locked first if it is the subject, or if a purge is to change its count of mailboxes. Otherwise
    it is read after the mailbox is locked: the propagation of a later status then waits for that lock.
    """
    locked = provision.kind is ProvisionKind.DELETE or provision.mailbox_id is None
    domain = await lock_domain(connection, provision.domain_id) if locked else None
    subject: Subject | None = domain
    if provision.alias_id is not None:
        alias = select(*ALIAS).where(t.aliases.c.id == provision.alias_id).with_for_update()
        row = (await connection.execute(alias)).one_or_none()
        subject = from_row(Alias, row) if row else None
    elif provision.forwarding_id is not None:
        forwarding = select(*FORWARDING).where(t.forwardings.c.id == provision.forwarding_id).with_for_update()
        row = (await connection.execute(forwarding)).one_or_none()
        subject = from_row(Forwarding, row) if row else None
    elif provision.mailbox_id is not None:
        mailbox = select(*MAILBOX).where(t.mailboxes.c.id == provision.mailbox_id).with_for_update()
        row = (await connection.execute(mailbox)).one_or_none()
        subject = from_row(Mailbox, row) if row else None
    if not locked:
        row = (await connection.execute(select(*DOMAIN).where(t.domains.c.id == provision.domain_id))).one_or_none()
        domain = from_row(Domain, row) if row else None
    return domain, subject


async def _store_subject(
    connection: AsyncConnection, actor: str, domain: Domain, before: Subject, after: Subject | None, now: datetime
) -> None:
    """Write a subject that a rule has changed, or remove it if `after` is None."""
    match before, after:
        case Mailbox(), None:
            await purge_mailboxes(connection, actor, domain, [before], now)
        case Alias(), None:
            await remove_alias(connection, before, now)
        case Forwarding(), None:
            await remove_forwarding(connection, before, now)
        case Domain(), None:
            await remove_domain(connection, actor, before, now)
        case Mailbox(), Mailbox():
            await store_mailbox(connection, actor, before, with_next_revision(after))
        case Alias(), Alias():
            await store_alias(connection, before, with_next_revision(after), now)
        case Forwarding(), Forwarding():
            await store_forwarding(connection, before, with_next_revision(after), now)
        case Domain(), Domain():
            await store_domain(connection, actor, before, with_next_revision(after))


async def _describe(connection: AsyncConnection, provision: Provision, subject: Subject | None) -> Provision:
    """Return a provision with what the mail platform needs to know of its subject; nothing of a removed one."""
    match subject:
        case None:
            return provision
        case Domain():
            return replace(provision, address=subject.name)
        case Mailbox() | Alias():
            return replace(provision, address=subject.email)
        case Forwarding():
            query = select(*MAILBOX).where(t.mailboxes.c.id == subject.mailbox_id)
            mailbox = from_row(Mailbox, (await connection.execute(query)).one())
            settings = await fetch_settings(connection, mailbox)
            return replace(
                provision,
                address=mailbox.email,
                forwarding_email=subject.email,
                forwarding_keep_copy=settings.keep_copy,
                forwarding_enabled=settings.enabled,
            )
