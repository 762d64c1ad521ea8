"""Which state follows which: one table a resource, and the pure functions that move a value along it.

A function takes a frozen value and the time, and returns the value as it will be; it returns the same object where
nothing changes, and raises where the rule forbids the step. The storage applies them inside a transaction.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from postroomd.domain.calendar import period_end
from postroomd.domain.errors import Locked, Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.model import Domain, DomainStatus, Mailbox, MailboxStatus, SubscriptionPeriod

D, M, P = DomainStatus, MailboxStatus, SubscriptionPeriod


class DomainEvent(StrEnum):
    """What moves a domain."""

    VALIDATE = "validate"
    RECORDS_VALID = "records_valid"
    RECORDS_INVALID = "records_invalid"
    PROVISIONED = "provisioned"
    DELETE = "delete"


class MailboxEvent(StrEnum):
    """What moves a mailbox."""

    DOMAIN_READY = "domain_ready"
    DELETE = "delete"
    CANCELLATION_DUE = "cancellation_due"
    REACTIVATE = "reactivate"
    RESTORE = "restore"
    PURGE_DUE = "purge_due"
    DOMAIN_DELETED = "domain_deleted"


DOMAIN_TRANSITIONS: Mapping[DomainEvent, Mapping[DomainStatus, DomainStatus]] = {
    DomainEvent.VALIDATE: dict.fromkeys((D.WAITING_VALIDATION, D.VALIDATION_FAILED), D.VALIDATING),
    DomainEvent.RECORDS_VALID: {D.VALIDATING: D.PROVISIONING},
    DomainEvent.RECORDS_INVALID: {D.VALIDATING: D.VALIDATION_FAILED},
    DomainEvent.PROVISIONED: {D.PROVISIONING: D.READY},
    DomainEvent.DELETE: {status: D.DELETING for status in D if status is not D.DELETING},
}
"""Event -> status -> next status. A pair that is absent is not a transition."""

MAILBOX_TRANSITIONS: Mapping[MailboxEvent, Mapping[MailboxStatus, MailboxStatus]] = {
    MailboxEvent.DOMAIN_READY: {M.WAITING_DOMAIN: M.READY},
    MailboxEvent.DELETE: {
        status: M.DELETION_SCHEDULED for status in M if status not in {M.DELETION_SCHEDULED, M.DELETING}
    },
    MailboxEvent.CANCELLATION_DUE: dict.fromkeys((M.WAITING_DOMAIN, M.READY, M.LOCKED), M.DELETION_SCHEDULED),
    # Both lead to WAITING_DOMAIN instead while the domain is not ready: `_open_status`.
    MailboxEvent.REACTIVATE: {M.DELETION_SCHEDULED: M.READY},
    MailboxEvent.RESTORE: {M.DELETION_SCHEDULED: M.READY},
    MailboxEvent.PURGE_DUE: {M.DELETION_SCHEDULED: M.DELETING},
    MailboxEvent.DOMAIN_DELETED: {status: M.DELETING for status in M if status is not M.DELETING},
}
"""Event -> status -> next status. A pair that is absent is not a transition."""

RENEWABLE = frozenset({M.WAITING_DOMAIN, M.READY, M.LOCKED})
"""Where a mailbox's next period begins by itself. Nothing renews while it is scheduled for deletion."""

ALIASES_ALLOWED = frozenset({M.READY, M.LOCKED, M.WAITING_DOMAIN, M.WAITING_PAYMENT, M.CREATING})
"""The statuses of a mailbox that new aliases can be made of."""


def begin_validation(domain: Domain, now: datetime) -> Domain:
    """The domain with a look-up of its records begun. One that is validating or ready stays as it is.

    Raises TransientState while the domain is creating, provisioning or deleting.
    """
    following = DOMAIN_TRANSITIONS[DomainEvent.VALIDATE].get(domain.status)
    if following:
        return replace(domain, status=following, updated_at=now)
    if domain.status in {D.VALIDATING, D.READY}:
        return domain
    raise TransientState(ResourceName("domain", domain.id), domain.status)


