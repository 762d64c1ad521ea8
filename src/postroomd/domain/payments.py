"""The rules of payments: one for each period of a mailbox.

An awaited payment becomes overdue; then its mailbox fails, is suspended, and is scheduled for deletion, each at its due
date. The payment can be confirmed until the mailbox is purged. The first payment of a subscription starts its first
period; every other payment is of a period that runs already.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from postroomd.domain.calendar import period_end
from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailbox_status import move_mailbox, schedule_deletion
from postroomd.domain.model import DomainStatus, Mailbox, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy


class PaymentStatus(StrEnum):
    """The status of a payment."""

    PENDING = "pending"
    REFUSED = "refused"
    OVERDUE = "overdue"
    CONFIRMED = "confirmed"
    VOID = "void"  # of another period than the running one, or of a purged mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The payment of one period of a mailbox.

    Its id is derived from the mailbox's id and the start of the period; for the first one of a subscription, from the
    instant of its request, which is `created_at` for a new mailbox. `period_started_at` is None before the period
    starts. The payment is overdue from `overdue_at` on. At `settled_at` it was last confirmed, refused or made void.
    """

    id: str
    organization_id: str
    project_id: str
    mailbox_id: str
    period: SubscriptionPeriod
    period_started_at: datetime | None
    requested_at: datetime
    overdue_at: datetime
    status: PaymentStatus = PaymentStatus.PENDING
    settled_at: datetime | None = None
    reason: str | None = None
    address: str = ""


S = PaymentStanding

_NAMESPACE = UUID("b7a0c9f4-7d0e-4d57-8c55-2f6f0d1c9e38")

AWAITED_STANDINGS = frozenset({S.FIRST_AWAITED, S.RENEWAL_AWAITED})
"""The standings of a mailbox that waits for a payment."""

OPEN_STATUSES = (PaymentStatus.PENDING, PaymentStatus.REFUSED, PaymentStatus.OVERDUE)
"""The statuses of a payment that can still be confirmed."""


def payment_id(mailbox: Mailbox) -> str:
    """Return the id of the payment of the running period, or of the first one if none has started.

    A period has one payment, so that it is charged once.
    """
    start = mailbox.subscription_period_started_at or mailbox.period_anchor_at
    return str(uuid5(_NAMESPACE, f"{mailbox.id}/{start.isoformat()}"))


def pending_payment(mailbox: Mailbox) -> Payment | None:
    """Return the payment that a mailbox waits for, as it is when it has just been requested; None if it has none."""
    if mailbox.payment not in AWAITED_STANDINGS or mailbox.payment_step_at is None:
        return None
    return Payment(
        id=payment_id(mailbox),
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        mailbox_id=mailbox.id,
        period=mailbox.subscription_period or mailbox.last_paid_period,
        period_started_at=mailbox.subscription_period_started_at,
        requested_at=mailbox.updated_at,
        overdue_at=mailbox.payment_step_at,
    )


def payment_fields(standing: PaymentStanding, policy: LifecyclePolicy, now: datetime) -> dict[str, Any]:
    """Return the fields of a mailbox that waits for a payment from now on; of a settled one without billing."""
    if not policy.billing:
        return {"payment": S.SETTLED, "payment_step_at": None}
    return {"payment": standing, "payment_step_at": now + policy.payment_term}


def request_renewal_payment(
    mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime
) -> Mailbox:
    """Return the mailbox waiting for the payment of the period that has just started."""
    changes = payment_fields(S.RENEWAL_AWAITED, policy, now)
    return move_mailbox(mailbox, MailboxEvent.RENEWAL_DUE, domain_status, now, **changes)


