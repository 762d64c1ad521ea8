"""The rules of mailboxes: calls of tenants and the operator, and steps that are due."""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from postroomd.domain.addresses import Address
from postroomd.domain.calendar import period_end
from postroomd.domain.domains import require_mailboxes_allowed
from postroomd.domain.errors import Locked, Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.mailbox_status import (
    MAILBOX_TRANSITIONS,
    move_mailbox,
    request_provision,
    schedule_deletion,
    status_of,
)
from postroomd.domain.mailbox_updates import request_update
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod
from postroomd.domain.payments import (
    advance_unpaid,
    first_period,
    payment_fields,
    request_renewal_payment,
    start_period,
)
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import needs_deprovisioning, request_purge
from postroomd.domain.transitions import check_transition

M, P = MailboxStatus, SubscriptionPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings:
    """Settings of a mailbox to change, by the names of its fields; None leaves a setting as it is."""

    display_name: str | None = None
    storage_quota_bytes: int | None = None
    login_disabled: bool | None = None
    sending_disabled: bool | None = None
    receiving_disabled: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return the settings that are not None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


UNCHANGED_SETTINGS = MailboxSettings()


def new_mailbox(
    domain: Domain,
    *,
    mailbox_id: str,
    local_part: str,
    period: SubscriptionPeriod,
    policy: LifecyclePolicy,
    now: datetime,
    display_name: str = "",
) -> Mailbox:
    """Return a new mailbox of the domain, whose first period starts now, or with billing, with its first payment.

    Raises as `require_mailboxes_allowed`.
    """
    require_mailboxes_allowed(domain)
    mailbox = Mailbox(
        id=mailbox_id,
        organization_id=domain.organization_id,
        project_id=domain.project_id,
        domain_id=domain.id,
        email=str(Address(local_part, domain.name)),
        status=M.READY,
        created_at=now,
        updated_at=now,
        provision=ProvisionStanding.CREATE_AWAITED if policy.provisioning else ProvisionStanding.PROVIDED,
        display_name=display_name,
        **_new_period(period, policy, now),
    )
    mailbox = replace(mailbox, status=status_of(mailbox, domain.status))
    check_transition(MAILBOX_TRANSITIONS, MailboxEvent.CREATE, None, mailbox.status)
    return request_provision(mailbox)


def update_mailbox(
    mailbox: Mailbox,
    domain_status: DomainStatus,
    *,
    period: SubscriptionPeriod | None,
    new_password: bool,
    policy: LifecyclePolicy,
    now: datetime,
    settings: MailboxSettings = UNCHANGED_SETTINGS,
) -> Mailbox:
    """Return the mailbox with another next period, a new password (which the caller stores) and other settings.

    Raises TransientState while it is deleting, Locked while it is locked, and PreconditionFailed for a password or
    settings while its deletion is scheduled.
    """
    sent = settings.given()
    if period is None and not new_password and not sent:
        return mailbox
    name = ResourceName("mailbox", mailbox.id)
    _require_not_deleting(mailbox)
    if mailbox.status is M.LOCKED:
        raise Locked(name)
    if mailbox.status is M.DELETION_SCHEDULED and (new_password or sent):
        argument = "password" if new_password else next(iter(sent))
        raise PreconditionFailed(
            name,
            Precondition.UNKNOWN_PRECONDITION,
            f"the {argument} can't be changed while the mailbox is deletion_scheduled: restore it first",
        )
    changed = mailbox
    canceled = mailbox.subscription_period is P.CANCELED
    if period is not None and canceled and period is not P.CANCELED:
        if _purge_is_due(mailbox, now):
            raise TransientState(name, M.DELETING)
        changes = _reopening(mailbox, policy) | _new_period(period, policy, now)
        changed = move_mailbox(mailbox, MailboxEvent.REACTIVATE, domain_status, now, **changes)
    elif period is not None and not canceled and period is not mailbox.next_subscription_period:
        changed = replace(mailbox, next_subscription_period=period)
    if any(getattr(changed, setting) != value for setting, value in sent.items()):
        changed = replace(changed, **sent)
    if changed is mailbox and not new_password:
        return mailbox
    return request_update(mailbox, replace(changed, updated_at=now), policy, new_password=new_password)


def delete_mailbox(mailbox: Mailbox, retention: timedelta, now: datetime) -> Mailbox:
    """Return the mailbox scheduled for deletion after the retention; unchanged if it is already, or is deleting."""
    if mailbox.status not in MAILBOX_TRANSITIONS[MailboxEvent.DELETE]:
        return mailbox
    return schedule_deletion(mailbox, MailboxEvent.DELETE, now + retention, now)


def restore_mailbox(mailbox: Mailbox, domain_status: DomainStatus, policy: LifecyclePolicy, now: datetime) -> Mailbox:
    """Return the mailbox restored, in its running period if that has not ended, else in a new one that starts now.

    An unsettled payment is requested again: of the running period, or the first one. Raises PreconditionFailed for a
    mailbox that is not deletion_scheduled, and from the due date of its purge on.
    """
    name = ResourceName("mailbox", mailbox.id)
    if mailbox.status not in MAILBOX_TRANSITIONS[MailboxEvent.RESTORE]:
        message = f"the mailbox is {mailbox.status}: only a mailbox that is deletion_scheduled can be restored"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    if _purge_is_due(mailbox, now):
        message = "the mailbox can't be restored: its deletion_scheduled_at has passed"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    changes = _reopening(mailbox, policy)
    ends = mailbox.next_subscription_period_starts_at
    if mailbox.subscription_period is not None and (ends is None or ends <= now):
        changes |= _new_period(mailbox.last_paid_period, policy, now)
    elif mailbox.payment is not PaymentStanding.SETTLED:
        changes |= payment_fields(PaymentStanding.FIRST_AWAITED, policy, now)
        if not policy.billing:
            mailbox = start_period(mailbox, now)
    return move_mailbox(mailbox, MailboxEvent.RESTORE, domain_status, now, **changes)


