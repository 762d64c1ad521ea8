"""Payments, as rows beside the mailboxes whose periods they are of."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from postroomd.domain.events import PaymentStanding
from postroomd.domain.model import Mailbox
from postroomd.domain.payments import AWAITED_STANDINGS, PaymentStatus, payment_id, pending_payment
from postroomd.storage import schema as t
from postroomd.storage.sql.rows import stored_values_of


async def insert_payments(connection: AsyncConnection, mailboxes: Sequence[Mailbox]) -> None:
    """Ask for the payments that new mailboxes wait for."""
    asked = [payment for mailbox in mailboxes if (payment := pending_payment(mailbox))]
    if asked:
        await connection.execute(insert(t.payments), [stored_values_of(payment) for payment in asked])


async def store_payment_of(connection: AsyncConnection, before: Mailbox, after: Mailbox) -> None:
    """Follow a mailbox with the payments that it waited for and waits for. What has been confirmed stays so."""
    facts = [(it.payment, it.payment_step_at, it.subscription_period_started_at) for it in (before, after)]
    if facts[0] == facts[1]:
        return
    same_period = payment_id(before) == payment_id(after)
    unpaid = before.payment is not PaymentStanding.SETTLED
    if unpaid and (after.payment is PaymentStanding.SETTLED or not same_period):
        await _change(connection, payment_id(before), status=PaymentStatus.VOID, settled_at=after.updated_at)
    payment = pending_payment(after)
    if payment is not None and unpaid and same_period:
        # Asked for anew, as it was when it had just been asked for.
        await _change(connection, payment.id, **stored_values_of(payment))
    elif payment is not None:
        await connection.execute(insert(t.payments).values(stored_values_of(payment)))
    elif before.payment in AWAITED_STANDINGS and after.payment is PaymentStanding.FAILED:
        overdue = t.payments.c.status == PaymentStatus.PENDING
        await _change(connection, payment_id(after), overdue, status=PaymentStatus.OVERDUE)


async def void_payments_of(connection: AsyncConnection, mailbox_ids: Sequence[str], now: datetime) -> None:
    """Have nobody wait for the payments of mailboxes that are gone."""
    unsettled = update(t.payments).where(t.payments.c.mailbox_id.in_(mailbox_ids), t.OPEN_PAYMENT)
    await connection.execute(unsettled.values(status=PaymentStatus.VOID, settled_at=now))


async def _change(connection: AsyncConnection, found: str, *conditions: object, **values: object) -> None:
    changing = update(t.payments).where(t.payments.c.id == found, t.OPEN_PAYMENT, *conditions)  # type: ignore[arg-type]
    await connection.execute(changing.values(**values))
