"""The operator's view of all tenants: payments, provisions, locks, history."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Table, and_, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.context import CallContext
from postroomd.domain.errors import NotFound
from postroomd.domain.model import Alias, Domain, DomainStatus, Forwarding, Mailbox, MailboxStatus
from postroomd.domain.payments import Payment
from postroomd.domain.provisioning import Subject
from postroomd.domain.provisions import Provision, ProvisionKind
from postroomd.domain.queries import Slice
from postroomd.storage import schema as t
from postroomd.storage.idempotency import Unchanged
from postroomd.storage.protocols.rules import MailboxRule, PaymentRule, ProvisionRule
from postroomd.storage.sql.changes import purge_mailboxes, store_mailbox
from postroomd.storage.sql.cursors import after_cursor, slice_of
from postroomd.storage.sql.domain_changes import remove_domain, store_domain
from postroomd.storage.sql.domains import DOMAIN, lock_domain
from postroomd.storage.sql.forwardings import fetch_settings
from postroomd.storage.sql.history import SqlHistory
from postroomd.storage.sql.mailbox_parts import remove_part, store_part
from postroomd.storage.sql.mailbox_states import with_states
from postroomd.storage.sql.mailboxes import MAILBOX
from postroomd.storage.sql.rows import columns_of, from_row, to_row, with_next_revision

IDS_OF_A_STATEMENT = 500

PAYMENT = columns_of(Payment, t.payments)
PROVISION = columns_of(Provision, t.provisions)


class SqlAdministration(SqlHistory):
    """The operator's methods; they reach every tenant."""

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

    async def password_hashes(self, mailbox_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the password hashes of mailboxes by id; unknown ids are left out."""
        columns = t.mailboxes.c

        async def transaction(connection: AsyncConnection) -> dict[str, str]:
            found: dict[str, str] = {}
            for start in range(0, len(mailbox_ids), IDS_OF_A_STATEMENT):
                ids = mailbox_ids[start : start + IDS_OF_A_STATEMENT]
                query = select(columns.id, columns.password_hash).where(columns.id.in_(ids))
                found |= {row.id: row.password_hash for row in await connection.execute(query)}
            return found

        return await self._database.read(transaction)

    async def settle_payment(self, context: CallContext, payment_id: str, rule: PaymentRule) -> Payment:
        """Apply a rule to a payment and its mailbox, and return the payment. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Payment | Unchanged[Payment]:
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
            described = replace(settled, address=mailbox.email if mailbox else "")
            return Unchanged(described) if settled is payment and changed is mailbox else described

        return await self._database.write(transaction, context)

    async def pending_provisions(self, due_by: datetime | None, cursor: str, limit: int) -> Slice[Provision]:
        """Return pending provisions, longest overdue first: those due by a time, or all. Raises InvalidArguments."""
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
                *(() if due_by is None else (columns.next_attempt_at <= due_by,)),
                *after_cursor(cursor, columns.next_attempt_at, columns.id),
            )
            .order_by(columns.next_attempt_at, columns.id)
            .limit(limit + 1)
        )

        async def transaction(connection: AsyncConnection) -> list[Provision]:
            return await with_states(connection, [from_row(Provision, row) for row in await connection.execute(query)])

        provisions = await self._database.read(transaction)
        return slice_of(provisions, limit, lambda last: (last.next_attempt_at, last.id))

    async def settle_provision(self, context: CallContext, provision_id: str, rule: ProvisionRule) -> Provision:
        """Apply a rule to a provision and its subject, and return the provision. Raises NotFound."""

        async def transaction(connection: AsyncConnection) -> Provision | Unchanged[Provision]:
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
            return Unchanged(described) if settled is provision and changed is subject else described

        return await self._database.write(transaction, context)

    async def change_mailbox(self, context: CallContext, mailbox_id: str, rule: MailboxRule) -> Mailbox:
        """Apply a rule to a mailbox, and return the mailbox. Raises NotFound, also for a purged mailbox."""

        async def transaction(connection: AsyncConnection) -> Mailbox | Unchanged[Mailbox]:
            mailbox, status = await _lock_mailbox(connection, mailbox_id)
            if mailbox is None:
                raise NotFound("mailbox", mailbox_id)
            changed = rule(mailbox, status)
            if changed is mailbox:
                return Unchanged(mailbox)
            changed = with_next_revision(changed)
            await store_mailbox(connection, context.actor, mailbox, changed)
            return changed

        return await self._database.write(transaction, context)


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
    # An alias or a forwarding has the id of its mailbox as well: the first id is that of the subject.
    subjects: Sequence[tuple[type[Alias | Forwarding | Mailbox], Table, str | None]] = (
        (Alias, t.aliases, provision.alias_id),
        (Forwarding, t.forwardings, provision.forwarding_id),
        (Mailbox, t.mailboxes, provision.mailbox_id),
    )
    for kind, table, subject_id in subjects:
        if subject_id is not None:
            query = select(*columns_of(kind, table)).where(table.c.id == subject_id).with_for_update()
            row = (await connection.execute(query)).one_or_none()
            subject = from_row(kind, row) if row else None
            break
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
        case ((Alias() | Forwarding()), None):
            await remove_part(connection, before, now)
        case Domain(), None:
            await remove_domain(connection, actor, before, now)
        case Mailbox(), Mailbox():
            await store_mailbox(connection, actor, before, with_next_revision(after))
        case Alias(), Alias():
            await store_part(connection, before, with_next_revision(after), now)
        case Forwarding(), Forwarding():
            await store_part(connection, before, with_next_revision(after), now)
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
