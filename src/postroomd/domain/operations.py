"""What the operator's side sees: payments, the mail platform's work, the history, and what is left of the purged.

None of it holds personal data, and all of it outlives what it is about. `address` is joined to a row where it is read,
and "" once the resource is gone.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from postroomd.domain.facts import MailboxEvent
from postroomd.domain.model import MailboxStatus, SubscriptionPeriod


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


class ProvisionKind(StrEnum):
    """What the mail platform is to do."""

    CREATE = "create"
    RESTORE = "restore"
    DELETE = "delete"


class ProvisionStatus(StrEnum):
    """Where a piece of the mail platform's work stands."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    VOID = "void"  # nobody waits for it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Work for the mail platform: on an alias where `alias_id` is set, else a mailbox, else the domain itself.

    `attempts` counts reported failures, `error` is the last one's reason, and it is to be tried again from
    `next_attempt_at` on.
    """

    id: str
    organization_id: str
    project_id: str
    domain_id: str
    mailbox_id: str | None
    alias_id: str | None
    kind: ProvisionKind
    requested_at: datetime
    next_attempt_at: datetime
    status: ProvisionStatus = ProvisionStatus.PENDING
    attempts: int = 0
    error: str | None = None
    settled_at: datetime | None = None
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of a mailbox's status, by the revision that it made.

    `from_status` is None for its creation, `to_status` for its purge. `actor` is `key:ACCESS_KEY`, `admin:NAME` or
    `worker`.
    """

    mailbox_id: str
    revision: int
    organization_id: str
    project_id: str
    domain_id: str
    from_status: MailboxStatus | None
    to_status: MailboxStatus | None
    at: datetime
    cause: MailboxEvent
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of a purged mailbox: that it was, when it went and why."""

    mailbox_id: str
    organization_id: str
    project_id: str
    domain_id: str
    address_hash: bytes
    purged_at: datetime
    cause: MailboxEvent


def address_hash(organization_id: str, address: str) -> bytes:
    """What is kept of a purged address: HMAC-SHA-256 by the organization's id, which tells others nothing."""
    return hmac.digest(organization_id.encode(), address.encode(), "sha256")


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """Some items of a list, and from where it goes on: "" where it ends."""

    items: Sequence[Item]
    next_cursor: str
