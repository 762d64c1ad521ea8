"""The worker's loop: polls for due work, runs the steps, and sleeps until more falls due."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial

from postroomd.clock import Clock
from postroomd.domain.errors import StorageUnavailable
from postroomd.observability.logs import get_logger
from postroomd.observability.metrics import WORKER_FAILURES, WORKER_LAG, WORKER_LAST_RUN
from postroomd.storage.protocols.work import Due
from postroomd.worker.backoff import Rests
from postroomd.worker.steps import DNS_LOOKUP, POLL, Worker

log = get_logger()


async def run_loop(worker: Worker, stop: asyncio.Event, clock: Clock, interval: timedelta) -> None:
    """Do what is due until `stop` is set. Where nothing is, one look an interval tells; or when something will be.

    Domains are looked up beside all else: one whose servers are silent must not keep anybody's renewal waiting.
    """
    stopping, loop = asyncio.create_task(stop.wait()), asyncio.get_running_loop()
    looking: asyncio.Task[int | None] | None = None
    look_again_at = loop.time()
    rests = Rests(lambda kind: WORKER_FAILURES.labels(kind).inc())

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
                found = await rests.take(POLL, next_due, now)
                if found:
                    WORKER_LAG.set(_lag_seconds(found, now))
                due = found or Due(now, now)  # for all that is known
                if looking is None and look_again_at <= loop.time() and due.has_lookups(now):
                    looking = asyncio.create_task(rests.take(DNS_LOOKUP, partial(worker.validate_once, now), now))
                if due.has_steps(now):
                    # No more than some: a stop is to be heeded, and the next leases run from the time that it is then.
                    done = await worker.move_some(now, rests)
                resting = rests.ends(now)
                coming = [instant - now for instant in (due.steps, due.lookups, *resting) if instant and instant > now]
                rest = min([rest, *coming])
                left = due.has_steps(now) or due.has_lookups(now)
                if looking is None and not done and (resting or not left):
                    clock.mark_caught_up(now)
                if found:
                    WORKER_LAST_RUN.set_to_current_time()
            except StorageUnavailable:
                log.warning("the database can't be reached: trying again")
                WORKER_FAILURES.labels("database").inc()
            if done:
                continue
            awaited = {stopping, looking} if looking else {stopping}
            await clock.wait(awaited, rest.total_seconds())
    finally:
        stopping.cancel()
        if looking is not None:
            await asyncio.wait({looking})
            _looked(looking)


def _lag_seconds(due: Due, now: datetime) -> float:
    """How overdue the most overdue work is. What waits for no instant is not counted."""
    return max([0.0, *((now - instant).total_seconds() for instant in (due.steps, due.lookups) if instant)])


def _looked(looking: asyncio.Task[int | None]) -> int:
    """How many domains were looked up."""
    error = looking.exception()
    if isinstance(error, StorageUnavailable):
        log.warning("the database can't be reached: the look-ups are made again")
        WORKER_FAILURES.labels("database").inc()
        return 0
    return looking.result() or 0
