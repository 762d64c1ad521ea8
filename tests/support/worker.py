"""The worker's steps in a test, without its loop and its backoff."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from postroomd.domain.aliases import request_alias
from postroomd.domain.forwardings import request_forwarding
from postroomd.domain.mailboxes import follow_domain
from postroomd.domain.model import DomainStatus
from postroomd.domain.ownership import activate_domain, settle_validation
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.records import Finding
from postroomd.storage.protocols.rules import ValidationRule
from postroomd.storage.protocols.work import Work
from postroomd.worker.steps import Worker
from tests.support.lifecycle import FREE


async def drain(worker: Worker, now: datetime) -> int:
    """Run everything that is due at an instant, and return the number of steps taken. A step's failure is raised."""
    return await look_up_domains(worker, now) + await drain_steps(worker, now)


async def look_up_domains(worker: Worker, now: datetime) -> int:
    """Look up every domain that is due, without the pool and its limits, and return their number."""
    leases = await worker.lease_lookups(now, 100, None)
    outcomes = await asyncio.gather(*(worker.look_up(lease, now) for lease in leases), return_exceptions=True)
    for outcome in outcomes:  # only now, when none of them runs any more
        if isinstance(outcome, BaseException):
            raise outcome
    return len(leases)


async def drain_steps(worker: Worker, now: datetime) -> int:
    """Run every step that is due at an instant, except lookups, and return their number."""
    total = 0
    while taken := sum([await step(()) for step in worker.steps(now).values()]):
        total += taken
    return total


def validation_rule(
    findings: Mapping[str, Finding],
    interval: timedelta,
    now: datetime,
    *,
    policy: LifecyclePolicy = FREE,
    rival_tokens: Mapping[str, Finding] = MappingProxyType({}),
) -> ValidationRule:
    """The rule that the worker settles a validation by."""
    return partial(
        settle_validation, findings=findings, rival_tokens=rival_tokens, interval=interval, policy=policy, now=now
    )


async def propagate(work: Work, now: datetime, limit: int = 200) -> int:
    """Propagate the status of domains to all their mailboxes, and return the number of chunks."""
    chunks = 0
    while await work.propagate_domain(partial(follow_domain, now=now), limit):
        chunks += 1
    return chunks


async def activate_domains(work: Work, interval: timedelta, now: datetime, limit: int) -> int:
    """Activate a batch of provisioning domains by the worker's rules, and return their number."""
    domain_rule = partial(activate_domain, interval=interval, policy=FREE, now=now)
    alias_rule = partial(request_alias, domain_status=DomainStatus.READY)
    forwarding_rule = partial(request_forwarding, domain_status=DomainStatus.READY)
    return await work.activate_domains(domain_rule, alias_rule, forwarding_rule, now, limit)
