"""The history of domains and mailboxes: their transitions, and the tombstones of purged mailboxes."""

import hmac
from dataclasses import dataclass
from datetime import datetime

from postroomd.domain.events import DomainEvent, MailboxEvent
from postroomd.domain.model import DomainStatus, MailboxStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of a mailbox's status, identified by the revision that it created.

    `from_status` is None for the creation, `to_status` for the purge. `actor` is `key:ACCESS_KEY`, `admin:NAME` or
    `worker`. `reason` is that of the operator's lock, for a LOCK; a lock that replaces another's reason is a transition
    between two equal statuses.
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
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainTransition:
    """One change of a domain's status, as Transition for mailboxes.

    `name_hash` is the `address_hash` of the domain's name, by which the history of a purged domain is found.
    """

    domain_id: str
    revision: int
    organization_id: str
    project_id: str
    name_hash: bytes
    from_status: DomainStatus | None
    to_status: DomainStatus | None
    at: datetime
    cause: DomainEvent
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """The record that remains of a purged mailbox, without personal data."""

    mailbox_id: str
    organization_id: str
    project_id: str
    domain_id: str
    address_hash: bytes
    purged_at: datetime
    cause: MailboxEvent


def address_hash(organization_id: str, address: str) -> bytes:
    """Return the HMAC-SHA-256 of an address or a domain name, keyed by the organization's id.

    Records that outlive their resource store it in place of the address or name.
    """
    return hmac.digest(organization_id.encode(), address.encode(), "sha256")
