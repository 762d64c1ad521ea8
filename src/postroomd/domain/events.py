"""What happens to domains, mailboxes and aliases, and how a mailbox stands with billing and the mail platform.

Events are the causes that the history tells. Standings are facts of their own, beside one another: a mailbox's status
follows from them (lifecycle.status_of).
"""

from enum import StrEnum


class DomainEvent(StrEnum):
    """What moves a domain."""

    CREATED = "created"
    VALIDATE = "validate"
    RECORDS_VALID = "records_valid"
    RECORDS_MISSING = "records_missing"
    RECORDS_INVALID = "records_invalid"
    PROVISIONED = "provisioned"
    DELETE = "delete"


class MailboxEvent(StrEnum):
    """What moves a mailbox."""

    CREATE = "create"
    DOMAIN_READY = "domain_ready"
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
    """What moves an alias."""

    CREATE = "create"
    PROVISIONED = "provisioned"
    DELETE = "delete"
    DOMAIN_DELETED = "domain_deleted"
    PURGED = "purged"


class PaymentStanding(StrEnum):
    """How a mailbox stands with the payment of its running period."""

    SETTLED = "settled"
    FIRST_AWAITED = "first_awaited"
    RENEWAL_AWAITED = "renewal_awaited"
    FAILED = "failed"  # refused, or awaited for too long
    SUSPENDED = "suspended"  # failed for too long


class ProvisionStanding(StrEnum):
    """What the mail platform has of a mailbox."""

    CREATE_AWAITED = "create_awaited"  # nothing yet
    PROVIDED = "provided"
    RESTORE_AWAITED = "restore_awaited"
    DELETE_AWAITED = "delete_awaited"