def move_domain(domain: Domain, event: DomainEvent, now: datetime) -> Domain:
    """The domain after an event; the same domain where the event moves nothing."""
    following = DOMAIN_TRANSITIONS[event].get(domain.status)
    return replace(domain, status=following, updated_at=now) if following else domain


def delete_domain(domain: Domain, now: datetime) -> Domain:
    """The domain being deleted; unchanged where it is already."""
    return move_domain(domain, DomainEvent.DELETE, now)


def require_mailboxes_allowed(domain: Domain) -> None:
    """Raise PreconditionFailed where no mailbox can be made in the domain any more."""
    if domain.status is D.DELETING:
        raise PreconditionFailed(
            ResourceName("domain", domain.id),
            Precondition.UNKNOWN_PRECONDITION,
            "the domain is being deleted: no mailbox can be created in it",
        )


def require_aliases_allowed(mailbox: Mailbox) -> None:
    """Raise PreconditionFailed where no alias of the mailbox can be made."""
    if mailbox.status not in ALIASES_ALLOWED:
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"no alias can be created of a mailbox that is {mailbox.status}",
        )


def new_mailbox_status(domain_status: DomainStatus) -> MailboxStatus:
    """Where a mailbox of such a domain stands when nothing else holds it up."""
    return M.READY if domain_status is D.READY else M.WAITING_DOMAIN


def new_mailbox(
    domain: Domain, *, mailbox_id: str, local_part: str, period: SubscriptionPeriod, now: datetime
) -> Mailbox:
    """A mailbox of the domain whose first period starts now. Raises as `require_mailboxes_allowed`."""
    require_mailboxes_allowed(domain)
    return Mailbox(
        id=mailbox_id,
        organization_id=domain.organization_id,
        project_id=domain.project_id,
        domain_id=domain.id,
        email=f"{local_part}@{domain.name}",
        status=new_mailbox_status(domain.status),
        subscription_period=period,
        last_paid_period=period,
        period_anchor_at=now,
        subscription_period_started_at=now,
        next_subscription_period=period,
        next_subscription_period_starts_at=period_end(now, now, period),
        created_at=now,
        updated_at=now,
    )


def update_mailbox(
    mailbox: Mailbox,
    domain_status: DomainStatus,
    *,
    period: SubscriptionPeriod | None,
    new_password: bool,
    now: datetime,
) -> Mailbox:
    """The mailbox with another next period, a new password (which is stored beside it), or both.

    Raises TransientState while it is deleting, Locked while it is locked, and PreconditionFailed for a password while
    it is scheduled for deletion.
    """
    if period is None and not new_password:
        return mailbox
    name = ResourceName("mailbox", mailbox.id)
    if mailbox.status is M.DELETING:
        raise TransientState(name, mailbox.status)
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
        following = MAILBOX_TRANSITIONS[MailboxEvent.REACTIVATE][mailbox.status]
        changed = _with_new_period(_reopened(mailbox, following, domain_status), period, now)
    elif period is not None and not canceled and period is not mailbox.next_subscription_period:
        changed = replace(mailbox, next_subscription_period=period)
    if changed is mailbox and not new_password:
        return mailbox
    return replace(changed, updated_at=now)


def delete_mailbox(mailbox: Mailbox, retention: timedelta, now: datetime) -> Mailbox:
    """The mailbox scheduled for deletion after the retention; unchanged where it is already, or deleting."""
    following = MAILBOX_TRANSITIONS[MailboxEvent.DELETE].get(mailbox.status)
    if following is None:
        return mailbox
    return replace(mailbox, status=following, deletion_scheduled_at=now + retention, updated_at=now)


