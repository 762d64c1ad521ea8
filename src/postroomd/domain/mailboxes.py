"""The rules of mailboxes: what callers and the operator do with them, and what the calendar does by itself."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from postroomd.domain.calendar import period_end
from postroomd.domain.domains import require_mailboxes_allowed
from postroomd.domain.errors import Locked, Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.mailbox_status import ask_platform, move_mailbox, schedule_deletion, status_of
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import await_payment, awaited, take_payment_step
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import is_off_platform, purge_on_platform
from postroomd.domain.transitions import MAILBOX_TRANSITIONS, check_transition

M, P = MailboxStatus, SubscriptionPeriod


def new_mailbox(
    domain: Domain,
    *,
    mailbox_id: str,
    local_part: str,
    period: SubscriptionPeriod,
    policy: LifecyclePolicy,
    now: datetime,
) -> Mailbox:
    """A mailbox of the domain whose first period starts now. Raises as `require_mailboxes_allowed`."""
    require_mailboxes_allowed(domain)
    made = Mailbox(
        id=mailbox_id,
        organization_id=domain.organization_id,
        project_id=domain.project_id,
        domain_id=domain.id,
        email=f"{local_part}@{domain.name}",
        status=M.READY,
        created_at=now,
        updated_at=now,
        provision=ProvisionStanding.CREATE_AWAITED if policy.provisioning else ProvisionStanding.PROVIDED,
        **_new_period(period, policy, now),
    )
    made = replace(made, status=status_of(made, domain.status))
    check_transition(MAILBOX_TRANSITIONS, MailboxEvent.CREATE, None, made.status)
    return ask_platform(made)


def update_mailbox(
    mailbox: Mailbox,
    domain_status: DomainStatus,
    *,
    period: SubscriptionPeriod | None,
    new_password: bool,
    policy: LifecyclePolicy,
    now: datetime,
) -> Mailbox:
    """The mailbox with another next period, a new password (which is stored beside it), or both.

    Raises TransientState while it is deleting, Locked while it is locked, and PreconditionFailed for a password while
    it is scheduled for deletion.
    """
    if period is None and not new_password:
        return mailbox
    name = ResourceName("mailbox", mailbox.id)
    _require_kept(mailbox)
    if mailbox.status is M.LOCKED:
        raise Locked(name)
    if new_password and mailbox.status is M.DELETION_SCHEDULED:
        raise PreconditionFailed(
            name,
            Precondition.UNKNOWN_PRECONDITION,
            "the password can't be changed while the mailbox is scheduled for deletion: restore it first",
        )
    changed = mailbox
    canceled = mailbox.subscription_period is P.CANCELED
    if period is not None and canceled and period is not P.CANCELED:
        if _purge_is_due(mailbox, now):
            raise TransientState(name, M.DELETING)
        facts = _reopened(mailbox, policy) | _new_period(period, policy, now)
        changed = move_mailbox(mailbox, MailboxEvent.REACTIVATE, domain_status, now, **facts)
    elif period is not None and not canceled and period is not mailbox.next_subscription_period:
        changed = replace(mailbox, next_subscription_period=period)
    if changed is mailbox and not new_password:
        return mailbox
    return replace(changed, updated_at=now)


def delete_mailbox(mailbox: Mailbox, retention: timedelta, now: datetime) -> Mailbox:
    """The mailbox scheduled for deletion after the retention; unchanged where it is already, or deleting."""
    if mailbox.status not in MAILBOX_TRANSITIONS[MailboxEvent.DELETE]:
        return mailbox
    return schedule_deletion(mailbox, MailboxEvent.DELETE, now + retention, now)


def restore_mailbox(mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime) -> Mailbox:
    """The mailbox brought back; the running period goes on where it has not ended, else a new one starts now.

    The payment of a period that goes on is awaited anew where it is not settled. Raises PreconditionFailed on a
    mailbox in another state, and from the instant of the purge on.
    """
    name = ResourceName("mailbox", mailbox.id)
    if mailbox.status not in MAILBOX_TRANSITIONS[MailboxEvent.RESTORE]:
        message = f"only a mailbox that is deletion_scheduled can be restored: this one is {mailbox.status}"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    if _purge_is_due(mailbox, now):
        message = "the mailbox can't be restored any more: the date of its deletion has passed"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    facts = _reopened(mailbox, policy)
    ends = mailbox.next_subscription_period_starts_at
    if ends is None or ends <= now:
        facts |= _new_period(mailbox.last_paid_period, policy, now)
    elif mailbox.payment is not PaymentStanding.SETTLED:
        facts |= awaited(PaymentStanding.FIRST_AWAITED, policy, now)
    return move_mailbox(mailbox, MailboxEvent.RESTORE, domain_status, now, **facts)


def admit_mailbox(mailbox: Mailbox, now: datetime) -> Mailbox:
    """The mailbox once its domain has become ready; unchanged where it was not waiting for that."""
    if mailbox.status is not M.WAITING_DOMAIN:
        return mailbox
    return move_mailbox(mailbox, MailboxEvent.DOMAIN_READY, DomainStatus.READY, now)


def lock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, reason: str, now: datetime) -> Mailbox:
    """The mailbox locked by the operator, whatever else is the matter with it. Raises TransientState while deleting."""
    _require_kept(mailbox)
    if mailbox.lock_reason == reason:
        return mailbox
    return move_mailbox(mailbox, MailboxEvent.LOCK, domain_status, now, lock_reason=reason)


def unlock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, now: datetime) -> Mailbox:
    """The mailbox without the operator's lock. Raises TransientState while it is deleting."""
    _require_kept(mailbox)
    if mailbox.lock_reason is None:
        return mailbox
    return move_mailbox(mailbox, MailboxEvent.UNLOCK, domain_status, now, lock_reason=None)


