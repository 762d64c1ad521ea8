"""Writes of mailboxes, each with its transitions, payments and provisions in the same transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.display_names import folded_name
from postroomd.domain.events import MailboxEvent
from postroomd.domain.history import Tombstone, Transition, address_hash
from postroomd.domain.mailbox_status import MAILBOX_TRANSITIONS
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Domain, Mailbox, MailboxStatus
from postroomd.domain.sessions import session_end
from postroomd.domain.transitions import check_transition
from postroomd.storage import schema as t
from postroomd.storage.drivers import driver_of
from postroomd.storage.sql.payments import insert_payments, store_payment, void_payments
from postroomd.storage.sql.provisions import store_provisions, void_mailbox_provisions
from postroomd.storage.sql.quotas import add_to_quota, move_quota, release_unpaid
from postroomd.storage.sql.rows import row_filter, to_row
from postroomd.storage.sql.sessions import request_session_end


async def insert_mailboxes(
    connection: AsyncConnection, actor: str, mailboxes: Sequence[Mailbox], password_hashes: Sequence[str]
) -> None:
    """Insert new mailboxes with their transitions, payments and provisions."""
    rows = [
        _to_row(mailbox) | {"password_hash": password_hash, "due_at": due_at(mailbox)}
        for mailbox, password_hash in zip(mailboxes, password_hashes, strict=True)
    ]
    await connection.execute(insert(t.mailboxes), rows)
    await insert_payments(connection, mailboxes)
    await store_provisions(connection, [(None, mailbox) for mailbox in mailboxes], mailboxes[0].created_at)
    await _insert_transitions(connection, actor, [(None, mailbox) for mailbox in mailboxes])


async def store_mailbox(
    connection: AsyncConnection, actor: str, before: Mailbox, after: Mailbox, password_hash: str | None = None
) -> None:
    """Update a changed mailbox, its password hash if there is a new one, its transitions, payments and provisions.

    The step of the mailbox is scheduled anew, and its count of failures reset. Raises QuotaExceeded.
    """
    values: dict[str, Any] = _to_row(after) | {"due_at": due_at(after), "failures": 0}
    if after.status is MailboxStatus.WAITING_DOMAIN:
        # The domain's row is not locked, and may be ready already: since its status was read, or with the worker's
        # step still to come.
        values["due_at"] = after.updated_at
    if password_hash is not None:
        values["password_hash"] = password_hash
    await move_quota(connection, before, after)
    await connection.execute(update(t.mailboxes).where(*row_filter(t.mailboxes, after)).values(values))
    await store_payment(connection, before, after)
    await store_provisions(connection, [(before, after)], after.updated_at)
    if mask := session_end(before, after, new_password=password_hash is not None):
        await request_session_end(connection, after.organization_id, mask, after.updated_at)
    locked = after.lock_reason not in {None, before.lock_reason}
    if locked or after.status is not before.status:
        event, reason = (MailboxEvent.LOCK, after.lock_reason) if locked else (after.cause, None)
        await _insert_transitions(connection, actor, [(before, replace(after, cause=event))], reason)


async def store_followers(connection: AsyncConnection, actor: str, pairs: Sequence[tuple[Mailbox, Mailbox]]) -> None:
    """Update mailboxes that follow their domain, with their transitions and provisions: few statements for them all.

    Each pair is a mailbox before its change and after it. Its payment and its due date stay.
    """
    if not pairs:
        return
    changed = ("status", "cause", "updated_at", "revision", "provision_id")
    columns = t.mailboxes.c
    storing = update(t.mailboxes).where(
        columns.id == bindparam("row_id"), columns.organization_id == bindparam("row_organization_id")
    )
    rows = [
        {"row_id": after.id, "row_organization_id": after.organization_id}
        | {f"new_{name}": getattr(after, name) for name in changed}
        for _, after in pairs
    ]
    await connection.execute(storing.values({name: bindparam(f"new_{name}") for name in changed}), rows)
    await store_provisions(connection, pairs, pairs[0][1].updated_at)
    await _insert_transitions(connection, actor, pairs)


async def lock_mailboxes(connection: AsyncConnection, domain: Domain) -> None:
    """Lock the rows of a domain's mailboxes that are not `deleting`. The caller has locked the domain's row."""
    locked = select(t.mailboxes.c.id).where(*_deletable(connection, domain)).with_for_update().subquery()
    await connection.execute(select(func.count()).select_from(locked))


def _deletable(connection: AsyncConnection, domain: Domain) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the domain's mailboxes that its deletion changes."""
    columns = t.mailboxes.c
    return (
        # The index of domain_id returns rows in the order of the table: mailboxes created together share its pages.
        driver_of(connection).without_index(columns.organization_id) == domain.organization_id,
        columns.domain_id == domain.id,
        columns.status.in_(MAILBOX_TRANSITIONS[MailboxEvent.DOMAIN_DELETED]),
    )


