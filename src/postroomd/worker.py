"""What happens by itself: domains are looked up, mailboxes follow their domain and the calendar, and what is due goes.

`run_once` does all that is due at one instant, in small transactions; `run` does so whenever something is. Any number
of workers may run: each claims what it is about to do, and where it stalls for longer than its lease it changes
nothing more of that.

What fails unexpectedly ends no worker that runs: that kind of step, or the one row, rests (`resting`), and all else
goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from postroomd.clock import Clock
from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.domain.mailboxes import advance_mailbox, purge_with_domain
from postroomd.domain.model import Domain, DomainRecord, DomainStatus, Mailbox, RecordStatus
from postroomd.domain.provisioning import confirm_provision, delete_domain_on_platform, fail_provision
from postroomd.domain.records import Finding
from postroomd.domain.terms import Terms
from postroomd.logs import get_logger
from postroomd.metrics import DOMAINS_LOOKED_UP, WORKER_FAILURES, WORKER_LAG, WORKER_RAN, WORKER_STEPS
from postroomd.resting import Rests, Step, retry_after
from postroomd.settings import Settings
from postroomd.storage.engine import open_repository
from postroomd.storage.migrations import require_current
from postroomd.storage.repository import DomainClaim, Due, MailboxClaim, Operations, Work
from postroomd.terms import terms_of

CHUNK = 200  # rows a transaction: few enough that a request waits for none of them
PROBES = 20  # domains that are looked up at a time
LEASE = timedelta(minutes=2)  # for what takes a chunk of steps moments, and all look-ups but very patient ones
LOOK, LOOK_UPS, ADVANCE = "look", "look_up", "mailbox"  # kinds of step, as the log and the metrics have them
LOOKUP_FAILED = Finding(RecordStatus.INVALID, "the look-up failed: ask for another validation later")

log = get_logger()


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
    """One worker over the storage. Without a prober it leaves look-ups to another worker.

    With the operator's side of it, it does what a mail platform was asked for before there was none any more.
    """

    work: Work
    prober: Prober | None
    terms: Terms
    operations: Operations | None = None
    revalidation: timedelta = timedelta(days=1)
    look_up_lease: timedelta = LEASE

    @property
    def providing(self) -> Operations | None:
        """The operator's side, where what a mail platform was asked for is this worker's to do."""
        return None if self.terms.provisioning else self.operations

    async def run_once(self, now: datetime) -> int:
        """Do all that is due at `now`. Answers how many steps were taken."""
        return await self.validate_once(now) + await self.move_once(now)

    async def validate_once(self, now: datetime, skipping: Collection[str] = ()) -> int:
        """Look up the records of domains whose look-up is due, several at a time. Answers how many domains."""
        if self.prober is None:
            return 0
        claims = await self.work.claim_domains(now, self.look_up_lease, PROBES, skipping)
        looked_up = (self._validate(self.prober, claim, now) for claim in claims)
        for error in await asyncio.gather(*looked_up, return_exceptions=True):  # each of them comes to its end
            if error is not None:
                raise error
        return len(claims)

    async def move_once(self, now: datetime) -> int:
        """Take all steps that are due and need nobody outside. Answers how many."""
        return await _drain(partial(self.move_some, now))

    async def move_some(self, now: datetime, rests: Rests | None = None) -> int:
        """Take some of those steps: as many of each kind as are claimed, or done, in one transaction.

        With rests, a kind or a row that fails rests; without, the failure is raised.
        """
        done = 0
        for kind, step in self.steps(now).items():
            done += (await step(()) if rests is None else await rests.take(kind, step, now)) or 0
        return done

    def steps(self, now: datetime) -> Mapping[str, Step[int]]:
        """How some steps of each kind are taken, apart from those of the other kinds. Each answers how many."""
        mailbox_rule = partial(purge_with_domain, terms=self.terms)
        domain_rule = partial(delete_domain_on_platform, terms=self.terms)
        finishing = partial(self.work.finish_provisioning, self.revalidation, now, CHUNK)
        purging = partial(self.work.purge_domains, mailbox_rule, domain_rule, now, CHUNK)
        return {
            "domain_provided": lambda skipping: _counted("domain_provided", finishing(skipping)),
            ADVANCE: partial(self._advance_due, now),
            "domain_purge": lambda skipping: _counted("domain_purge", purging(skipping)),
            "provision": lambda _: self._provide(now),
            "answer_forgotten": lambda _: _counted("answer_forgotten", self.work.forget_answers(now, CHUNK)),
        }

    async def _validate(self, prober: Prober, claim: DomainClaim, now: datetime) -> None:
        domain_id = claim.domain.id
        putting_off = partial(self.work.put_off_domain, claim, now + retry_after(claim.failures))
        try:
            findings = await prober.probe(claim.domain, claim.records)
        except Exception:
            log.exception("look-up failed", domain_id=domain_id)
            WORKER_FAILURES.of(LOOK_UPS).inc()
            if claim.domain.status is DomainStatus.READY:
                await _put_off(putting_off, domain_id=domain_id)
                return
            # A domain that can't be looked up for a fault of ours is told so, rather than tried for ever.
            findings = dict.fromkeys(claim.records, LOOKUP_FAILED)
        try:
            settled = await self.work.settle_validation(claim, findings, self.revalidation, now)
        except StorageUnavailable:
            raise
        except Exception:
            await _failed(LOOK_UPS, claim.failures, putting_off, domain_id=domain_id)
            return
        log.info("domain looked up", domain_id=domain_id, status=settled.status)
        DOMAINS_LOOKED_UP.of(settled.status).inc()

    async def _advance_due(self, now: datetime, skipping: Collection[str]) -> int:
        claims = await self.work.claim_mailboxes(now, LEASE, CHUNK, skipping)
        for claim in claims:
            await self._advance(claim, now)
        return len(claims)

    async def _advance(self, claim: MailboxClaim, now: datetime) -> None:
        def rule(mailbox: Mailbox, domain_status: DomainStatus) -> Mailbox | None:
            return advance_mailbox(mailbox, domain_status, self.terms, now)

        try:
            WORKER_STEPS.of("mailbox").inc(await self.work.advance(claim, rule, now))
        except StorageUnavailable:
            raise
        except Exception:
            # Whatever is wrong with one mailbox, the others are not to wait for it.
            putting_off = partial(self.work.put_off_mailbox, claim, now + retry_after(claim.failures))
            await _failed(ADVANCE, claim.failures, putting_off, mailbox_id=claim.mailbox.id)

    async def _provide(self, now: datetime) -> int:
        """Take as done what a mail platform was asked for: without one, what is stored is provided."""
        operations = self.providing
        if operations is None:
            return 0
        settled = 0
        for provision in (await operations.pending_provisions(now, "", CHUNK)).items:
            try:
                await operations.settle_provision(provision.id, partial(confirm_provision, now=now))
                WORKER_STEPS.of("provision").inc()
                settled += 1
            except StorageUnavailable:
                raise
            except PostroomError:
                continue  # it went before it with what it was about, or nobody waits for it any more
            except Exception:
                log.exception("provision failed", provision_id=provision.id)
                WORKER_FAILURES.of("provision").inc()
                failing = partial(fail_provision, reason="a fault of Postroom's: see the worker's log", now=now)
                await _put_off(partial(operations.settle_provision, provision.id, failing), provision_id=provision.id)
        return settled


async def run(settings: Settings, stop: asyncio.Event, ready: Callable[[], None], clock: Clock) -> None:
    """Work until `stop` is set. Raises SchemaMismatch, StorageUnavailable at the start alone."""
    url = settings.database_url.get_secret_value()
    await asyncio.to_thread(require_current, url)
    async with AsyncExitStack() as cleanups:
        repository = await open_repository(url, pool_size=settings.database_pool_size)
        cleanups.push_async_callback(repository.close)
        worker = Worker(
            work=repository.work,
            prober=_prober(settings),
            terms=terms_of(settings),
            operations=repository.operations,
            revalidation=settings.revalidation_interval,
            look_up_lease=max(LEASE, 2 * timedelta(seconds=settings.dns_deadline_seconds)),
        )
        ready()
        await _work(worker, stop, clock, timedelta(seconds=settings.worker_interval_seconds))


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


async def _failed(kind: str, failures: int, putting_off: Callable[[], Awaitable[object]], **about: str) -> None:
    """Log the failure that is being handled, after so many before it, count it, and put off what has failed."""
    log.exception("step failed", kind=kind, failures=failures + 1, **about)
    WORKER_FAILURES.of(kind).inc()
    await _put_off(putting_off, **about)


async def _put_off(putting_off: Callable[[], Awaitable[object]], **about: str) -> None:
    """Put off what has failed. Where that fails too, it comes again by itself: a lease, for one, runs out."""
    try:
        await putting_off()
    except StorageUnavailable:
        raise
    except Exception:
        log.exception("putting off failed", **about)


async def _drain(step: Callable[[], Awaitable[int]]) -> int:
    """Take a step until it finds nothing left to do. Answers the sum."""
    total = 0
    while done := await step():
        total += done
    return total


async def _counted(kind: str, step: Awaitable[int]) -> int:
    """What a step answers: how many of its kind it has taken."""
    done = await step
    WORKER_STEPS.of(kind).inc(done)
    return done


async def _work(worker: Worker, stop: asyncio.Event, clock: Clock, interval: timedelta) -> None:
    """Do what is due until `stop` is set. Where nothing is, one look an interval tells; or when something will be.

    Domains are looked up beside all else: one whose servers are silent must not keep anybody's renewal waiting.
    """
    stopping, loop = asyncio.create_task(stop.wait()), asyncio.get_running_loop()
    looking: asyncio.Task[int | None] | None = None
    look_again_at = loop.time()
    rests = Rests(lambda kind: WORKER_FAILURES.of(kind).inc())

    async def next_due(_: Collection[str]) -> Due:
        return await worker.work.next_due(platform=worker.providing is None)

    try:
        while not stop.is_set():
            if looking is not None and looking.done():
                # Those that were due and could not be had rest, or are another worker's.
                look_again_at = loop.time() + (0 if _looked(looking) else interval.total_seconds())
                looking = None
            now, rest, done = clock.now(), interval, 0
            try:
                found = await rests.take(LOOK, next_due, now)
                if found:
                    WORKER_LAG.of().set(_lag_seconds(found, now))
                due = found or Due(now, now)  # for all that is known
                if looking is None and look_again_at <= loop.time() and due.has_look_ups(now):
                    looking = asyncio.create_task(rests.take(LOOK_UPS, partial(worker.validate_once, now), now))
                if due.has_steps(now):
                    # No more than some: a stop is to be heeded, and the next leases run from the time that it is then.
                    done = await worker.move_some(now, rests)
                resting = rests.ends(now)
                coming = [instant - now for instant in (due.steps, due.look_ups, *resting) if instant and instant > now]
                rest = min([rest, *coming])
                left = due.has_steps(now) or due.has_look_ups(now)
                if looking is None and not done and (resting or not left):
                    clock.settle(now)
                if found:
                    WORKER_RAN.of().set_to_current_time()
            except StorageUnavailable:
                log.warning("the database can't be reached: trying again")
                WORKER_FAILURES.of("database").inc()
            if done:
                continue
            awaited = {stopping, looking} if looking else {stopping}
            await clock.rest(awaited, rest.total_seconds())
    finally:
        stopping.cancel()
        if looking is not None:
            await asyncio.wait({looking})
            _looked(looking)


def _lag_seconds(due: Due, now: datetime) -> float:
    """How overdue the most overdue work is. What waits for no instant is not counted."""
    return max([0.0, *((now - instant).total_seconds() for instant in (due.steps, due.look_ups) if instant)])


def _looked(looking: asyncio.Task[int | None]) -> int:
    """How many domains were looked up."""
    error = looking.exception()
    if isinstance(error, StorageUnavailable):
        log.warning("the database can't be reached: the look-ups are made again")
        WORKER_FAILURES.of("database").inc()
        return 0
    return looking.result() or 0