def restore_mailbox(mailbox: Mailbox, domain_status: DomainStatus, now: datetime) -> Mailbox:
    """The mailbox brought back; the running period goes on where it has not ended, else a new one starts now.

    Raises PreconditionFailed in any other status than deletion_scheduled, and once the purge is due.
    """
    name = ResourceName("mailbox", mailbox.id)
    following = MAILBOX_TRANSITIONS[MailboxEvent.RESTORE].get(mailbox.status)
    if following is None:
        message = f"only a mailbox that is deletion_scheduled can be restored: this one is {mailbox.status}"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    if _purge_is_due(mailbox, now):
        message = "the mailbox can't be restored any more: the date of its deletion has passed"
        raise PreconditionFailed(name, Precondition.UNKNOWN_PRECONDITION, message)
    restored = _reopened(mailbox, following, domain_status)
    ends = mailbox.next_subscription_period_starts_at
    if ends is None or ends <= now:
        restored = _with_new_period(restored, mailbox.last_paid_period, now)
    return replace(restored, updated_at=now)


def admit_mailbox(mailbox: Mailbox, now: datetime) -> Mailbox:
    """The mailbox once its domain has become ready; unchanged where it was not waiting for that."""
    following = MAILBOX_TRANSITIONS[MailboxEvent.DOMAIN_READY].get(mailbox.status)
    return replace(mailbox, status=following, updated_at=now) if following else mailbox


def due_at(mailbox: Mailbox) -> datetime | None:
    """When the calendar moves the mailbox next, by `advance_mailbox`; None where nothing is to come."""
    if mailbox.status is M.DELETION_SCHEDULED:
        return mailbox.deletion_scheduled_at
    return mailbox.next_subscription_period_starts_at if mailbox.status in RENEWABLE else None


def advance_mailbox(mailbox: Mailbox, retention: timedelta, now: datetime) -> Mailbox | None:
    """The mailbox after the one step of the calendar that is due, or None where that is its purge.

    Each step happens at the instant that it was due: a worker that was down for a year takes the steps of that year
    one by one, and ends where it would have been. Where nothing is due the mailbox stays as it is.
    """
    due = due_at(mailbox)
    if due is None or due > now:
        return mailbox
    if mailbox.status in MAILBOX_TRANSITIONS[MailboxEvent.PURGE_DUE]:
        return None
    if mailbox.next_subscription_period is P.CANCELED:
        return replace(
            mailbox,
            status=MAILBOX_TRANSITIONS[MailboxEvent.CANCELLATION_DUE][mailbox.status],
            subscription_period=P.CANCELED,
            subscription_period_started_at=due,
            next_subscription_period_starts_at=None,
            deletion_scheduled_at=due + retention,
            updated_at=due,
        )
    period = mailbox.next_subscription_period
    return replace(
        mailbox,
        subscription_period=period,
        last_paid_period=period,
        subscription_period_started_at=due,
        next_subscription_period_starts_at=period_end(mailbox.period_anchor_at, due, period),
        updated_at=due,
    )


def _purge_is_due(mailbox: Mailbox, now: datetime) -> bool:
    return mailbox.deletion_scheduled_at is not None and mailbox.deletion_scheduled_at <= now


def _reopened(mailbox: Mailbox, following: MailboxStatus, domain_status: DomainStatus) -> Mailbox:
    status = new_mailbox_status(domain_status) if following is M.READY else following
    return replace(mailbox, status=status, deletion_scheduled_at=None)


def _with_new_period(mailbox: Mailbox, period: SubscriptionPeriod, now: datetime) -> Mailbox:
    return replace(
        mailbox,
        subscription_period=period,
        last_paid_period=period,
        period_anchor_at=now,
        subscription_period_started_at=now,
        next_subscription_period=period,
        next_subscription_period_starts_at=period_end(now, now, period),
    )


def lock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, reason: str, now: datetime) -> Mailbox:
    """The mailbox locked by the operator. Raises TransientState while it is deleting."""
    raise NotImplementedError


def unlock_mailbox(mailbox: Mailbox, domain_status: DomainStatus, *, now: datetime) -> Mailbox:
    """The mailbox without the operator's lock. Raises TransientState while it is deleting."""
    raise NotImplementedError
