"""The events that move each resource, and the standings that a mailbox's status is derived from.

An event is the cause of a transition, and the history records it. Standings are independent of one another.
"""

from enum import StrEnum


class DomainEvent(StrEnum):
    """The cause of a domain's transition."""

    CREATE = "create"
    PROVISIONED = "provisioned"
    VALIDATE = "validate"
    RECORDS_VALID = "records_valid"
    RECORDS_MISSING = "records_missing"
    RECORDS_INVALID = "records_invalid"
    ACTIVATE = "activate"
    OWNERSHIP_LOST = "ownership_lost"
    OWNERSHIP_RESTORED = "ownership_restored"
    DELETE = "delete"
    PURGED = "purged"


class MailboxEvent(StrEnum):
    """The cause of a mailbox's transition."""

    CREATE = "create"
    DOMAIN_READY = "domain_ready"
    DOMAIN_LOST = "domain_lost"
    PROVISIONED = "provisioned"
    RENEWAL_DUE = "renewal_due"
    PAYMENT_CONFIRMED = "payment_confirmed"
    PAYMENT_REFUSED = "payment_refused"
    PAYMENT_OVERDUE = "payment_overdue"
    PAYMENT_GRACE_OVER = "payment_grace_over"
    SUSPENSION_OVER = "suspension_over"
    CANCELLATION_DUE = "cancellation_due"
    LOCK = "lock"
    UNLOCK = "unlock"
    DELETE = "delete"
    REACTIVATE = "reactivate"
    RESTORE = "restore"
    PURGE_DUE = "purge_due"
    DOMAIN_DELETED = "domain_deleted"
    PURGED = "purged"


class AliasEvent(StrEnum):
    """The cause of an alias's transition."""

    CREATE = "create"
    PROVISIONED = "provisioned"
    DELETE = "delete"
    DOMAIN_DELETED = "domain_deleted"
    PURGED = "purged"


class ForwardingEvent(StrEnum):
    """The cause of a forwarding's transition."""

    CREATE = "create"
    UPDATE = "update"
    PROVISIONED = "provisioned"
    DELETE = "delete"
    DOMAIN_DELETED = "domain_deleted"
    PURGED = "purged"


class PaymentStanding(StrEnum):
    """The state of the payment of a mailbox's running period."""

    SETTLED = "settled"
    FIRST_AWAITED = "first_awaited"
    RENEWAL_AWAITED = "renewal_awaited"
    FAILED = "failed"  # refused or overdue
    SUSPENDED = "suspended"  # failed, and the payment grace is over


class ProvisionStanding(StrEnum):
    """The state of a mailbox on the mail platform."""

    CREATE_AWAITED = "create_awaited"
    PROVIDED = "provided"
    RESTORE_AWAITED = "restore_awaited"
    DELETE_AWAITED = "delete_awaited"
