"""The operator's settings that rules depend on."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecyclePolicy:
    """The operator's lifecycle policy.

    `billing`: each period requires a payment. A payment is overdue after `payment_term`; the mailbox stays in use for
    `payment_grace` and is locked for `suspension_grace`, before its deletion is scheduled.

    `provisioning`: a mail platform confirms each change. Without it, every stored resource counts as provisioned.

    The retentions are the times between a scheduled deletion and the purge: `deletion_retention` after a caller deleted
    the mailbox, `cancellation_retention` after its subscription ended, canceled or unpaid. `quarantine` is the time
    after a purge in which the address can't be used again. `unpaid_retention` replaces both for mailboxes that were
    never paid for; None means `deletion_retention`.

    `release_grace`: the time of continuous absence of its validation token after which a ready domain loses its name.

    `dkim_overlap`: the time for which the previous DKIM key of a rotation stays published once the next one signs.

    `cascade_domain_deletion`: a domain can be deleted with mailboxes in it, as if every call had `force`.
    """

    deletion_retention: timedelta = timedelta(days=30)
    cancellation_retention: timedelta = timedelta(days=30)
    unpaid_retention: timedelta | None = None
    billing: bool = False
    payment_term: timedelta = timedelta(days=7)
    payment_grace: timedelta = timedelta(days=7)
    suspension_grace: timedelta = timedelta(days=14)
    provisioning: bool = False
    quarantine: timedelta = timedelta(0)
    cascade_domain_deletion: bool = False
    release_grace: timedelta = timedelta(days=3)
    dkim_overlap: timedelta = timedelta(days=7)

    def quarantine_at(self, now: datetime) -> "Quarantine | None":
        """Return the quarantine in force at an instant; None if there is none."""
        return Quarantine(self.quarantine, now) if self.quarantine else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The operator's limits of what tenants can store, besides the mailbox quota of each project.

    `domains`, `aliases` and `responses` are per organization, `mailbox_aliases` per mailbox. `responses` are those that
    are stored under idempotency keys, and `response_octets` their size in octets, keys included.
    """

    domains: int = 1_000
    aliases: int = 10_000
    mailbox_aliases: int = 100
    responses: int = 10_000
    response_octets: int = 64 * 1024 * 1024


DEFAULT_QUOTAS = Quotas()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The time after a purge in which an address can't be used again in its organization, applied at `now`."""

    length: timedelta
    now: datetime

    @property
    def since(self) -> datetime:
        """The instant from which on purged addresses are in quarantine."""
        return self.now - self.length

    def end(self, purged_at: datetime) -> datetime:
        """Return the end of the quarantine of an address that was purged at an instant."""
        return purged_at + self.length
