"""The history of mailboxes: transitions, and the tombstones of purged ones."""

import hmac
from dataclasses import dataclass
from datetime import datetime

from postroomd.domain.events import MailboxEvent
from postroomd.domain.model import MailboxStatus


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
