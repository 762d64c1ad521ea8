"""Which status follows which: one table a resource, and the functions that move a value along it.

A function takes a frozen value and the time, and returns the value as it will be; it returns the same object where
nothing changes, and raises where the rule forbids the step. The storage applies them inside a transaction.

A mailbox's status says which of its facts is the first that holds it up (`status_of`). An event changes a fact, and
the status follows: no event has to know of the others, and none can leave a mailbox where nothing moves it on.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5
from zlib import crc32

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.facts import AliasEvent, DomainEvent, MailboxEvent, PaymentStanding, ProvisionStanding
from postroomd.domain.model import Alias, AliasStatus, Domain, DomainStatus, Mailbox, MailboxStatus
from postroomd.domain.operations import ProvisionKind

A, D, M = AliasStatus, DomainStatus, MailboxStatus
_E = MailboxEvent

DOMAIN_TRANSITIONS: Mapping[DomainEvent, Mapping[DomainStatus, DomainStatus]] = {
    DomainEvent.CREATED: {D.CREATING: D.WAITING_VALIDATION},
    DomainEvent.VALIDATE: dict.fromkeys((D.WAITING_VALIDATION, D.VALIDATION_FAILED), D.VALIDATING),
    DomainEvent.RECORDS_VALID: {D.VALIDATING: D.PROVISIONING},
    DomainEvent.RECORDS_INVALID: {D.VALIDATING: D.VALIDATION_FAILED},
    DomainEvent.PROVISIONED: {D.PROVISIONING: D.READY},
    DomainEvent.DELETE: {status: D.DELETING for status in D if status is not D.DELETING},
}
"""Event -> status -> next status. A pair that is absent is not a transition."""

_WORKING = frozenset({M.WAITING_DOMAIN, M.CREATING, M.RESTORING, M.READY})
_UNPAID = frozenset({M.WAITING_PAYMENT, M.RENEWING, M.PAYMENT_FAILED})
_KEPT = _WORKING | _UNPAID | {M.LOCKED}

MAILBOX_TRANSITIONS: Mapping[MailboxEvent, Mapping[MailboxStatus | None, frozenset[MailboxStatus | None]]] = {
    _E.CREATE: {None: frozenset({M.WAITING_PAYMENT, M.WAITING_DOMAIN, M.CREATING, M.READY})},
    _E.DOMAIN_READY: {M.WAITING_DOMAIN: _WORKING - {M.WAITING_DOMAIN}},
    _E.PROVISIONED: dict.fromkeys((M.CREATING, M.RESTORING), frozenset({M.READY})),
    _E.RENEWAL_DUE: dict.fromkeys(_WORKING, frozenset({M.RENEWING})),
    _E.PAYMENT_CONFIRMED: dict.fromkeys((*_UNPAID, M.LOCKED), _WORKING),
    _E.PAYMENT_REFUSED: dict.fromkeys((M.WAITING_PAYMENT, M.RENEWING), frozenset({M.PAYMENT_FAILED})),
    _E.PAYMENT_OVERDUE: dict.fromkeys((M.WAITING_PAYMENT, M.RENEWING), frozenset({M.PAYMENT_FAILED})),
    _E.PAYMENT_GRACE_OVER: {M.PAYMENT_FAILED: frozenset({M.LOCKED})},
    _E.SUSPENSION_OVER: {M.LOCKED: frozenset({M.DELETION_SCHEDULED})},
    _E.CANCELLATION_DUE: dict.fromkeys(_KEPT, frozenset({M.DELETION_SCHEDULED})),
    _E.LOCK: dict.fromkeys(_WORKING | _UNPAID, frozenset({M.LOCKED})),
    _E.UNLOCK: {M.LOCKED: _WORKING | _UNPAID},
    _E.DELETE: dict.fromkeys(_KEPT, frozenset({M.DELETION_SCHEDULED})),
    _E.REACTIVATE: {M.DELETION_SCHEDULED: _WORKING | {M.WAITING_PAYMENT, M.LOCKED}},
    _E.RESTORE: {M.DELETION_SCHEDULED: _WORKING | {M.WAITING_PAYMENT, M.LOCKED}},
    _E.PURGE_DUE: {M.DELETION_SCHEDULED: frozenset({M.DELETING, None})},
    _E.DOMAIN_DELETED: dict.fromkeys(_KEPT | {M.DELETION_SCHEDULED}, frozenset({M.DELETING})),
    _E.PURGED: {M.DELETING: frozenset({None})},
}
"""Event -> status -> the statuses that may follow, by the mailbox's other facts.

