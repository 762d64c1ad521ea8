"""The status of a mailbox: derived from its other fields, and the table of its transitions.

A rule changes a field on an event, and the status follows: no rule has to know of the others, and none can leave a
mailbox in a status that nothing ends.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from postroomd.domain.events import MailboxEvent as Event
from postroomd.domain.events import PaymentStanding, ProvisionStanding
from postroomd.domain.model import DomainStatus, Mailbox
from postroomd.domain.model import MailboxStatus as M
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.transitions import TransitionTable, check_transition

_IN_USE = frozenset({M.WAITING_DOMAIN, M.CREATING, M.RESTORING, M.READY})
_UNPAID = frozenset({M.WAITING_PAYMENT, M.RENEWING, M.PAYMENT_FAILED})
_KEPT = _IN_USE | _UNPAID | {M.LOCKED}

MAILBOX_TRANSITIONS: TransitionTable[Event, M] = {
    Event.CREATE: {None: frozenset({M.WAITING_PAYMENT, M.WAITING_DOMAIN, M.CREATING, M.READY})},
    Event.DOMAIN_READY: {M.WAITING_DOMAIN: _IN_USE - {M.WAITING_DOMAIN}},
    Event.DOMAIN_LOST: dict.fromkeys(_IN_USE - {M.WAITING_DOMAIN}, frozenset({M.WAITING_DOMAIN})),
    Event.PROVISIONED: {
        **dict.fromkeys((M.CREATING, M.RESTORING), frozenset({M.READY, M.WAITING_DOMAIN})),
        # It was requested before the domain was lost, or the domain is ready again and the mailbox does not follow yet.
        M.WAITING_DOMAIN: frozenset({M.READY}),
    },
    Event.RENEWAL_DUE: dict.fromkeys(_IN_USE, frozenset({M.RENEWING})),
    Event.PAYMENT_CONFIRMED: dict.fromkeys((*_UNPAID, M.LOCKED), _IN_USE),
    Event.PAYMENT_REFUSED: dict.fromkeys((M.WAITING_PAYMENT, M.RENEWING), frozenset({M.PAYMENT_FAILED})),
    Event.PAYMENT_OVERDUE: dict.fromkeys((M.WAITING_PAYMENT, M.RENEWING), frozenset({M.PAYMENT_FAILED})),
    Event.PAYMENT_GRACE_OVER: {M.PAYMENT_FAILED: frozenset({M.LOCKED})},
    Event.SUSPENSION_OVER: {M.LOCKED: frozenset({M.DELETION_SCHEDULED})},
    Event.CANCELLATION_DUE: dict.fromkeys(_KEPT, frozenset({M.DELETION_SCHEDULED})),
    Event.LOCK: dict.fromkeys(_IN_USE | _UNPAID, frozenset({M.LOCKED})),
    Event.UNLOCK: {M.LOCKED: _IN_USE | _UNPAID},
    Event.DELETE: dict.fromkeys(_KEPT, frozenset({M.DELETION_SCHEDULED})),
    Event.REACTIVATE: {M.DELETION_SCHEDULED: _IN_USE | {M.WAITING_PAYMENT, M.LOCKED}},
    Event.RESTORE: {M.DELETION_SCHEDULED: _IN_USE | {M.WAITING_PAYMENT, M.LOCKED}},
    Event.PURGE_DUE: {M.DELETION_SCHEDULED: frozenset({M.DELETING, None})},
    Event.DOMAIN_DELETED: dict.fromkeys(_KEPT | {M.DELETION_SCHEDULED}, frozenset({M.DELETING})),
    Event.PURGED: {M.DELETING: frozenset({None})},
}
"""The transitions of mailboxes: which of the possible next statuses follows depends on the mailbox's other fields."""

_PAYMENT_STATUS = {
    PaymentStanding.FIRST_AWAITED: M.WAITING_PAYMENT,
    PaymentStanding.RENEWAL_AWAITED: M.RENEWING,
    PaymentStanding.FAILED: M.PAYMENT_FAILED,
    PaymentStanding.SUSPENDED: M.LOCKED,
}

_PROVISION_STATUS = {
    ProvisionStanding.CREATE_AWAITED: M.CREATING,
    ProvisionStanding.RESTORE_AWAITED: M.RESTORING,
}

_REQUESTED_KIND = {
    M.CREATING: ProvisionKind.CREATE,
    M.RESTORING: ProvisionKind.RESTORE,
    M.DELETING: ProvisionKind.DELETE,
}


def status_of(mailbox: Mailbox, domain_status: DomainStatus) -> M:
    """Return the status that follows from a mailbox's other fields and its domain: the first obstacle to its use."""
    if mailbox.purging:
        return M.DELETING
    if mailbox.deletion_scheduled_at is not None:
        return M.DELETION_SCHEDULED
    if mailbox.lock_reason is not None:
        return M.LOCKED
    if mailbox.payment in _PAYMENT_STATUS:
        return _PAYMENT_STATUS[mailbox.payment]
    if domain_status is not DomainStatus.READY:
        return M.WAITING_DOMAIN
    return _PROVISION_STATUS.get(mailbox.provision, M.READY)


def move_mailbox(mailbox: Mailbox, event: Event, domain_status: DomainStatus, now: datetime, **changes: Any) -> Mailbox:
    """Return the mailbox with changed fields and the status that follows from them; every transition is made here.

    A provision that the new status waits for is requested. Raises IllegalTransition.
    """
    changed = replace(mailbox, **changes)
    status = status_of(changed, domain_status)
    if status is mailbox.status:
        return changed
    check_transition(MAILBOX_TRANSITIONS, event, mailbox.status, status)
    return request_provision(replace(changed, status=status, cause=event, updated_at=now))


def schedule_deletion(mailbox: Mailbox, event: Event, at: datetime, now: datetime) -> Mailbox:
    """Return the mailbox scheduled for deletion at an instant; its payment is not awaited until it is restored."""
    return move_mailbox(mailbox, event, DomainStatus.READY, now, deletion_scheduled_at=at, payment_step_at=None)


def request_provision(mailbox: Mailbox) -> Mailbox:
    """Return the mailbox with the provision requested that its status waits for, unless one is pending."""
    kind = _REQUESTED_KIND.get(mailbox.status)
    if kind is None or mailbox.provision_id is not None or mailbox.provision is ProvisionStanding.PROVIDED:
        return mailbox
    return replace(mailbox, provision_id=provision_id(mailbox, kind))
