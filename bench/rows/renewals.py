"""Throughput of renewals that are due at once, processed by real workers during reads; checks for duplicates."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.databases import create_seeded
from bench.engine import Engine
from bench.harness import Harness
from bench.measurements import Measurement
from bench.open_loop import Latencies
from bench.percentiles import percentile
from bench.process import POSTROOM, Process
from bench.rows.creating import READS_PER_SECOND, read_at_rate
from postroomd.domain.calendar import period_end
from postroomd.domain.model import SubscriptionPeriod
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines

MAX_SECONDS = 120.0
"""Time limit of one measurement. Slower workers are rated by the renewals completed by then."""

SERIES_SECONDS = 2.0
SHORTEST_MONTH, LONGEST_MONTH = 28, 31  # days


@dataclass(frozen=True, slots=True)
class RenewalRun:
    """Renewals completed in some seconds, and the read latency before and during that time."""

    completed: int
    duplicates: int
    seconds: float
    idle_p99_ms: float
    busy_p99_ms: float


async def run(harness: Harness) -> list[Measurement]:
    """One worker, and on PostgreSQL two, each on a new database in which every mailbox is due."""
    one = await _run_workers(harness, workers=1)
    measurements = _measurements(harness, one, "one worker")
    if harness.engine is Engine.POSTGRESQL:
        measurements += _measurements(harness, await _run_workers(harness, workers=2), "two workers", baseline=one)
    return measurements


def _measurements(
    harness: Harness, result: RenewalRun, workers: str, baseline: RenewalRun | None = None
) -> list[Measurement]:
    title = f"{harness.parameters.renewals:,} renewals due at once, {workers}"
    if result.duplicates:
        raise ValueError(f"{result.duplicates} renewals were processed twice")
    return [
        Measurement(
            title=f"{title} vs one" if baseline else title,
            unit="renewals/s",
            value=result.completed / result.seconds,
            baseline=baseline.completed / baseline.seconds if baseline else None,
            note=f"{result.completed:,} completed in {result.seconds:.0f} s, no duplicates",
        ),
        Measurement(
            title=f"{title}: GetMailbox p99 at {READS_PER_SECOND} req/s vs idle",
            unit="ms",
            value=result.busy_p99_ms,
            baseline=result.idle_p99_ms,
        ),
    ]


async def _run_workers(harness: Harness, workers: int) -> RenewalRun:
    size = harness.parameters.renewals
    url = await harness.databases.new(harness.engine)
    start = start_of_ended_month(datetime.now(UTC))
    await create_seeded(url, size, start, interval=timedelta())
    service = await harness.service(url)
    reader = harness.stub(service)
    await read_at_rate(reader, size, SERIES_SECONDS)
    idle = await read_at_rate(reader, size, harness.parameters.run_seconds * 2)
    processes = [_worker(harness, url) for _ in range(workers)]
    async with _connect(url) as connection:
        await asyncio.gather(*(process.start() for process in processes))
        started = monotonic()
        finished = asyncio.Event()
        reads = asyncio.create_task(_read_until(finished, reader, size))
        completed = 0
        while completed < size and monotonic() < started + MAX_SECONDS:
            await asyncio.sleep(0.5)
            completed = await _count_started_after(connection, start)
        seconds = monotonic() - started
        finished.set()
        series = await reads
        for process in (*processes, service):
            await process.kill()
        duplicates = await _count_started_after(connection, _month_end(start))
    busy = sorted(latency for latencies in series for latency in latencies.succeeded)
    return RenewalRun(completed, duplicates, seconds, idle.p99_ms(), percentile(busy, 0.99) * 1e3)


async def _read_until(finished: asyncio.Event, stub: Any, size: int) -> Sequence[Latencies]:
    series = [await read_at_rate(stub, size, SERIES_SECONDS)]
    while not finished.is_set():
        series.append(await read_at_rate(stub, size, SERIES_SECONDS))
    return series


def _worker(harness: Harness, url: str) -> Process:
    settings = {"POSTROOM_DATABASE_URL": url, "POSTROOM_DOMAIN_VALIDATION": "trust"}
    return harness.process([POSTROOM, "worker"], "", settings)


def start_of_ended_month(now: datetime) -> datetime:
    """Return the start of a monthly period that has ended while the next one has not."""
    starts = (now - timedelta(days=days) for days in range(SHORTEST_MONTH, LONGEST_MONTH + 1))
    return next(start for start in starts if _month_end(start) <= now)


def _month_end(start: datetime) -> datetime:
    return period_end(start, start, SubscriptionPeriod.MONTHLY)


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[AsyncConnection]:
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def _count_started_after(connection: AsyncConnection, instant: datetime) -> int:
    """Return the number of mailboxes whose current period started after an instant, in a transaction of its own."""
    started_at = t.mailboxes.c.subscription_period_started_at
    statement = select(func.count()).select_from(t.mailboxes).where(started_at > instant)
    count = (await connection.execute(statement)).scalar_one()
    await connection.rollback()
    return int(count)
