"""Ending sessions on the mail server: of mailboxes that may no longer log in, or whose password has changed."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from postroomd.domain.backoff import backoff_delay
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES, WORKER_STEPS
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.sessions import SessionEnds
from postroomd.worker.doveadm import Doveadm, MailServerError

BATCH_SIZE = 100
LEASE = timedelta(minutes=1)
REPEAT_AFTER = timedelta(seconds=10)
"""After it no login can still be in progress that read the database before the change."""
FIRST_RETRY, MAX_RETRY = timedelta(seconds=1), timedelta(minutes=1)

log = get_logger()


@dataclass(frozen=True, slots=True)
class Sessions:
    """Ends sessions by Dovecot; without one, requests are removed, since nothing can be done."""

    requests: SessionEnds
    doveadm: Doveadm | None = None

    async def end(self, now: datetime, skipping: Collection[str] = ()) -> int:
        """Carry out a batch of due requests. Returns their number; those that fail are due again after a backoff."""
        if self.doveadm is None:
            return await self.requests.discard(now, BATCH_SIZE)
        leased = await self.requests.lease(now, LEASE, BATCH_SIZE, skipping)
        if not leased:
            return 0
        try:
            await self.doveadm.kick([request.login_mask for request in leased])
        except MailServerError as error:
            failures = min(request.failures for request in leased)
            log.warning("sessions not ended", requests=len(leased), failures=failures + 1, reason=str(error))
            WORKER_FAILURES.labels(StepKind.SESSION_END).inc()
            await self.requests.postpone(leased, now + backoff_delay(failures, FIRST_RETRY, MAX_RETRY))
            return len(leased)
        await self.requests.complete(leased, now + REPEAT_AFTER)
        WORKER_STEPS.labels(StepKind.SESSION_END).inc(len(leased))
        return len(leased)
