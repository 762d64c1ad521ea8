"""How mailboxes are written: each with its history, its payments and the mail platform's work, in one transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.events import MailboxEvent
from postroomd.domain.history import Tombstone, Transition, address_hash
from postroomd.domain.mailboxes import due_at
from postroomd.domain.model import Domain, Mailbox, MailboxStatus
from postroomd.domain.transitions import MAILBOX_TRANSITIONS, check_transition
from postroomd.storage import schema as t
from postroomd.storage.drivers import driver_of
from postroomd.storage.sql.payments import insert_payments, store_payment_of, void_payments_of
from postroomd.storage.sql.provisions import store_provisions, void_provisions_of
from postroomd.storage.sql.rows import this_row, values_of


async def insert_mailboxes(
    connection: AsyncConnection, actor: str, mailboxes: Sequence[Mailbox], password_hashes: Sequence[str]
) -> None:
    """Write new mailboxes, with what is awaited for them."""
    rows = [
        values_of(mailbox) | {"password_hash": password_hash, "due_at": due_at(mailbox)}
        for mailbox, password_hash in zip(mailboxes, password_hashes, strict=True)
    ]
    await connection.execute(insert(t.mailboxes), rows)
    await insert_payments(connection, mailboxes)
    await store_provisions(connection, [(None, mailbox) for mailbox in mailboxes], mailboxes[0].created_at)
    await _insert_history(connection, actor, [(None, mailbox) for mailbox in mailboxes])


async def store_mailbox(
    connection: AsyncConnection, actor: str, before: Mailbox, after: Mailbox, password_hash: str | None = None
) -> None:
    """Write a mailbox that a rule has changed, and its password where there is a new one. A worker's lease ends."""
    values: dict[str, Any] = values_of(after) | {"due_at": due_at(after), "failures": 0}
    waits = after.status is MailboxStatus.WAITING_DOMAIN and before.status is not MailboxStatus.WAITING_DOMAIN
    if waits:
        # The domain may have become ready since its status was read: a worker is to look once.
        values["due_at"] = after.updated_at
    if password_hash is not None:
        values["password_hash"] = password_hash
    await connection.execute(update(t.mailboxes).where(*this_row(t.mailboxes, after)).values(values))
    await store_payment_of(connection, before, after)
    await store_provisions(connection, [(before, after)], after.updated_at)
    if after.status is not before.status:
        await _insert_history(connection, actor, [(before, after)])


async def delete_mailboxes_of(connection: AsyncConnection, actor: str, domain: Domain, now: datetime) -> None:
    """Make all mailboxes of a domain deleting at once: its row is locked, and theirs are locked with the first look."""
    event, status, columns = MailboxEvent.DOMAIN_DELETED, MailboxStatus.DELETING, t.mailboxes.c
    concerned = (
        # Found by the domain alone: in the order of the table, and so of what was created together.
        driver_of(connection).without_index(columns.organization_id) == domain.organization_id,
        columns.domain_id == domain.id,
        columns.status.in_(MAILBOX_TRANSITIONS[event]),
    )
    locked = select(columns.id).where(*concerned).with_for_update().subquery()
    await connection.execute(select(func.count()).select_from(locked))
    history = {
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
    written = select(*(value.label(name) for name, value in history.items())).where(*concerned)
    await connection.execute(insert(t.transitions).from_select(list(history), written))
    await connection.execute(
        update(t.mailboxes)
        .where(*concerned)
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
    """Delete mailboxes of a domain, whose aliases and addresses go with them, and count them off.

    The rows of the domain and of the mailboxes are locked. What stays holds no personal data.
    """
    ids = [mailbox.id for mailbox in mailboxes]
    purging = delete(t.mailboxes).where(
        t.mailboxes.c.organization_id == domain.organization_id, t.mailboxes.c.id.in_(ids)
    )
    await connection.execute(purging)
    await connection.execute(
        update(t.projects)
        .where(t.projects.c.id == domain.project_id, t.projects.c.organization_id == domain.organization_id)
        .values(mailbox_count=t.projects.c.mailbox_count - len(ids))
    )
    await connection.execute(
        update(t.domains)
        .where(*this_row(t.domains, domain))
        .values(mailbox_total_count=t.domains.c.mailbox_total_count - len(ids), revision=t.domains.c.revision + 1)
    )
    await void_payments_of(connection, ids, now)
    await void_provisions_of(connection, ids, now)
    await connection.execute(insert(t.tombstones), [values_of(_tombstone(mailbox, now)) for mailbox in mailboxes])
    await connection.execute(insert(t.transitions), [values_of(_purge(mailbox, actor, now)) for mailbox in mailboxes])


async def _insert_history(
    connection: AsyncConnection, actor: str, pairs: Sequence[tuple[Mailbox | None, Mailbox]]
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
        )
        for before, after in pairs
    ]
    await connection.execute(insert(t.transitions), [values_of(row) for row in rows])


def _purge(mailbox: Mailbox, actor: str, now: datetime) -> Transition:
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
        # What had it deleted: a deleted domain, or the end of its retention.
        cause=MailboxEvent.PURGE_DUE if due else mailbox.cause,
    )
