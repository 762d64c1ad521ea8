"""The worker's loop: polls for due work, runs the steps, and sleeps until more is due."""

import asyncio
from datetime import datetime, timedelta
from functools import partial

from postroomd.clock import Clock
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES, WORKER_LAG, WORKER_LAST_RUN
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.work import Due
from postroomd.worker.backoff import Backoff
from postroomd.worker.steps import Worker

log = get_logger()


async def run_loop(worker: Worker, stop: asyncio.Event, clock: Clock, interval: timedelta) -> None:
    """Run due work until `stop` is set. Polls once per interval, and whenever the last poll found a due date.

    Lookups run in a task of their own, so that unresponsive name servers delay no other step.
    """
    stopping = asyncio.create_task(stop.wait())
    backoff = Backoff()
    lookups = _Lookups(worker, backoff, interval)
    try:
        while not stop.is_set():
            lookups.collect()
            try:
                delay = await _run_pass(worker, backoff, lookups, clock, interval)
            except StorageUnavailable:
                _report_unavailable()
                delay = interval
            if delay:
                events = {stopping, lookups.task} if lookups.task else {stopping}
                await clock.wait(events, delay.total_seconds())
    finally:
        stopping.cancel()
        await lookups.close()


async def _run_pass(
    worker: Worker, backoff: Backoff, lookups: "_Lookups", clock: Clock, interval: timedelta
) -> timedelta:
    """Poll, start lookups, and run one batch of each kind of step. Returns the delay before the next pass.

    It is zero after steps were taken. A pass is short, so that a stop is prompt and leases start at the current time.
    """
    now = clock.now()
    polled = await backoff.run(StepKind.POLL, lambda _: worker.next_due(), now)
    if polled:
        WORKER_LAG.set(_lag_seconds(polled, now))
    due = polled or Due(now, now)  # if the poll fails, every kind of step is tried
    if due.has_lookups(now):
        lookups.start(now)
    taken = await worker.run_steps(now, backoff) if due.has_steps(now) else 0
    retries = backoff.pending_retries(now)
    idle = not taken and lookups.task is None
    if idle and (retries or not (due.has_steps(now) or due.has_lookups(now))):
        clock.mark_caught_up(now)
    if polled:
        WORKER_LAST_RUN.set_to_current_time()
    if taken:
        return timedelta(0)
    upcoming = [instant - now for instant in (due.steps, due.lookups, *retries) if instant and instant > now]
    return min([interval, *upcoming])


class _Lookups:
    """The task that looks up domains: one batch at a time."""

    def __init__(self, worker: Worker, backoff: Backoff, interval: timedelta) -> None:
        self._worker = worker
        self._backoff = backoff
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._not_before = self._loop.time()
        self.task: asyncio.Task[int | None] | None = None
        """The running batch."""

    def start(self, now: datetime) -> None:
        """Start a batch, unless one is running, or the last one found nothing less than an interval ago."""
        if self.task is None and self._not_before <= self._loop.time():
            step = partial(self._worker.look_up_domains, now)
            self.task = asyncio.create_task(self._backoff.run(StepKind.DNS_LOOKUP, step, now))

    def collect(self) -> None:
        """Take the result of a batch that has ended."""
        task = self.task
        if task is None or not task.done():
            return
        self.task = None
        domains: int | None = None
        if isinstance(task.exception(), StorageUnavailable):
            _report_unavailable()
        else:
            domains = task.result()
        # Due domains that a batch did not find are backing off, or leased to another worker.
        self._not_before = self._loop.time() + (0 if domains else self._interval.total_seconds())

    async def close(self) -> None:
        """Wait for the running batch."""
        if self.task is not None:
            await asyncio.wait({self.task})
            self.collect()


def _report_unavailable() -> None:
    log.warning("database unavailable, retrying")
    WORKER_FAILURES.labels("database").inc()


def _lag_seconds(due: Due, now: datetime) -> float:
    """Return how overdue the most overdue work is. Work without a due date does not count."""
    return max([0.0, *((now - instant).total_seconds() for instant in (due.steps, due.lookups) if instant)])
