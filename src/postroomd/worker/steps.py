"""The steps of the worker: each kind handles one bounded batch of due rows.

Any number of workers may run. Rows whose step takes long are leased, and a worker whose lease has expired changes
nothing more of them. An unexpected failure ends neither the worker nor the other steps: the failing row is retried
later, or the failing kind of step (`worker.backoff`).
"""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from postroomd.domain.aliases import request_alias
from postroomd.domain.backoff import backoff_delay
from postroomd.domain.context import WORKER
from postroomd.domain.domains import purge_domain
from postroomd.domain.errors import PostroomError, StorageUnavailable
from postroomd.domain.events import DomainEvent
from postroomd.domain.forwardings import request_forwarding
from postroomd.domain.mailbox_updates import request_update
from postroomd.domain.mailboxes import advance_mailbox, follow_domain, purge_with_domain
from postroomd.domain.model import Domain, DomainStatus, Mailbox, RecordStatus
from postroomd.domain.ownership import Registration, activate_domain, settle_validation
from postroomd.domain.policy import LifecyclePolicy
from postroomd.domain.provisioning import confirm_provision, fail_provision
from postroomd.domain.provisions import Provision
from postroomd.domain.records import VALIDATION_KIND, Finding, Outcome
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import DOMAINS_LOOKED_UP, WORKER_STEPS
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.administration import Administration
from postroomd.storage.protocols.work import DomainLease, Due, MailboxLease, Work
from postroomd.worker.backoff import FIRST_RETRY, MAX_RETRY, Backoff, Step, report_failure
from postroomd.worker.probers import Prober, TrustingProber
from postroomd.worker.purge_progress import PurgeProgress
from postroomd.worker.sessions import Sessions