async def mark_mailboxes_deleting(connection: AsyncConnection, actor: str, domain: Domain, now: datetime) -> None:
    """Make all mailboxes of a domain `deleting`. The caller has locked their rows and the domain's."""
    await release_unpaid(connection, domain)
    event, status, columns = MailboxEvent.DOMAIN_DELETED, MailboxStatus.DELETING, t.mailboxes.c
    matching = _deletable(connection, domain)
    transition = {
        "mailbox_id": columns.id,
        "revision": columns.revision + 1,
        "organization_id": columns.organization_id,
        "project_id": columns.project_id,
        "domain_id": columns.domain_id,
        "from_status": columns.status,
        "to_status": literal(status, t.transitions.c.to_status.type),
        "at": literal(now, t.Instant),
        "cause": literal(event, t.transitions.c.cause.type),
        "actor": literal(actor),
    }
    transitions = select(*(value.label(name) for name, value in transition.items())).where(*matching)
    await connection.execute(insert(t.transitions).from_select(list(transition), transitions))
    await connection.execute(
        update(t.mailboxes)
        .where(*matching)
        .values(
            status=status,
            purging=True,
            cause=event,
            payment_step_at=None,
            due_at=None,
            updated_at=now,
            revision=columns.revision + 1,
        )
    )


async def purge_mailboxes(
    connection: AsyncConnection, actor: str, domain: Domain, mailboxes: Sequence[Mailbox], now: datetime
) -> None:
    """Delete mailboxes of a domain with their aliases, forwardings and addresses, and subtract them from the counts.

    Their transitions, payments, provisions and tombstones stay; they hold no personal data. The caller has locked the
    rows of the domain and of the mailboxes.
    """
    ids = [mailbox.id for mailbox in mailboxes]
    await add_to_quota(connection, domain, -sum(mailbox.counts_towards_quota for mailbox in mailboxes))
    purging = delete(t.mailboxes).where(
        t.mailboxes.c.organization_id == domain.organization_id, t.mailboxes.c.id.in_(ids)
    )
    await connection.execute(purging)
    await connection.execute(
        update(t.domains)
        .where(*row_filter(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count - len(ids), revision=t.domains.c.revision + 1)
    )
    await void_payments(connection, ids, now)
    await void_mailbox_provisions(connection, ids, now)
    await connection.execute(insert(t.tombstones), [to_row(_tombstone(mailbox, now)) for mailbox in mailboxes])
    transitions = [to_row(_purge_transition(mailbox, actor, now)) for mailbox in mailboxes]
    await connection.execute(insert(t.transitions), transitions)


def _to_row(mailbox: Mailbox) -> dict[str, Any]:
    """Return the column values of a mailbox, with its display name as searches compare it."""
    return to_row(mailbox) | {"folded_name": folded_name(mailbox.display_name) or None}


async def _insert_transitions(
    connection: AsyncConnection,
    actor: str,
    pairs: Sequence[tuple[Mailbox | None, Mailbox]],
    reason: str | None = None,
) -> None:
    rows = [
        Transition(
            mailbox_id=after.id,
            revision=after.revision,
            organization_id=after.organization_id,
            project_id=after.project_id,
            domain_id=after.domain_id,
            from_status=before.status if before else None,
            to_status=after.status,
            at=after.updated_at,
            cause=after.cause,
            actor=actor,
            reason=reason,
        )
        for before, after in pairs
    ]
    await connection.execute(insert(t.transitions), [to_row(row) for row in rows])


def _purge_transition(mailbox: Mailbox, actor: str, now: datetime) -> Transition:
    due = mailbox.status is MailboxStatus.DELETION_SCHEDULED
    event = MailboxEvent.PURGE_DUE if due else MailboxEvent.PURGED
    check_transition(MAILBOX_TRANSITIONS, event, mailbox.status, None)
    return Transition(
        mailbox_id=mailbox.id,
        revision=mailbox.revision + 1,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        domain_id=mailbox.domain_id,
        from_status=mailbox.status,
        to_status=None,
        at=now,
        cause=event,
        actor=actor,
    )


def _tombstone(mailbox: Mailbox, now: datetime) -> Tombstone:
    due = mailbox.status is MailboxStatus.DELETION_SCHEDULED
    return Tombstone(
        mailbox_id=mailbox.id,
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        domain_id=mailbox.domain_id,
        address_hash=address_hash(mailbox.organization_id, mailbox.email),
        purged_at=now,
        # The cause of its deletion: a deleted domain, or the end of its retention.
        cause=MailboxEvent.PURGE_DUE if due else mailbox.cause,
    )
