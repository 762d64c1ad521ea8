"""What happens by itself: domains are validated, mailboxes follow their domain, and the calendar moves them.

`run_once` does all that is due at one instant, in small transactions; `run` wraps it in a loop. Any number of workers
may run: each transaction reads again what it is about to change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from postroomd.clock import Clock
from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.lifecycle import advance_mailbox
from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.records import Finding
from postroomd.settings import Settings
from postroomd.storage.engine import open_repository
from postroomd.storage.migrations import require_current
from postroomd.storage.repository import Work

CHUNK = 200  # rows a transaction: few enough that a request waits for none of them
PROBES = 20  # domains that are looked up at a time
LOOKUP_FAILED = Finding(RecordStatus.INVALID, "the look-up failed: ask for another validation later")

log = structlog.get_logger()


class Prober(Protocol):
    """Looks a domain's DNS records up."""

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """What was found of each record, by kind."""


class TrustingProber:
    """Takes every record as present: for trials, where there is no DNS."""

    async def probe(self, domain: Domain, records: Mapping[str, DomainRecord]) -> Mapping[str, Finding]:
        """Every record as valid."""
        return {kind: Finding(RecordStatus.VALID) for kind in records}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker over the storage. Without a prober it leaves validations to another worker."""

    work: Work
    prober: Prober | None
    retention: timedelta

    async def run_once(self, now: datetime) -> int:
        """Do all that is due at `now`. Answers how many steps were taken."""
        return await self.validate_once(now) + await self.move_once(now)

    async def validate_once(self, now: datetime) -> int:
        """Look up the records of domains that wait for it, several at a time. Answers how many domains."""
        if self.prober is None:
            return 0
        waiting = await self.work.domains_to_validate(PROBES)
        await asyncio.gather(*(self._validate(self.prober, domain, records, now) for domain, records in waiting))
        return len(waiting)

    async def move_once(self, now: datetime) -> int:
        """Take the steps that need nobody outside. Answers how many."""
        return (
            await _drain(partial(self.work.finish_provisioning, now, CHUNK))
            + await _drain(partial(self.work.admit_waiting, now, CHUNK))
            + await _drain(partial(self._advance_due, now))
            + await _drain(partial(self.work.purge_domains, CHUNK))
            + await _drain(partial(self.work.forget_answers, now, CHUNK))
        )

    async def _validate(
        self, prober: Prober, domain: Domain, records: Mapping[str, DomainRecord], now: datetime
    ) -> None:
        try:
            findings = await prober.probe(domain, records)
        except Exception:
            # A domain that can't be looked up for a fault of ours is told so, rather than tried for ever.
            log.exception("look-up failed", domain_id=domain.id)
            findings = dict.fromkeys(records, LOOKUP_FAILED)
        settled = await self.work.settle_validation(domain, findings, now)
        log.info("domain validated", domain_id=domain.id, status=settled.status)

    async def _advance_due(self, now: datetime) -> int:
        rule = partial(advance_mailbox, retention=self.retention, now=now)
        due = await self.work.due_mailboxes(now, CHUNK)
        for mailbox in due:
            await self.work.advance(mailbox, rule)
        return len(due)


async def _drain(step: Callable[[], Awaitable[int]]) -> int:
    """Take a step until it finds nothing left to do. Answers the sum."""
    total = 0
    while done := await step():
        total += done
    return total


async def run(settings: Settings, stop: asyncio.Event, ready: Callable[[], None], clock: Clock) -> None:
    """Work until `stop` is set. Raises SchemaMismatch, StorageUnavailable at the start alone."""
    url = settings.database_url.get_secret_value()
    await asyncio.to_thread(require_current, url)
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(url, pool_size=settings.database_pool_size)
        cleanups.push_async_callback(repository.close)
        worker = Worker(work=repository.work, prober=_prober(settings), retention=settings.deletion_retention)
        ready()
        # Side by side: a domain whose servers are silent must not keep anybody's renewal waiting.
        await asyncio.gather(
            *(
                _repeat(step, stop, clock, settings.worker_interval_seconds)
                for step in (worker.validate_once, worker.move_once)
            )
        )


def _prober(settings: Settings) -> Prober:
    if settings.domain_validation == "trust":
        return TrustingProber()
    from postroomd.dns import DnsConfig, DnsProber

    return DnsProber(
        DnsConfig(
            resolvers=tuple(text.strip() for text in settings.dns_resolvers.split(",") if text.strip()),
            timeout_seconds=settings.dns_timeout_seconds,
            deadline_seconds=settings.dns_deadline_seconds,
            authoritative_port=settings.dns_authoritative_port,
            allow_private=settings.dns_allow_private,
        )
    )


async def _repeat(
    step: Callable[[datetime], Awaitable[int]], stop: asyncio.Event, clock: Clock, rest_seconds: float
) -> None:
    """Take a step again and again until `stop` is set, with a rest wherever it found nothing to do."""
    while not stop.is_set():
        try:
            done = await step(clock.now())
        except StorageUnavailable:
            log.warning("the database can't be reached: trying again")
            done = 0
        if not done:
            await _rest(stop, rest_seconds)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
