"""Which status follows which: one table a resource, and the functions that move a value along it.

A function takes a frozen value and the time, and returns the value as it will be; it returns the same object where
nothing changes, and raises where the rule forbids the step. The storage applies them inside a transaction.

A mailbox's status says which of its facts is the first that holds it up (`status_of`). An event changes a fact, and
the status follows: no event has to know of the others, and none can leave a mailbox where nothing moves it on.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from postroomd.domain.events import AliasEvent, DomainEvent, MailboxEvent
from postroomd.domain.model import AliasStatus, DomainStatus, MailboxStatus

A, D, M = AliasStatus, DomainStatus, MailboxStatus


_E = MailboxEvent


DOMAIN_TRANSITIONS: Mapping[DomainEvent, Mapping[DomainStatus, DomainStatus]] = {
    DomainEvent.CREATED: {D.CREATING: D.WAITING_VALIDATION},
    DomainEvent.VALIDATE: dict.fromkeys((D.WAITING_VALIDATION, D.VALIDATION_FAILED), D.VALIDATING),
    DomainEvent.RECORDS_VALID: {D.VALIDATING: D.PROVISIONING},
    DomainEvent.RECORDS_MISSING: {D.VALIDATING: D.WAITING_VALIDATION},
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


class IllegalTransition(Exception):
    """A change of status that its table does not have: a fault of the rules."""


def check_transition(
    table: Mapping[Any, Mapping[Any, frozenset[Any]]], event: StrEnum, before: StrEnum | None, after: StrEnum | None
) -> None:
    """Raise IllegalTransition where an event does not lead from a status to another."""
    if after not in table[event].get(before, ()):
        raise IllegalTransition(f"{event} does not lead from {before} to {after}")
