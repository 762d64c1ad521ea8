"""Due work of every tenant: leases of due rows, and the steps that the worker takes with them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.model import Domain, DomainRecord, DomainStatus, Mailbox
from postroomd.domain.ownership import DomainCheck, Registration
from postroomd.storage.protocols.rules import (
    ActivationRule,
    AliasRule,
    DomainPurgeRule,
    ForwardingRule,
    MailboxRule,
    MailboxStep,
    PurgeRule,
    ValidationRule,
)


class RowFailed(Exception):
    """The step of one row, `row_id`, failed unexpectedly."""

    def __init__(self, row_id: str) -> None:
        super().__init__(row_id)
        self.row_id = row_id


@dataclass(frozen=True, slots=True)
class MailboxLease:
    """A due mailbox that is leased to one worker, with its consecutive failures.

    `generation` counts the leases of the mailbox: a lease that a later one has superseded changes nothing.
    """

    mailbox: Mailbox
    domain_status: DomainStatus
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class DomainLease:
    """A domain whose lookup is due, leased to one worker as with MailboxLease."""

    domain: Domain
    records: Mapping[str, DomainRecord]
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class Due:
    """The earliest due dates of lookups and of all other steps; None if there are none."""

    lookups: datetime | None
    steps: datetime | None
    immediate: bool = False
    """Whether there are steps without a due date, which can be taken at any time."""

    def has_lookups(self, now: datetime) -> bool:
        """Whether a lookup is due."""
        return self.lookups is not None and self.lookups <= now

    def has_steps(self, now: datetime) -> bool:
        """Whether another step is due."""
        return self.immediate or (self.steps is not None and self.steps <= now)


@dataclass(frozen=True, slots=True)
class DomainPurge:
    """What one batch of the purge of a domain has changed: mailboxes, or at the end the domain itself."""

    domain_id: str
    mailboxes: int  # changed or purged
    remaining: int  # mailboxes of the domain that are not purged yet
    removed: bool = False  # the domain


class Work(Protocol):
    """Due work of every tenant. Limits bound one transaction, not the work.

    Rows whose step takes long are leased: until the lease expires, no other worker is given them.

    Each method that handles a batch of rows skips those with the ids in `skipping`. If a batch fails unexpectedly, its
    first row is tried alone; RowFailed names it if it fails again.
    """

    async def next_due(
        self,
        *,
        with_provisions: bool = False,
        with_session_ends: bool = False,
        history_retention: timedelta | None = None,
        audit_retention: timedelta | None = None,
    ) -> Due:
        """Return the earliest due dates, by one statement that indexes serve.

        `with_provisions` includes pending provisions, for a worker that confirms them itself, and
        `with_session_ends` sessions to end. `history_retention` includes history to remove, and `audit_retention` audit
        events.
        """

    async def lease_domains(
        self,
        now: datetime,
        lease: timedelta,
        limit: int,
        skipping: Collection[str] = (),
        running: Mapping[str, int] | None = None,
    ) -> Sequence[DomainLease]:
        """Lease domains whose lookup is due. Raises RowFailed.

        The longest overdue domain of each organization comes first, then the second of each, and so on; `running`
        lookups, by organization id, count as its first. With these, an organization gets a further one only while it
        has fewer than are left of `limit`: together, organizations whose name servers don't respond leave slots free.
        """

    async def rivals(self, domain: Domain, *, owning: bool, limit: int) -> Sequence[Registration]:
        """Return up to `limit` domains of other organizations with the same name, those that own it or the others.

        Domains that are creating or deleting are left out.
        """

    async def settle_validation(self, lease: DomainLease, rule: ValidationRule) -> DomainCheck:
        """Apply a rule to a domain and its records, and store what it changes and when the next lookup is due.

        A former owner of the name that the rule releases, and a switch to the domain's next DKIM key, are stored in the
        same transaction. Returns what the rule
        returned; the domain as it was leased, if it is gone or the lease is superseded.
        """

    async def postpone_domain(self, lease: DomainLease, until: datetime) -> None:
        """Count a failed lookup, and make the next one due at an instant."""

    async def activate_domains(
        self,
        domain_rule: ActivationRule,
        alias_rule: AliasRule,
        forwarding_rule: ForwardingRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply rules to provisioning domains, their aliases and forwardings.

        A domain with more aliases or forwardings to request than the limit is activated by a later call. Returns the
        number of domains in the batch. Raises RowFailed.
        """

    async def propagate_domain(self, rule: MailboxRule, limit: int, skipping: Collection[str] = ()) -> int:
        """Apply a rule to the next mailboxes, at most `limit`, of a domain that has become ready or left that status.

        Repeated calls reach every mailbox of the domain once, and begin again if its status changes meanwhile. Returns
        the number of mailboxes, at least 1 for a domain; 0 if there is none. Raises RowFailed, for the domain.
        """

    async def lease_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Lease mailboxes whose step is due, the longest overdue first. Raises RowFailed."""

    async def advance(self, lease: MailboxLease, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a mailbox in one transaction; purge it if the rule returns None.

        Returns False if the mailbox is gone or the lease is superseded.
        """

    async def postpone_mailbox(self, lease: MailboxLease, until: datetime) -> None:
        """Count a failed step, and make the next attempt due at an instant."""

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> DomainPurge | None:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or to a deleting domain without mailboxes.

        A rule returns None for a resource to purge. Returns what was changed or purged, None if no domain is to be
        purged. Raises RowFailed, for the domain.
        """

    async def retire_dkim_keys(self, now: datetime, limit: int, skipping: Collection[str] = ()) -> int:
        """Erase up to `limit` previous DKIM keys whose overlap period has ended, with their records.

        Returns their number. Raises RowFailed, for the domain.
        """

    async def remove_expired_responses(self, now: datetime, limit: int) -> int:
        """Remove stored responses of idempotency keys that have expired. Returns their number."""

    async def remove_history(self, until: datetime, limit: int) -> int:
        """Remove history that is not younger than an instant: transitions, tombstones, settled payments and provisions.

        Up to `limit` rows of each kind; returns their number together.
        """

    async def remove_audit_events(self, until: datetime, limit: int) -> int:
        """Remove up to `limit` audit events that are not younger than an instant. Returns their number."""