BATCH_SIZE = 200  # rows per transaction: few enough that no call waits for them for long
LEASE = timedelta(minutes=2)  # a batch of steps takes less than a second, lookups at most the DNS deadline
MAX_RIVALS = 3  # whose tokens are looked up: few organizations register one name
LOOKUP_FAILED = Finding(RecordStatus.UNKNOWN_STATUS, "the lookup failed: request another validation later")

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker over the storage. Without a prober it leaves lookups to another worker.

    With `history_retention` it removes history that is older, with `audit_retention` older audit events.
    With `administration` and without a mail platform, it confirms the provisions that were requested of a former one.
    """

    work: Work
    prober: Prober | None
    policy: LifecyclePolicy
    administration: Administration | None = None
    sessions: Sessions | None = None
    purge_progress: PurgeProgress = field(default_factory=PurgeProgress)
    revalidation_interval: timedelta = timedelta(days=1)
    lookup_lease: timedelta = LEASE
    history_retention: timedelta | None = None
    audit_retention: timedelta | None = None

    async def next_due(self) -> Due:
        """Return the earliest due dates of this worker's work."""
        confirms_provisions = self.administration is not None and not self.policy.provisioning
        return await self.work.next_due(
            with_provisions=confirms_provisions,
            with_session_ends=self.sessions is not None,
            history_retention=self.history_retention,
            audit_retention=self.audit_retention,
        )

    async def lease_lookups(
        self, now: datetime, limit: int, running: Mapping[str, int] | None, skipping: Collection[str] = ()
    ) -> Sequence[DomainLease]:
        """Lease domains whose lookup is due; none without a prober."""
        if self.prober is None:
            return ()
        return await self.work.lease_domains(now, self.lookup_lease, limit, skipping, running)

    async def run_steps(self, now: datetime, backoff: Backoff) -> int:
        """Run one batch of each kind of step, except lookups. Returns the number of steps taken."""
        return sum([await backoff.run(kind, step, now) or 0 for kind, step in self.steps(now).items()])

    def steps(self, now: datetime) -> Mapping[StepKind, Step[int]]:
        """Return the steps, except lookups, in their order. Each returns the number of steps taken."""
        activation_rule = partial(activate_domain, interval=self.revalidation_interval, policy=self.policy, now=now)
        alias_rule = partial(request_alias, domain_status=DomainStatus.READY)
        forwarding_rule = partial(request_forwarding, domain_status=DomainStatus.READY)
        follow_rule = partial(follow_domain, now=now)
        work = self.work
        return {
            StepKind.DOMAIN_ACTIVATION: lambda skipping: _count(
                StepKind.DOMAIN_ACTIVATION,
                work.activate_domains(activation_rule, alias_rule, forwarding_rule, now, BATCH_SIZE, skipping),
            ),
            StepKind.DOMAIN_PROPAGATION: lambda skipping: _count(
                StepKind.DOMAIN_PROPAGATION, work.propagate_domain(follow_rule, BATCH_SIZE, skipping)
            ),
            StepKind.MAILBOX: partial(self._advance_mailboxes, now),
            StepKind.SESSION_END: partial(self._end_sessions, now),
            StepKind.DOMAIN_PURGE: lambda skipping: _count(StepKind.DOMAIN_PURGE, self._purge_domains(now, skipping)),
            StepKind.DKIM_RETIREMENT: lambda skipping: _count(
                StepKind.DKIM_RETIREMENT, work.retire_dkim_keys(now, BATCH_SIZE, skipping)
            ),
            StepKind.PROVISION: lambda _: self._confirm_provisions(now),
            StepKind.EXPIRED_RESPONSE: lambda _: _count(
                StepKind.EXPIRED_RESPONSE, work.remove_expired_responses(now, BATCH_SIZE)
            ),
            StepKind.HISTORY: lambda _: self._remove_history(now),
            StepKind.AUDIT: lambda _: self._remove_audit_events(now),
        }

    async def look_up(self, lease: DomainLease, now: datetime) -> None:
        """Look up the records of a leased domain and settle its validation. Raises StorageUnavailable."""
        domain = lease.domain
        if self.prober is None:
            return  # and leased nothing
        try:
            findings = await self.prober.probe(domain, lease.records)
        except Exception:
            report_failure(StepKind.DNS_LOOKUP, lease.failures + 1, domain_id=domain.id)
            if domain.status is not DomainStatus.VALIDATING:
                await self._postpone_domain(lease, now)
                return
            # The record's error tells the owner, who can request another validation.
            findings = dict.fromkeys(lease.records, LOOKUP_FAILED)
        try:
            rule = partial(
                settle_validation,
                findings=findings,
                rival_tokens=await self._look_up_rivals(self.prober, domain, findings),
                interval=self.revalidation_interval,
                policy=self.policy,
                now=now,
                looked_up=type(self.prober) is not TrustingProber,
            )
            check = await self.work.settle_validation(lease, rule)
        except StorageUnavailable:
            raise
        except Exception:
            report_failure(StepKind.DNS_LOOKUP, lease.failures + 1, domain_id=domain.id)
            await self._postpone_domain(lease, now)
            return
        log.info("domain looked up", domain_id=domain.id, status=check.domain.status)
        DOMAINS_LOOKED_UP.labels(check.domain.status).inc()
        if check.key_switch is not None:
            log.info("DKIM key switched", domain_id=domain.id)
        for each in filter(None, (check, check.former_owner)):
            if each.domain.released_at == now and each.domain.cause is DomainEvent.OWNERSHIP_LOST:
                log.warning("domain released", domain_id=each.domain.id)

    async def _look_up_rivals(
        self, prober: Prober, domain: Domain, findings: Mapping[str, Finding]
    ) -> Mapping[str, Finding]:
        """Return findings for the tokens of other organizations' domains of the same name, by id.

        If the domain's token is present, that of the domain which owns the name is looked up again; if a ready domain's
        token is lacking, those of the others. Raises StorageUnavailable.
        """
        token = findings.get(VALIDATION_KIND, LOOKUP_FAILED)
        if token.outcome is Outcome.PRESENT and domain.status is not DomainStatus.READY:
            rivals = await self.work.rivals(domain, owning=True, limit=1)
        elif token.lacking and domain.status is DomainStatus.READY:
            rivals = await self.work.rivals(domain, owning=False, limit=MAX_RIVALS)
        else:
            return {}
        tokens = await asyncio.gather(*(self._look_up_token(prober, rival) for rival in rivals))
        return {rival.domain.id: token for rival, token in zip(rivals, tokens, strict=True)}

    async def _look_up_token(self, prober: Prober, rival: Registration) -> Finding:
        try:
            findings = await prober.probe(rival.domain, {VALIDATION_KIND: rival.records[VALIDATION_KIND]})
        except Exception:
            report_failure(StepKind.DNS_LOOKUP, 1, domain_id=rival.domain.id)
            return LOOKUP_FAILED
        return findings.get(VALIDATION_KIND, LOOKUP_FAILED)

    async def _advance_mailboxes(self, now: datetime, skipping: Collection[str]) -> int:
        leases = await self.work.lease_mailboxes(now, LEASE, BATCH_SIZE, skipping)
        for lease in leases:
            await self._advance(lease, now)
        return len(leases)

    async def _advance(self, lease: MailboxLease, now: datetime) -> None:
        def rule(mailbox: Mailbox, domain_status: DomainStatus) -> Mailbox | None:
            advanced = advance_mailbox(mailbox, domain_status, self.policy, now)
            return request_update(mailbox, advanced, self.policy) if advanced else None

        try:
            WORKER_STEPS.labels(StepKind.MAILBOX).inc(await self.work.advance(lease, rule, now))
        except StorageUnavailable:
            raise
        except Exception:
            mailbox_id, until = lease.mailbox.id, _retry_at(lease, now)
            report_failure(StepKind.MAILBOX, lease.failures + 1, mailbox_id=mailbox_id)
            await _try_postponing(self.work.postpone_mailbox(lease, until), mailbox_id=mailbox_id)

    async def _purge_domains(self, now: datetime, skipping: Collection[str]) -> int:
        mailbox_rule = partial(purge_with_domain, policy=self.policy)
        domain_rule = partial(purge_domain, policy=self.policy)
        batch = await self.work.purge_domains(mailbox_rule, domain_rule, now, BATCH_SIZE, skipping)
        if batch is None:
            return 0
        self.purge_progress.record(batch, now)
        return batch.mailboxes or 1  # the domain

    async def _end_sessions(self, now: datetime, skipping: Collection[str]) -> int:
        return await self.sessions.end(now, skipping) if self.sessions else 0

    async def _confirm_provisions(self, now: datetime) -> int:
        if self.administration is None or self.policy.provisioning:
            return 0
        provisions = (await self.administration.pending_provisions(now, "", BATCH_SIZE)).items
        return sum([await self._confirm_provision(self.administration, provision, now) for provision in provisions])

    async def _confirm_provision(self, administration: Administration, provision: Provision, now: datetime) -> bool:
        """Confirm a provision. Returns False if that is not possible."""
        try:
            await administration.settle_provision(WORKER, provision.id, partial(confirm_provision, now=now))
        except StorageUnavailable:
            raise
        except PostroomError:
            return False  # void, or removed with its resource
        except Exception:
            report_failure(StepKind.PROVISION, provision.attempts + 1, provision_id=provision.id)
            rule = partial(fail_provision, reason="an internal error: see the worker's log", now=now)
            await _try_postponing(
                administration.settle_provision(WORKER, provision.id, rule), provision_id=provision.id
            )
            return False
        WORKER_STEPS.labels(StepKind.PROVISION).inc()
        return True

    async def _remove_history(self, now: datetime) -> int:
        if self.history_retention is None:
            return 0
        return await _count(StepKind.HISTORY, self.work.remove_history(now - self.history_retention, BATCH_SIZE))

    async def _remove_audit_events(self, now: datetime) -> int:
        if self.audit_retention is None:
            return 0
        return await _count(StepKind.AUDIT, self.work.remove_audit_events(now - self.audit_retention, BATCH_SIZE))

    async def _postpone_domain(self, lease: DomainLease, now: datetime) -> None:
        await _try_postponing(self.work.postpone_domain(lease, _retry_at(lease, now)), domain_id=lease.domain.id)


def _retry_at(lease: DomainLease | MailboxLease, now: datetime) -> datetime:
    return now + backoff_delay(lease.failures, FIRST_RETRY, MAX_RETRY)


async def _try_postponing(postponing: Awaitable[object], **context: str) -> None:
    """Await the postponement of a failed row. If it fails too, the row is due again once its lease expires."""
    try:
        await postponing
    except StorageUnavailable:
        raise
    except Exception:
        log.exception("postponing failed", **context)


async def _count(kind: StepKind, step: Awaitable[int]) -> int:
    """Return the number of steps taken, and count them."""
    taken = await step
    WORKER_STEPS.labels(kind).inc(taken)
    return taken
