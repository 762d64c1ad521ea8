"""What happens by itself: domains are looked up, mailboxes follow their domain and the calendar, and what is due goes.

`run_once` does all that is due at one instant, in small transactions; `run` does so whenever something is. Any number
of workers may run: each claims what it is about to do, and where it stalls for longer than its lease it changes
nothing more of that.

What fails unexpectedly ends no worker that runs: that kind of step, or the one row, rests (`resting`), and all else
goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from postroomd.domain.context import WORKER
from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.domain.mailboxes import advance_mailbox, purge_with_domain
from postroomd.domain.model import DomainStatus, Mailbox, RecordStatus
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, delete_domain_on_platform, fail_provision
from postroomd.domain.records import Finding
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import DOMAINS_LOOKED_UP, WORKER_FAILURES, WORKER_STEPS
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.work import DomainLease, MailboxLease, Work
from postroomd.worker.backoff import Rests, Step, retry_after
from postroomd.worker.probers import Prober

CHUNK = 200  # rows a transaction: few enough that a request waits for none of them
PROBES = 20  # domains that are looked up at a time
LEASE = timedelta(minutes=2)  # for what takes a chunk of steps moments, and all look-ups but very patient ones
POLL, DNS_LOOKUP, ADVANCE = "poll", "dns_lookup", "mailbox"  # kinds of step, as the log and the metrics have them
LOOKUP_FAILED = Finding(RecordStatus.UNKNOWN_STATUS, "the lookup failed: request another validation later")

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker over the storage. Without a prober it leaves look-ups to another worker.

    With the operator's side of it, it does what a mail platform was asked for before there was none any more.
    """

    work: Work
    prober: Prober | None
    policy: LifecyclePolicy
    administration: Administration | None = None
    revalidation: timedelta = timedelta(days=1)
    look_up_lease: timedelta = LEASE

    @property
    def providing(self) -> Administration | None:
        """The operator's side, where what a mail platform was asked for is this worker's to do."""
        return None if self.policy.provisioning else self.administration

    async def run_once(self, now: datetime) -> int:
        """Do all that is due at `now`. Answers how many steps were taken."""
        return await self.validate_once(now) + await self.move_once(now)

    async def validate_once(self, now: datetime, skipping: Collection[str] = ()) -> int:
        """Look up the records of domains whose look-up is due, several at a time. Answers how many domains."""
        if self.prober is None:
            return 0
        claims = await self.work.lease_domains(now, self.look_up_lease, PROBES, skipping)
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
        mailbox_rule = partial(purge_with_domain, policy=self.policy)
        domain_rule = partial(delete_domain_on_platform, policy=self.policy)
        finishing = partial(self.work.finish_provisioning, self.revalidation, now, CHUNK)
        purging = partial(self.work.purge_domains, mailbox_rule, domain_rule, now, CHUNK)
        expiring = partial(self.work.delete_expired_responses, now, CHUNK)
        return {
            "domain_provided": lambda skipping: _count_steps("domain_provided", finishing(skipping)),
            ADVANCE: partial(self._advance_due, now),
            "domain_purge": lambda skipping: _count_steps("domain_purge", purging(skipping)),
            "provision": lambda _: self._provide(now),
            "answer_forgotten": lambda _: _count_steps("answer_forgotten", expiring()),
        }

    async def _validate(self, prober: Prober, claim: DomainLease, now: datetime) -> None:
        domain_id = claim.domain.id
        putting_off = partial(self.work.postpone_domain, claim, now + retry_after(claim.failures))
        try:
            findings = await prober.probe(claim.domain, claim.records)
        except Exception:
            log.exception("look-up failed", domain_id=domain_id)
            WORKER_FAILURES.labels(DNS_LOOKUP).inc()
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
            await _failed(DNS_LOOKUP, claim.failures, putting_off, domain_id=domain_id)
            return
        log.info("domain looked up", domain_id=domain_id, status=settled.status)
        DOMAINS_LOOKED_UP.labels(settled.status).inc()

    async def _advance_due(self, now: datetime, skipping: Collection[str]) -> int:
        claims = await self.work.lease_mailboxes(now, LEASE, CHUNK, skipping)
        for claim in claims:
            await self._advance(claim, now)
        return len(claims)

    async def _advance(self, claim: MailboxLease, now: datetime) -> None:
        def rule(mailbox: Mailbox, domain_status: DomainStatus) -> Mailbox | None:
            return advance_mailbox(mailbox, domain_status, self.policy, now)

        try:
            WORKER_STEPS.labels("mailbox").inc(await self.work.advance(claim, rule, now))
        except StorageUnavailable:
            raise
        except Exception:
            # Whatever is wrong with one mailbox, the others are not to wait for it.
            putting_off = partial(self.work.postpone_mailbox, claim, now + retry_after(claim.failures))
            await _failed(ADVANCE, claim.failures, putting_off, mailbox_id=claim.mailbox.id)

    async def _provide(self, now: datetime) -> int:
        """Take as done what a mail platform was asked for: without one, what is stored is provided."""
        operations = self.providing
        if operations is None:
            return 0
        settled = 0
        for provision in (await operations.pending_provisions(now, "", CHUNK)).items:
            try:
                await operations.settle_provision(WORKER, provision.id, partial(confirm_provision, now=now))
                WORKER_STEPS.labels("provision").inc()
                settled += 1
            except StorageUnavailable:
                raise
            except PostroomError:
                continue  # it went before it with what it was about, or nobody waits for it any more
            except Exception:
                log.exception("provision failed", provision_id=provision.id)
                WORKER_FAILURES.labels("provision").inc()
                failing = partial(fail_provision, reason="a fault of Postroom's: see the worker's log", now=now)
                await _put_off(
                    partial(operations.settle_provision, WORKER, provision.id, failing), provision_id=provision.id
                )
        return settled


async def _failed(kind: str, failures: int, putting_off: Callable[[], Awaitable[object]], **about: str) -> None:
    """Log the failure that is being handled, after so many before it, count it, and put off what has failed."""
    log.exception("step failed", kind=kind, failures=failures + 1, **about)
    WORKER_FAILURES.labels(kind).inc()
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


async def _count_steps(kind: str, step: Awaitable[int]) -> int:
    """What a step answers: how many of its kind it has taken."""
    done = await step
    WORKER_STEPS.labels(kind).inc(done)
    return done
