"""Payments of mailbox periods, written with their mailboxes."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.events import PaymentStanding
from postroomd.domain.model import Mailbox
from postroomd.domain.payments import AWAITED_STANDINGS, PaymentStatus, payment_id, pending_payment
from postroomd.storage import schema as t
from postroomd.storage.sql.rows import to_row


async def insert_payments(connection: AsyncConnection, mailboxes: Sequence[Mailbox]) -> None:
    """Insert the payments that new mailboxes await."""
    payments = [payment for mailbox in mailboxes if (payment := pending_payment(mailbox))]
    if payments:
        await connection.execute(insert(t.payments), [to_row(payment) for payment in payments])


async def store_payment(connection: AsyncConnection, before: Mailbox, after: Mailbox) -> None:
    """Insert or update the payments that a changed mailbox awaited before and awaits now.

    A confirmed payment is never changed.
    """
    if _payment_state(before) == _payment_state(after):
        return
    same_period = payment_id(before) == payment_id(after)
    unpaid = before.payment is not PaymentStanding.SETTLED
    if unpaid and (after.payment is PaymentStanding.SETTLED or not same_period):
        await _update_open(connection, payment_id(before), status=PaymentStatus.VOID, settled_at=after.updated_at)
    payment = pending_payment(after)
    if payment is not None and unpaid and same_period:
        # The payment of this period is requested again: reset it.
        await _update_open(connection, payment.id, **to_row(payment))
    elif payment is not None:
        await connection.execute(insert(t.payments).values(to_row(payment)))
    elif before.payment in AWAITED_STANDINGS and after.payment is PaymentStanding.FAILED:
        pending = t.payments.c.status == PaymentStatus.PENDING
        await _update_open(connection, payment_id(after), pending, status=PaymentStatus.OVERDUE)


async def void_payments(connection: AsyncConnection, mailbox_ids: Sequence[str], now: datetime) -> None:
    """Void the open payments of purged mailboxes."""
    voiding = update(t.payments).where(t.payments.c.mailbox_id.in_(mailbox_ids), t.OPEN_PAYMENT)
    await connection.execute(voiding.values(status=PaymentStatus.VOID, settled_at=now))


def _payment_state(mailbox: Mailbox) -> tuple[object, ...]:
    """Return the fields of a mailbox that determine its payment."""
    return mailbox.payment, mailbox.payment_step_at, mailbox.subscription_period_started_at


async def _update_open(
    connection: AsyncConnection, open_payment_id: str, *conditions: ColumnElement[bool], **values: object
) -> None:
    """Update a payment if it is open and meets the conditions."""
    updating = update(t.payments).where(t.payments.c.id == open_payment_id, t.OPEN_PAYMENT, *conditions)
    await connection.execute(updating.values(**values))
