"""The rules of domains."""

from dataclasses import replace
from datetime import datetime, timedelta
from zlib import crc32

from postroomd.domain.errors import Precondition, PreconditionFailed, ResourceName, TransientState
from postroomd.domain.events import DomainEvent
from postroomd.domain.model import Domain, DomainStatus
from postroomd.domain.transitions import DOMAIN_TRANSITIONS


def begin_validation(domain: Domain, now: datetime) -> Domain:
    """The domain with a look-up of its records begun. One that is validating or ready stays as it is.

    Raises TransientState while the domain is creating, provisioning or deleting.
    """
    following = DOMAIN_TRANSITIONS[DomainEvent.VALIDATE].get(domain.status)
    if following:
        return replace(domain, status=following, updated_at=now)
    if domain.status in {DomainStatus.VALIDATING, DomainStatus.READY}:
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
    if domain.status is not DomainStatus.READY:
        return None
    return now + interval * (0.9 + 0.2 * crc32(domain.id.encode()) / 2**32)


def delete_domain(domain: Domain, now: datetime) -> Domain:
    """The domain being deleted, and nothing more awaited for it; unchanged where it is already."""
    deleted = move_domain(domain, DomainEvent.DELETE, now)
    return domain if deleted is domain else replace(deleted, provision_id=None)


def require_mailboxes_allowed(domain: Domain) -> None:
    """Raise PreconditionFailed where no mailbox can be made in the domain any more."""
    if domain.status is DomainStatus.DELETING:
        raise PreconditionFailed(
            ResourceName("domain", domain.id),
            Precondition.UNKNOWN_PRECONDITION,
            "the domain is being deleted: no mailbox can be created in it",
        )
