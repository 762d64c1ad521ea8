"""Moments, leases and steps of the due work, for its contracts."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from postroomd.domain.domains import begin_validation
from postroomd.domain.mailboxes import advance_mailbox
from postroomd.domain.model import Domain, DomainStatus, Mailbox, RecordStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.records import RECORD_KINDS, Finding
from postroomd.storage.protocols.repository import Repository
from postroomd.storage.protocols.rules import MailboxStep
from postroomd.storage.protocols.work import MailboxLease
from tests.support.factories import NOW, Tenant, new_domain
from tests.support.lifecycle import FREE
from tests.support.worker import validation_rule

LATER = NOW + timedelta(hours=1)
RETENTION = timedelta(days=30)
FAR = NOW + timedelta(days=4_000)
LEASE = timedelta(minutes=1)
INTERVAL = timedelta(days=1)

ALL_VALID: Mapping[str, Finding] = {kind: Finding(RecordStatus.VALID) for kind in RECORD_KINDS}


def advancing(now: datetime, policy: LifecyclePolicy = FREE) -> MailboxStep:
    return partial(advance_mailbox, policy=policy, now=now)


def purging(_subject: object, _status: object = None) -> None:
    """A rule that purges any mailbox or domain."""


async def lease_due(repository: Repository, now: datetime, limit: int = 10) -> Sequence[MailboxLease]:
    """Lease the mailboxes that are due."""
    return await repository.work.lease_mailboxes(now, LEASE, limit)


async def lease_of(repository: Repository, mailbox: Mailbox, now: datetime = FAR) -> MailboxLease:
    """Lease a mailbox."""
    (lease,) = [each for each in await lease_due(repository, now, 100) if each.mailbox.id == mailbox.id]
    return lease


async def step(
    repository: Repository, mailbox: Mailbox, now: datetime, rule: MailboxStep | None = None, leased_at: datetime = FAR
) -> bool:
    """Lease a mailbox, and take the step that is due at `now`."""
    return await repository.work.advance(await lease_of(repository, mailbox, leased_at), rule or advancing(now), now)


async def purge(repository: Repository, limit: int) -> int:
    """Purge mailboxes and domains without a mail platform."""
    batch = await repository.work.purge_domains(purging, purging, LATER, limit)
    return (batch.mailboxes or 1) if batch else 0


async def validating_domain(repository: Repository, tenant: Tenant, name: str = "example.com") -> Domain:
    """Return a validating domain, whose lookup is due."""
    domain = await new_domain(repository, tenant, name, DomainStatus.WAITING_VALIDATION)
    return await repository.domains.begin_validation(tenant.context, domain.id, partial(begin_validation, now=NOW), NOW)


async def settle(
    repository: Repository, domain: Domain, findings: Mapping[str, Finding], now: datetime = LATER
) -> Domain:
    """Lease a domain, and store the findings of its lookup."""
    leases = await repository.work.lease_domains(FAR, LEASE, 100)
    (lease,) = [each for each in leases if each.domain.id == domain.id]
    return (await repository.work.settle_validation(lease, validation_rule(findings, INTERVAL, now))).domain
