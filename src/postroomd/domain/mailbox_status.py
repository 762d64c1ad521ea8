"""The status of a mailbox, derived from its other fields."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from postroomd.domain.events import MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.model import DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.provisions import ProvisionKind, provision_id
from postroomd.domain.transitions import MAILBOX_TRANSITIONS, check_transition

_PAYMENT_STATUS = {
    PaymentStanding.FIRST_AWAITED: MailboxStatus.WAITING_PAYMENT,
    PaymentStanding.RENEWAL_AWAITED: MailboxStatus.RENEWING,
    PaymentStanding.FAILED: MailboxStatus.PAYMENT_FAILED,
    PaymentStanding.SUSPENDED: MailboxStatus.LOCKED,
}


_PROVISION_STATUS = {
    ProvisionStanding.CREATE_AWAITED: MailboxStatus.CREATING,
    ProvisionStanding.RESTORE_AWAITED: MailboxStatus.RESTORING,
}


_WORK = {
    MailboxStatus.CREATING: ProvisionKind.CREATE,
    MailboxStatus.RESTORING: ProvisionKind.RESTORE,
    MailboxStatus.DELETING: ProvisionKind.DELETE,
}


def status_of(mailbox: Mailbox, domain_status: DomainStatus) -> MailboxStatus:
    """What the first of a mailbox's facts that holds it up makes of its status."""
    if mailbox.purging:
        return MailboxStatus.DELETING
    if mailbox.deletion_scheduled_at is not None:
        return MailboxStatus.DELETION_SCHEDULED
    if mailbox.lock_reason is not None:
        return MailboxStatus.LOCKED
    if mailbox.payment in _PAYMENT_STATUS:
        return _PAYMENT_STATUS[mailbox.payment]
    if domain_status is not DomainStatus.READY:
        return MailboxStatus.WAITING_DOMAIN
    return _PROVISION_STATUS.get(mailbox.provision, MailboxStatus.READY)


def move_mailbox(
    mailbox: Mailbox, event: MailboxEvent, domain_status: DomainStatus, now: datetime, **facts: Any
) -> Mailbox:
    """The mailbox with other facts, and the status that follows from them. Every change of a status comes by here.

    Where it now waits for the mail platform, that is asked. Raises IllegalTransition.
    """
    changed = replace(mailbox, **facts)
    status = status_of(changed, domain_status)
    if status is mailbox.status:
        return changed
    check_transition(MAILBOX_TRANSITIONS, event, mailbox.status, status)
    return ask_platform(replace(changed, status=status, cause=event, updated_at=now))


def schedule_deletion(mailbox: Mailbox, event: MailboxEvent, at: datetime, now: datetime) -> Mailbox:
    """The mailbox scheduled for deletion at an instant; nobody waits for its payment until it is restored."""
    return move_mailbox(mailbox, event, DomainStatus.READY, now, deletion_scheduled_at=at, payment_step_at=None)


def ask_platform(mailbox: Mailbox) -> Mailbox:
    """The mailbox with the work that its status waits for asked of the mail platform, unless that is done already."""
    kind = _WORK.get(mailbox.status)
    idle = mailbox.provision_id is None and mailbox.provision is not ProvisionStanding.PROVIDED
    return replace(mailbox, provision_id=provision_id(mailbox, kind)) if kind and idle else mailbox
