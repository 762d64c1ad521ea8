"""What happens by itself: domains are validated, mailboxes follow their domain, and the calendar moves them.

`run_once` does all that is due at one instant, in small transactions; `run` wraps it in a loop. Any number of workers
may run: each transaction reads again what it is about to change.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from postroomd.domain.errors import StorageUnavailable
from postroomd.domain.lifecycle import advance_mailbox
from postroomd.domain.model import Domain, DomainRecord, RecordStatus
from postroomd.domain.records import Finding
from postroomd.settings import Settings
from postroomd.storage.engine import open_repository
from postroomd.storage.migrations import require_current
from postroomd.storage.repository import Work

CHUNK = 200  # rows a transaction: few enough that a request waits for none of them

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
        return (
            await self._validate(now)
            + await _drain(partial(self.work.finish_provisioning, now, CHUNK))
            + await _drain(partial(self.work.admit_waiting, now, CHUNK))
            + await _drain(partial(self._advance_due, now))
            + await _drain(partial(self.work.purge_domains, CHUNK))
            + await _drain(partial(self.work.forget_answers, now, CHUNK))
        )

    async def _validate(self, now: datetime) -> int:
        if self.prober is None:
            return 0
        waiting = await self.work.domains_to_validate(CHUNK)
        for domain, records in waiting:
            findings = await self.prober.probe(domain, records)
            settled = await self.work.settle_validation(domain, findings, now)
            log.info("domain validated", domain_id=domain.id, status=settled.status)
        return len(waiting)

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


async def run(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Work until `stop` is set. Raises SchemaMismatch, StorageUnavailable at the start alone."""
    url = settings.database_url.get_secret_value()
    await asyncio.to_thread(require_current, url)
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(url, pool_size=settings.database_pool_size)
        cleanups.push_async_callback(repository.close)
        prober = TrustingProber() if settings.domain_validation == "trust" else None
        worker = Worker(work=repository.work, prober=prober, retention=settings.deletion_retention)
        ready()
        while not stop.is_set():
            try:
                done = await worker.run_once(datetime.now(UTC))
            except StorageUnavailable:
                log.warning("the database can't be reached: trying again")
                done = 0
            if not done:
                await _rest(stop, settings.worker_interval_seconds)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