def due_at(mailbox: Mailbox) -> datetime | None:
    """When time alone moves the mailbox next, by `advance_mailbox`; None where nothing is to come.

    The calendar begins no period while one is not paid, though it ends one that is the last.
    """
    if mailbox.purging:
        return None
    if mailbox.deletion_scheduled_at is not None:
        return mailbox.deletion_scheduled_at
    ends, last = mailbox.next_subscription_period_starts_at, mailbox.next_subscription_period is P.CANCELED
    step = mailbox.payment_step_at
    if step is None or (last and ends is not None and ends <= step):
        return ends
    return step


def advance_mailbox(
    mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime
) -> Mailbox | None:
    """The mailbox after the one step that is due, or None where that purges it. It is admitted to a ready domain first.

    Each step happens at the instant that it was due: a worker that was down for a year takes the steps of that year
    one by one, and ends where it would have been. Where nothing is due the mailbox stays as it is.
    """
    if mailbox.status is M.WAITING_DOMAIN and domain_status is DomainStatus.READY:
        return admit_mailbox(mailbox, now)
    due = due_at(mailbox)
    if due is None or due > now:
        return mailbox
    if mailbox.deletion_scheduled_at is not None:
        return None if is_off_platform(mailbox, policy) else purge_on_platform(mailbox, due)
    if mailbox.payment_step_at is not None and due == mailbox.payment_step_at:
        return take_payment_step(mailbox, domain_status, policy, due)
    if mailbox.next_subscription_period is P.CANCELED:
        return replace(
            schedule_deletion(mailbox, MailboxEvent.CANCELLATION_DUE, due + policy.retention, due),
            subscription_period=P.CANCELED,
            subscription_period_started_at=due,
            next_subscription_period_starts_at=None,
        )
    period = mailbox.next_subscription_period
    renewed = replace(
        mailbox,
        subscription_period=period,
        last_paid_period=period,
        subscription_period_started_at=due,
        next_subscription_period_starts_at=period_end(mailbox.period_anchor_at, due, period),
        updated_at=due,
    )
    # What costs nothing moves nothing: a mailbox that waits for its domain is admitted in its own time.
    return await_payment(renewed, domain_status, policy, due) if policy.billing else renewed


def purge_with_domain(mailbox: Mailbox, policy: LifecyclePolicy) -> Mailbox | None:
    """A mailbox of a domain that is being deleted, with its deletion asked of the mail platform; None to purge it."""
    if is_off_platform(mailbox, policy):
        return None
    if mailbox.provision is ProvisionStanding.DELETE_AWAITED:
        return mailbox
    return ask_platform(replace(mailbox, provision=ProvisionStanding.DELETE_AWAITED, provision_id=None))


def _require_kept(mailbox: Mailbox) -> None:
    if mailbox.status is M.DELETING:
        raise TransientState(ResourceName("mailbox", mailbox.id), mailbox.status)


def _purge_is_due(mailbox: Mailbox, now: datetime) -> bool:
    return mailbox.deletion_scheduled_at is not None and mailbox.deletion_scheduled_at <= now


def _reopened(mailbox: Mailbox, policy: LifecyclePolicy) -> dict[str, Any]:
    """The facts of a mailbox that is not to be deleted any more, which its mail platform has to bring back."""
    facts: dict[str, Any] = {"deletion_scheduled_at": None}
    if policy.provisioning and mailbox.provision is ProvisionStanding.PROVIDED:
        facts["provision"] = ProvisionStanding.RESTORE_AWAITED
    return facts


def _new_period(period: SubscriptionPeriod, policy: LifecyclePolicy, now: datetime) -> dict[str, Any]:
    """The facts of a subscription that starts now, with a payment to be awaited."""
    return {
        "subscription_period": period,
        "last_paid_period": period,
        "period_anchor_at": now,
        "subscription_period_started_at": now,
        "next_subscription_period": period,
        "next_subscription_period_starts_at": period_end(now, now, period),
        **awaited(PaymentStanding.FIRST_AWAITED, policy, now),
    }