def advance_unpaid(mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, due: datetime) -> Mailbox:
    """Return the unpaid mailbox after the step that was due: failed, suspended, or scheduled for deletion.

    Without billing it is settled instead.
    """
    if not policy.billing:
        return _settle(mailbox, domain_status, due)
    if mailbox.payment is S.SUSPENDED:
        retention = retention_of(mailbox, policy, policy.cancellation_retention)
        return schedule_deletion(mailbox, MailboxEvent.SUSPENSION_OVER, due + retention, due)
    if mailbox.payment is S.FAILED:
        event, standing, grace = MailboxEvent.PAYMENT_GRACE_OVER, S.SUSPENDED, policy.suspension_grace
    else:
        event, standing, grace = MailboxEvent.PAYMENT_OVERDUE, S.FAILED, policy.payment_grace
    return move_mailbox(mailbox, event, domain_status, due, payment=standing, payment_step_at=due + grace)


def retention_of(mailbox: Mailbox, policy: LifecyclePolicy, default: timedelta) -> timedelta:
    """Return the time from the scheduled deletion of a mailbox to its purge: another one if it was never paid for."""
    if not mailbox.never_paid:
        return default
    return policy.deletion_retention if policy.unpaid_retention is None else policy.unpaid_retention


def confirm_payment(
    payment: Payment, mailbox: Mailbox | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Payment, Mailbox | None]:
    """Return the payment as confirmed, and its mailbox as settled: a first period starts now.

    Raises PreconditionFailed for a void payment.
    """
    if payment.status is PaymentStatus.CONFIRMED:
        return payment, mailbox
    _require_open(payment)
    confirmed = replace(payment, status=PaymentStatus.CONFIRMED, settled_at=now, reason=None)
    if mailbox is not None and _is_of_running_period(payment, mailbox):
        mailbox = _settle(mailbox, domain_status, now)
        confirmed = replace(confirmed, period_started_at=mailbox.subscription_period_started_at)
    return confirmed, mailbox


def refuse_payment(
    payment: Payment,
    mailbox: Mailbox | None,
    domain_status: DomainStatus,
    *,
    reason: str,
    policy: LifecyclePolicy,
    now: datetime,
) -> tuple[Payment, Mailbox | None]:
    """Return the payment as refused, and its mailbox as failed, unless that has failed already.

    Raises PreconditionFailed for a payment that is confirmed or void.
    """
    if payment.status is PaymentStatus.REFUSED:
        return payment, mailbox
    _require_open(payment)
    refused = replace(payment, status=PaymentStatus.REFUSED, settled_at=now, reason=reason)
    if mailbox is not None and _is_of_running_period(payment, mailbox) and mailbox.payment in AWAITED_STANDINGS:
        # While a deletion is scheduled, no step is due: a restore requests the payment again.
        step = None if mailbox.payment_step_at is None else now + policy.payment_grace
        changes = {"payment": S.FAILED, "payment_step_at": step}
        mailbox = move_mailbox(mailbox, MailboxEvent.PAYMENT_REFUSED, domain_status, now, **changes)
    return refused, mailbox


def start_period(mailbox: Mailbox, now: datetime) -> Mailbox:
    """Return the mailbox with its first period started now, unless a period is running; what follows is unchanged."""
    if mailbox.subscription_period is not None:
        return mailbox
    return replace(mailbox, **first_period(mailbox.last_paid_period, now), updated_at=now)


def first_period(period: SubscriptionPeriod, now: datetime) -> dict[str, Any]:
    """Return the fields of a mailbox whose subscription starts now."""
    return {
        "subscription_period": period,
        "last_paid_period": period,
        "period_anchor_at": now,
        "subscription_period_started_at": now,
        "next_subscription_period_starts_at": period_end(now, now, period),
    }


def _settle(mailbox: Mailbox, domain_status: DomainStatus, now: datetime) -> Mailbox:
    changes = {"payment": S.SETTLED, "payment_step_at": None}
    mailbox = start_period(mailbox, now)
    return move_mailbox(mailbox, MailboxEvent.PAYMENT_CONFIRMED, domain_status, now, **changes)


def _is_of_running_period(payment: Payment, mailbox: Mailbox) -> bool:
    return mailbox.payment is not S.SETTLED and payment.id == payment_id(mailbox)


def _require_open(payment: Payment) -> None:
    if payment.status not in OPEN_STATUSES:
        raise PreconditionFailed(
            ResourceName("payment", payment.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the payment is {payment.status}: its status is final",
        )