def follow_domain(mailbox: Mailbox, domain_status: DomainStatus, now: datetime) -> Mailbox:
    """Return the mailbox after its domain became ready or lost its name; unchanged if its status does not depend on it.

    In a ready domain a mailbox leaves waiting_domain; in any other, one in use becomes waiting_domain.
    """
    event = MailboxEvent.DOMAIN_READY if domain_status is DomainStatus.READY else MailboxEvent.DOMAIN_LOST
    if mailbox.status not in MAILBOX_TRANSITIONS[event]:
        return mailbox
    return move_mailbox(mailbox, event, domain_status, now)


def lock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, reason: str, now: datetime) -> Mailbox:
    """Return the mailbox locked by the operator, from any status. Raises TransientState while it is deleting."""
    _require_not_deleting(mailbox)
    if mailbox.lock_reason == reason:
        return mailbox
    return move_mailbox(mailbox, MailboxEvent.LOCK, domain_status, now, lock_reason=reason)


def unlock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, now: datetime) -> Mailbox:
    """Return the mailbox without the operator's lock. Raises TransientState while it is deleting."""
    _require_not_deleting(mailbox)
    if mailbox.lock_reason is None:
        return mailbox
    return move_mailbox(mailbox, MailboxEvent.UNLOCK, domain_status, now, lock_reason=None)


def due_at(mailbox: Mailbox) -> datetime | None:
    """Return the due date of the mailbox's next step by `advance_mailbox`; None if there is none.

    No period starts while the running one is unpaid, but the last period of a canceled subscription ends on time.
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
    """Return the mailbox after its next due step, None if that purges it, or the same mailbox if nothing is due.

    The first step of a mailbox that is waiting_domain in a ready domain is to leave that status. Each step is dated at
    its due date: a worker that was down for a year takes that year's steps one by one, with the same result.
    """
    if mailbox.status is M.WAITING_DOMAIN and domain_status is DomainStatus.READY:
        return follow_domain(mailbox, domain_status, now)
    due = due_at(mailbox)
    if due is None or due > now:
        return mailbox
    if mailbox.deletion_scheduled_at is not None:
        return request_purge(mailbox, due) if needs_deprovisioning(mailbox, policy) else None
    if mailbox.payment_step_at is not None and due == mailbox.payment_step_at:
        return advance_unpaid(mailbox, domain_status, policy, due)
    if mailbox.next_subscription_period is P.CANCELED:
        return replace(
            schedule_deletion(mailbox, MailboxEvent.CANCELLATION_DUE, due + policy.cancellation_retention, due),
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
    # Without billing, a renewal is no transition: a mailbox that waits for its domain keeps its status.
    return request_renewal_payment(renewed, domain_status, policy, due) if policy.billing else renewed


def purge_with_domain(mailbox: Mailbox, policy: LifecyclePolicy) -> Mailbox | None:
    """Return a mailbox of a deleting domain with its deletion requested of the mail platform; None to purge it."""
    if not needs_deprovisioning(mailbox, policy):
        return None
    if mailbox.provision is ProvisionStanding.DELETE_AWAITED:
        return mailbox
    return request_provision(replace(mailbox, provision=ProvisionStanding.DELETE_AWAITED, provision_id=None))


def _require_not_deleting(mailbox: Mailbox) -> None:
    if mailbox.status is M.DELETING:
        raise TransientState(ResourceName("mailbox", mailbox.id), mailbox.status)


def _purge_is_due(mailbox: Mailbox, now: datetime) -> bool:
    return mailbox.deletion_scheduled_at is not None and mailbox.deletion_scheduled_at <= now


def _reopening(mailbox: Mailbox, policy: LifecyclePolicy) -> dict[str, Any]:
    """Return the fields of a mailbox whose scheduled deletion is undone: the mail platform has to restore it."""
    changes: dict[str, Any] = {"deletion_scheduled_at": None}
    if policy.provisioning and mailbox.provision is ProvisionStanding.PROVIDED:
        # In place of a pending update: the restored mailbox has the state of the update too.
        changes |= {"provision": ProvisionStanding.RESTORE_AWAITED, "provision_id": None}
    return changes


def _new_period(period: SubscriptionPeriod, policy: LifecyclePolicy, now: datetime) -> dict[str, Any]:
    """Return the fields of a subscription that starts now, or with billing, waits for its first payment."""
    not_started = {
        "subscription_period": None,
        "subscription_period_started_at": None,
        "next_subscription_period_starts_at": None,
    }
    return {
        **first_period(period, now),
        **(not_started if policy.billing else {}),
        "next_subscription_period": period,
        **payment_fields(PaymentStanding.FIRST_AWAITED, policy, now),
    }