None is a mailbox that is not there: not yet, or not any more. A pair that is absent is not a transition.
"""

ALIAS_TRANSITIONS: Mapping[AliasEvent, Mapping[AliasStatus | None, frozenset[AliasStatus | None]]] = {
    AliasEvent.CREATE: {None: frozenset({A.PROVISIONING, A.READY})},
    AliasEvent.PROVISIONED: {A.PROVISIONING: frozenset({A.READY})},
    AliasEvent.DELETE: dict.fromkeys((A.PROVISIONING, A.READY), frozenset({A.DELETING})),
    AliasEvent.DOMAIN_DELETED: dict.fromkeys((A.PROVISIONING, A.READY), frozenset({A.DELETING})),
    AliasEvent.PURGED: {A.DELETING: frozenset({None})},
}
"""Event -> status -> the statuses that may follow; None is an alias that is not there."""

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
_WORK = {
    M.CREATING: ProvisionKind.CREATE,
    M.RESTORING: ProvisionKind.RESTORE,
    M.DELETING: ProvisionKind.DELETE,
}
_PROVISIONS = UUID("6f1d2a3e-52c5-4b0e-9a4a-0c3b8e6f7d21")

ALIASES_ALLOWED = frozenset({M.READY, M.LOCKED, M.WAITING_DOMAIN, M.WAITING_PAYMENT, M.CREATING})
"""The statuses of a mailbox that new aliases can be made of."""


class Untabled(Exception):
    """A change of status that its table does not have: a fault of the rules."""


def require_tabled(
    table: Mapping[Any, Mapping[Any, frozenset[Any]]], event: StrEnum, before: StrEnum | None, after: StrEnum | None
) -> None:
    """Raise Untabled where an event does not lead from a status to another."""
    if after not in table[event].get(before, ()):
        raise Untabled(f"{event} does not lead from {before} to {after}")


# --- Mailboxes --------------------------------------------------------------------------------------------------------


def status_of(mailbox: Mailbox, domain_status: DomainStatus) -> MailboxStatus:
    """What the first of a mailbox's facts that holds it up makes of its status."""
    if mailbox.purging:
        return M.DELETING
    if mailbox.deletion_scheduled_at is not None:
        return M.DELETION_SCHEDULED
    if mailbox.lock_reason is not None:
        return M.LOCKED
    if mailbox.payment in _PAYMENT_STATUS:
        return _PAYMENT_STATUS[mailbox.payment]
    if domain_status is not D.READY:
        return M.WAITING_DOMAIN
    return _PROVISION_STATUS.get(mailbox.provision, M.READY)


def move_mailbox(
    mailbox: Mailbox, event: MailboxEvent, domain_status: DomainStatus, now: datetime, **facts: Any
) -> Mailbox:
    """The mailbox with other facts, and the status that follows from them. Every change of a status comes by here.

    Where it now waits for the mail platform, that is asked. Raises Untabled.
    """
    changed = replace(mailbox, **facts)
    status = status_of(changed, domain_status)
    if status is mailbox.status:
        return changed
    require_tabled(MAILBOX_TRANSITIONS, event, mailbox.status, status)
    return ask_platform(replace(changed, status=status, cause=event, updated_at=now))


def schedule_deletion(mailbox: Mailbox, event: MailboxEvent, at: datetime, now: datetime) -> Mailbox:
    """The mailbox scheduled for deletion at an instant; nobody waits for its payment until it is restored."""
    return move_mailbox(mailbox, event, DomainStatus.READY, now, deletion_scheduled_at=at, payment_step_at=None)


def ask_platform(mailbox: Mailbox) -> Mailbox:
    """The mailbox with the work that its status waits for asked of the mail platform, unless that is done already."""
    kind = _WORK.get(mailbox.status)
    idle = mailbox.provision_id is None and mailbox.provision is not ProvisionStanding.PROVIDED
    return replace(mailbox, provision_id=provision_id(mailbox, kind)) if kind and idle else mailbox


def provision_id(subject: Domain | Mailbox | Alias, kind: ProvisionKind) -> str:
    """The id of work on a subject, asked for with its next revision: one alone, however often the rule is applied."""
    return str(uuid5(_PROVISIONS, f"{subject.id}/{subject.revision}/{kind}"))


def require_aliases_allowed(mailbox: Mailbox) -> None:
    """Raise PreconditionFailed where no alias of the mailbox can be made."""
    if mailbox.status not in ALIASES_ALLOWED:
        raise PreconditionFailed(
            ResourceName("mailbox", mailbox.id),
            Precondition.UNKNOWN_PRECONDITION,
            f"no alias can be created of a mailbox that is {mailbox.status}",
        )


# --- Domains ----------------------------------------------------------------------------------------------------------


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


def next_check_at(domain: Domain, interval: timedelta, now: datetime) -> datetime | None:
    """When a domain's records are to be looked up again: while it is ready, after the interval or a tenth of it about.

    Domains that were checked together are not for ever: each has a share of its own.
    """
    if domain.status is not D.READY:
        return None
    return now + interval * (0.9 + 0.2 * crc32(domain.id.encode()) / 2**32)


def delete_domain(domain: Domain, now: datetime) -> Domain:
    """The domain being deleted, and nothing more awaited for it; unchanged where it is already."""
    deleted = move_domain(domain, DomainEvent.DELETE, now)
    return domain if deleted is domain else replace(deleted, provision_id=None)


def require_mailboxes_allowed(domain: Domain) -> None:
    """Raise PreconditionFailed where no mailbox can be made in the domain any more."""
    if domain.status is D.DELETING:
        raise PreconditionFailed(
            ResourceName("domain", domain.id),
            Precondition.UNKNOWN_PRECONDITION,
            "the domain is being deleted: no mailbox can be created in it",
        )
