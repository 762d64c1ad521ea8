"""What a mailbox's periods cost, and what comes of their payments.

A payment that is awaited goes overdue; what is unpaid fails, is suspended and scheduled for deletion in the end, each
at its instant. It can be settled until the mailbox is purged.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName
from postroomd.domain.events import MailboxEvent, PaymentStanding
from postroomd.domain.mailbox_status import move_mailbox, schedule_deletion
from postroomd.domain.model import DomainStatus, Mailbox, SubscriptionPeriod
from postroomd.domain.policy import LifecyclePolicy


class PaymentStatus(StrEnum):
    """Where the payment of one period stands."""

    PENDING = "pending"
    REFUSED = "refused"
    OVERDUE = "overdue"
    CONFIRMED = "confirmed"
    VOID = "void"  # nobody waits for it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What one period of a mailbox costs its owner. The id is made of the mailbox and the period's start.

    `overdue_at` is until when it is waited for; `settled_at` when it was last confirmed, refused or made void.
    """

    id: str
    organization_id: str
    project_id: str
    mailbox_id: str
    period: SubscriptionPeriod
    period_started_at: datetime
    requested_at: datetime
    overdue_at: datetime
    status: PaymentStatus = PaymentStatus.PENDING
    settled_at: datetime | None = None
    reason: str | None = None
    address: str = ""


S = PaymentStanding


_PAYMENTS = UUID("b7a0c9f4-7d0e-4d57-8c55-2f6f0d1c9e38")


AWAITED = frozenset({S.FIRST_AWAITED, S.RENEWAL_AWAITED})
"""The standings in which a payment is waited for."""


OPEN = (PaymentStatus.PENDING, PaymentStatus.REFUSED, PaymentStatus.OVERDUE)
"""The statuses of a payment that can still be confirmed."""


def payment_id(mailbox: Mailbox) -> str:
    """The id of the payment of the running period: one alone, so that no period is charged twice."""
    return str(uuid5(_PAYMENTS, f"{mailbox.id}/{mailbox.subscription_period_started_at.isoformat()}"))


def awaited_payment(mailbox: Mailbox) -> Payment | None:
    """The payment that a mailbox waits for, as it is when it has just been asked for."""
    if mailbox.payment not in AWAITED or mailbox.payment_step_at is None:
        return None
    return Payment(
        id=payment_id(mailbox),
        organization_id=mailbox.organization_id,
        project_id=mailbox.project_id,
        mailbox_id=mailbox.id,
        period=mailbox.subscription_period,
        period_started_at=mailbox.subscription_period_started_at,
        requested_at=mailbox.updated_at,
        overdue_at=mailbox.payment_step_at,
    )


def awaited(standing: PaymentStanding, policy: LifecyclePolicy, now: datetime) -> dict[str, Any]:
    """The facts of a mailbox whose payment is awaited from now on; settled ones where periods cost nothing."""
    if not policy.billing:
        return {"payment": S.SETTLED, "payment_step_at": None}
    return {"payment": standing, "payment_step_at": now + policy.payment_term}


def await_payment(mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime) -> Mailbox:
    """The mailbox with the payment of the period awaited that has just begun."""
    facts = awaited(S.RENEWAL_AWAITED, policy, now)
    return move_mailbox(mailbox, MailboxEvent.RENEWAL_DUE, domain_status, now, **facts)


def take_payment_step(mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, due: datetime) -> Mailbox:
    """The unpaid mailbox after the step that was due: failed, suspended, or scheduled for deletion.

    Where periods have come to cost nothing it is settled instead.
    """
    if not policy.billing:
        return _settled(mailbox, domain_status, due)
    if mailbox.payment is S.SUSPENDED:
        return schedule_deletion(mailbox, MailboxEvent.SUSPENSION_OVER, due + policy.retention, due)
    if mailbox.payment is S.FAILED:
        event, standing, then = MailboxEvent.PAYMENT_GRACE_OVER, S.SUSPENDED, policy.suspension_grace
    else:
        event, standing, then = MailboxEvent.PAYMENT_OVERDUE, S.FAILED, policy.payment_grace
    return move_mailbox(mailbox, event, domain_status, due, payment=standing, payment_step_at=due + then)


def confirm_payment(
    payment: Payment, mailbox: Mailbox | None, domain_status: DomainStatus, *, now: datetime
) -> tuple[Payment, Mailbox | None]:
    """The payment confirmed, and its mailbox settled. Raises PreconditionFailed for one that is void."""
    if payment.status is PaymentStatus.CONFIRMED:
        return payment, mailbox
    _require_open(payment)
    confirmed = replace(payment, status=PaymentStatus.CONFIRMED, settled_at=now, reason=None)
    if mailbox is not None and _is_of_running_period(payment, mailbox):
        mailbox = _settled(mailbox, domain_status, now)
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
    """The payment refused, and its mailbox to go the way of unpaid ones, unless it goes it already.

    Raises PreconditionFailed where it is confirmed or void.
    """
    if payment.status is PaymentStatus.REFUSED:
        return payment, mailbox
    _require_open(payment)
    refused = replace(payment, status=PaymentStatus.REFUSED, settled_at=now, reason=reason)
    if mailbox is not None and _is_of_running_period(payment, mailbox) and mailbox.payment in AWAITED:
        # While its deletion is scheduled no step is to come: a restore awaits the payment anew.
        step = None if mailbox.payment_step_at is None else now + policy.payment_grace
        facts = {"payment": S.FAILED, "payment_step_at": step}
        mailbox = move_mailbox(mailbox, MailboxEvent.PAYMENT_REFUSED, domain_status, now, **facts)
    return refused, mailbox


def _settled(mailbox: Mailbox, domain_status: DomainStatus, now: datetime) -> Mailbox:
    facts = {"payment": S.SETTLED, "payment_step_at": None}
    return move_mailbox(mailbox, MailboxEvent.PAYMENT_CONFIRMED, domain_status, now, **facts)


def _is_of_running_period(payment: Payment, mailbox: Mailbox) -> bool:
    return mailbox.payment is not S.SETTLED and payment.id == payment_id(mailbox)


def _require_open(payment: Payment) -> None:
    if payment.status not in OPEN:
        raise PreconditionFailed(
            ResourceName("payment", payment.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"the payment is {payment.status}: that stays",
        )
