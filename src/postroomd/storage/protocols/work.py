"""Due work of the background worker, for all tenants: leases and steps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.model import Domain, DomainRecord, DomainStatus, Mailbox
from postroomd.domain.records import Finding
from postroomd.storage.protocols.rules import DomainPurgeRule, MailboxStep, PurgeRule


class RowFailed(Exception):
    """The step of one row, taken alone, failed unexpectedly."""

    def __init__(self, row_id: str) -> None:
        super().__init__(row_id)
        self.row_id = row_id


@dataclass(frozen=True, slots=True)
class MailboxLease:
    """The exclusive right of a worker to advance a mailbox, until the lease ends.

    `mailbox` and `domain_status` are as read with the lease. `generation` counts the leases of the row: a write under a
    generation that is not the latest has no effect. `failures` counts the failed steps since the last success.
    """

    mailbox: Mailbox
    domain_status: DomainStatus
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class DomainLease:
    """The exclusive right of a worker to look up a domain's DNS records. The fields are as in MailboxLease."""

    domain: Domain
    records: Mapping[str, DomainRecord]
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class Due:
    """The earliest instants at which DNS lookups and other steps are due; None if none is scheduled.

    `immediate` is set if there are steps that have no due time and can be taken now.
    """

    lookups: datetime | None
    steps: datetime | None
    immediate: bool = False

    def has_lookups(self, now: datetime) -> bool:
        """Return whether a DNS lookup is due."""
        return self.lookups is not None and self.lookups <= now

    def has_steps(self, now: datetime) -> bool:
        """Return whether any other step is due."""
        return self.immediate or (self.steps is not None and self.steps <= now)


class Work(Protocol):
    """The due work of all tenants, shared by any number of workers.

    A lease gives a row to one worker for a duration. After that another worker may lease the row, and the writes of the
    former have no effect.

    A method that takes rows takes at most `limit` in its transaction, and none of those in `skip` (ids). If a batch
    fails unexpectedly it is retried with one row alone. If that fails too, RowFailed names the row, and the caller can
    skip it: a faulty row does not block others.
    """

    async def next_due(self, *, platform: bool = True) -> Due:
        """Return when work is due next, from indexes alone.

        Without a mail platform (`platform` false) pending provisions count as steps.
        """

    async def lease_domains(
        self, now: datetime, duration: timedelta, limit: int, skip: Collection[str] = ()
    ) -> Sequence[DomainLease]:
        """Lease domains whose DNS lookup is due until `now` + `duration`, longest overdue first. Raises RowFailed."""

    async def settle_validation(
        self, lease: DomainLease, findings: Mapping[str, Finding], interval: timedelta, now: datetime
    ) -> Domain:
        """Store the findings of a DNS lookup by record kind, and return the domain.

        A validating domain becomes `provisioning` if every required record is valid and no other organization owns the
        name, `waiting_validation` if a required record is absent or unanswered, else `validation_failed`. The status of
        any other domain stays; a ready one is due again after `interval`. If the lease has ended or the domain is
        removed, nothing is written and the leased domain is returned.
        """

    async def postpone_domain(self, lease: DomainLease, until: datetime) -> None:
        """Count a failed DNS lookup, and make the next one due at `until`."""

    async def finish_provisioning(
        self, interval: timedelta, now: datetime, limit: int, skip: Collection[str] = ()
    ) -> int:
        """Make provisioned domains ready, and return how many domains were processed. Raises RowFailed.

        The mailboxes that wait for the domain become due, its waiting aliases are requested from the mail platform, and
        its next DNS lookup is due after `interval`. A domain with more than `limit` waiting aliases takes several
        calls.
        """

    async def lease_mailboxes(
        self, now: datetime, duration: timedelta, limit: int, skip: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Lease mailboxes whose step is due until `now` + `duration`, longest overdue first. Raises RowFailed."""

    async def advance(self, lease: MailboxLease, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a leased mailbox; None purges it.

        Returns False, and writes nothing, if the mailbox is removed or another worker has leased it since.
        """

    async def postpone_mailbox(self, lease: MailboxLease, until: datetime) -> None:
        """Count a failed step, and make the next one due at `until`."""

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skip: Collection[str] = (),
    ) -> int:
        """Purge up to `limit` mailboxes of one deleted domain, or the domain itself if it has none left.

        Returns how many rows were changed or removed; 0 if there is nothing to purge. Raises RowFailed with the id of
        the domain.
        """

    async def delete_expired_responses(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` responses whose idempotency keys have expired, and return how many."""
