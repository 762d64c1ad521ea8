"""Due work of the worker, for every tenant: leases and steps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from postroomd.domain.model import Domain, DomainRecord, DomainStatus, Mailbox
from postroomd.domain.records import Finding
from postroomd.storage.protocols.rules import DomainPurgeRule, MailboxStep, PurgeRule


class RowFailed(Exception):
    """What the worker was to do with a row, and it alone, has failed unexpectedly."""

    def __init__(self, row_id: str) -> None:
        super().__init__(row_id)
        self.row_id = row_id


@dataclass(frozen=True, slots=True)
class MailboxLease:
    """A mailbox that a worker has been given, to move before another is given it.

    `generation` tells this claim from the next one: once there is one, this one moves nothing.
    """

    mailbox: Mailbox
    domain_status: DomainStatus
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class DomainLease:
    """A domain whose records a worker has been given to look up, as with MailboxLease."""

    domain: Domain
    records: Mapping[str, DomainRecord]
    generation: int
    failures: int


@dataclass(frozen=True, slots=True)
class Due:
    """When there is something to do next: domains to look up, and all else. None: nothing is to come."""

    look_ups: datetime | None
    steps: datetime | None
    at_once: bool = False
    """Whether there are steps besides that wait for no instant."""

    def has_look_ups(self, now: datetime) -> bool:
        """Whether there is a domain to look up by now."""
        return self.look_ups is not None and self.look_ups <= now

    def has_steps(self, now: datetime) -> bool:
        """Whether there is anything else to do by now."""
        return self.at_once or (self.steps is not None and self.steps <= now)


class Work(Protocol):
    """What the worker does by itself, for every tenant. Limits bound one transaction, not the work.

    What takes a worker long is claimed for a while, the lease; no other worker is given it until that is over. What
    another has been given since is changed by none of the former's steps.

    What takes rows passes over those that it is told to skip, by their ids. A fault of one row keeps no other waiting:
    where a chunk fails unexpectedly, one row is taken alone, and RowFailed says which one it is that fails.
    """

    async def next_due(self, *, platform: bool = True) -> Due:
        """When there is something to do next: one look, which an index answers.

        Without a mail platform what one was asked for is to be done too.
        """

    async def lease_domains(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[DomainLease]:
        """Domains whose records are to be looked up by now, the longest waiting first. Raises RowFailed."""

    async def settle_validation(
        self, claim: DomainLease, findings: Mapping[str, Finding], interval: timedelta, now: datetime
    ) -> Domain:
        """Store what was found of a domain's records by kind, and move the domain where it still waits for that.

        A validating domain goes on to provisioning where every required record is valid and no other organization
        has the name, back to waiting_validation where a required record is absent or unanswered, else to
        validation_failed; a ready one stays, and is looked up again after the interval. Answers the domain as it is
        then; as it was where it is gone, or another worker has it.
        """

    async def put_off_domain(self, claim: DomainLease, until: datetime) -> None:
        """Count a failed look-up, and have the domain looked up again at an instant."""

    async def finish_provisioning(
        self, interval: timedelta, now: datetime, limit: int, skipping: Collection[str] = ()
    ) -> int:
        """Make provisioned domains ready, and the mailboxes due that wait for them.

        The mail platform is asked for their aliases. Their records are looked up again after the interval. Answers of
        how many domains some of that was done: a domain that has more aliases than the limit takes several calls.
        Raises RowFailed.
        """

    async def lease_mailboxes(
        self, now: datetime, lease: timedelta, limit: int, skipping: Collection[str] = ()
    ) -> Sequence[MailboxLease]:
        """Mailboxes whose next step is due, the longest overdue first. Raises RowFailed."""

    async def advance(self, claim: MailboxLease, rule: MailboxStep, now: datetime) -> bool:
        """Apply a rule to a mailbox in one transaction; None purges it.

        False where it is gone, or another worker has it.
        """

    async def put_off_mailbox(self, claim: MailboxLease, until: datetime) -> None:
        """Count a failed step, and have the mailbox taken up again at an instant."""

    async def purge_domains(
        self,
        mailbox_rule: PurgeRule,
        domain_rule: DomainPurgeRule,
        now: datetime,
        limit: int,
        skipping: Collection[str] = (),
    ) -> int:
        """Apply a rule to up to `limit` mailboxes of a deleting domain, or one to such a domain that has none left.

        None purges them. Answers how many mailboxes and domains changed or went. Raises RowFailed for the domain.
        """

    async def forget_answers(self, now: datetime, limit: int) -> int:
        """Drop answers under idempotency keys that have expired. Answers how many."""
