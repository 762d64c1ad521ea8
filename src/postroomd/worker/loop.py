"""The worker's loop: polls for due work, runs the steps, and sleeps until more is due."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

from postroomd.clock import Clock
from postroomd.clock_watch import ClockWatch
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES, WORKER_LAG, WORKER_LAST_RUN
from postroomd.observability.steps import StepKind
from postroomd.storage.protocols.work import Due
from postroomd.worker.backoff import Backoff, report_failure
from postroomd.worker.lookups import LookupPool
from postroomd.worker.steps import Worker

log = get_logger()


async def run_loop(
    worker: Worker, stop: asyncio.Event, clock: Clock, interval: timedelta, watch: ClockWatch | None = None
) -> None:
    """Run due work until `stop` is set. Polls once per interval, and whenever the last poll found a due date.

    Lookups run in tasks of their own, so that unresponsive name servers delay no other step. While the clock has leapt,
    no step is taken: each one destroys, charges or stores dates. Without a watch, the clock is trusted.
    """
    stopping = asyncio.create_task(stop.wait())
    backoff = Backoff()
    lookups = _Lookups(worker, backoff, interval)
    try:
        while not stop.is_set():
            lookups.collect()
            try:
                delay = await _run_pass(worker, backoff, lookups, clock, interval, watch)
            except StorageUnavailable as error:
                _report_unavailable(error)
                delay = interval
            except Exception:
                report_failure(StepKind.POLL, 1)
                delay = interval
            if delay:
                await clock.wait({stopping, *lookups.tasks}, delay.total_seconds())
    finally:
        stopping.cancel()
        await lookups.close()


async def _run_pass(
    worker: Worker,
    backoff: Backoff,
    lookups: "_Lookups",
    clock: Clock,
    interval: timedelta,
    watch: ClockWatch | None,
) -> timedelta:
    """Poll, start lookups, and run one batch of each kind of step. Returns the delay before the next pass.

    It is zero after steps were taken. A pass is short, so that a stop is prompt and leases start at the current time.
    """
    now = clock.now()
    if watch:
        await backoff.run(StepKind.CLOCK, lambda _: watch.update(), now)
        trusted = watch.trusted_now()
        if trusted is None:
            return interval
        now = trusted
    polled = await backoff.run(StepKind.POLL, lambda _: worker.next_due(), now)
    if polled:
        WORKER_LAG.set(_lag_seconds(polled, now))
    due = polled or Due(now, now)  # if the poll fails, every kind of step is tried
    if due.has_lookups(now):
        await lookups.fill(now)
    taken = await worker.run_steps(now, backoff) if due.has_steps(now) else 0
    retries = backoff.pending_retries(now)
    idle = not taken and not lookups.tasks
    if idle and (retries or not (due.has_steps(now) or due.has_lookups(now))):
        clock.mark_caught_up(now)
    if polled:
        WORKER_LAST_RUN.set_to_current_time()
    if taken:
        return timedelta(0)
    upcoming = [instant - now for instant in (due.steps, due.lookups, *retries) if instant and instant > now]
    return min([interval, *upcoming])


class _Lookups:
    """The pool of lookups as the loop sees it: when it is filled, and what it reports."""

    def __init__(self, worker: Worker, backoff: Backoff, interval: timedelta) -> None:
        self._pool = LookupPool(worker, backoff)
        self._interval = interval.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._not_before = self._loop.time()

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """The running lookups."""
        return self._pool.tasks

    async def fill(self, now: datetime) -> None:
        """Start due lookups, unless none was found less than an interval ago. Raises StorageUnavailable."""
        if self._not_before <= self._loop.time() and not await self._pool.fill(now):
            # Due domains that can't be leased are backing off, leased to another worker, or beyond a share.
            self._not_before = self._loop.time() + self._interval

    def collect(self) -> None:
        """Free the slots of lookups that have ended."""
        try:
            if self._pool.collect():
                self._not_before = self._loop.time()
        except StorageUnavailable as error:
            _report_unavailable(error)
            self._not_before = self._loop.time() + self._interval

    async def close(self) -> None:
        """Wait for the running lookups."""
        try:
            await self._pool.close()
        except StorageUnavailable as error:
            _report_unavailable(error)


def _report_unavailable(error: StorageUnavailable) -> None:
    if not error.reason:  # the storage has logged the reason, once
        log.warning("database unavailable, retrying")
    WORKER_FAILURES.labels("database").inc()


def _lag_seconds(due: Due, now: datetime) -> float:
    """Return how overdue the most overdue work is. Work without a due date does not count."""
    return max([0.0, *((now - instant).total_seconds() for instant in (due.steps, due.lookups) if instant)])
