"""Renewals that fall due at once, done by real workers while requests are served: how many a second, none twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.databases import fill
from bench.engine import Engine
from bench.figures import Figure
from bench.open_loop import Seen
from bench.percentiles import percentile
from bench.process import POSTROOM, Process
from bench.rows.creating import READS_PER_SECOND, reads_at_rate
from bench.stand import Stand
from postroomd.domain.calendar import period_end
from postroomd.domain.model import SubscriptionPeriod
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines

MOST_SECONDS = 120.0
"""For one set of workers: where they take longer, their rate is that of what they did by then."""

SERIES_SECONDS = 2.0
SHORTEST_MONTH, LONGEST_MONTH = 28, 31


@dataclass(frozen=True, slots=True)
class Renewed:
    """What workers did, and what reads saw before and meanwhile."""

    done: int
    twice: int
    seconds: float
    idle_p99_ms: float
    busy_p99_ms: float


async def run(stand: Stand) -> list[Figure]:
    """One worker, and on PostgreSQL two, each time on a new database in which every mailbox is due."""
    figures = []
    one = await _renew(stand, workers=1)
    figures += _figures(stand, one, "one worker")
    if stand.engine is Engine.POSTGRESQL:
        figures += _figures(stand, await _renew(stand, workers=2), "two workers", beside=one)
    return figures


def _figures(stand: Stand, renewed: Renewed, who: str, beside: Renewed | None = None) -> list[Figure]:
    what = f"{stand.plan.renewals:,} renewals due at once, by {who}"
    if renewed.twice:
        raise ValueError(f"{renewed.twice} renewals were done twice")
    return [
        Figure(
            what=f"{what}{', beside one' if beside else ''}",
            unit="a second",
            value=renewed.done / renewed.seconds,
            floor=beside.done / beside.seconds if beside else None,
            note=f"{renewed.done:,} done in {renewed.seconds:.0f} s, none twice",
        ),
        Figure(
            what=f"{what}: p99 of GetMailbox at {READS_PER_SECOND} a second, beside idle",
            unit="ms",
            value=renewed.busy_p99_ms,
            floor=renewed.idle_p99_ms,
        ),
    ]


async def _renew(stand: Stand, workers: int) -> Renewed:
    count = stand.plan.renewals
    url = await stand.databases.new(stand.engine)
    start = _just_ended(datetime.now(UTC))
    await fill(url, count, start, apart=timedelta())
    service = await stand.service(url)
    reading = stand.stub(service)
    await reads_at_rate(reading, count, SERIES_SECONDS)
    idle = await reads_at_rate(reading, count, stand.plan.seconds * 2)
    processes = [_worker(stand, url) for _ in range(workers)]
    async with _looking(url) as connection:
        await asyncio.gather(*(process.start() for process in processes))
        begun = monotonic()
        over = asyncio.Event()
        reads = asyncio.create_task(_reads_until(over, reading, count))
        done = 0
        while done < count and monotonic() < begun + MOST_SECONDS:
            await asyncio.sleep(0.5)
            done = await _moved(connection, start)
        seconds = monotonic() - begun
        over.set()
        series = await reads
        for process in (*processes, service):
            await process.kill()
        twice = await _moved(connection, start, past=_end(start))
    busy = sorted(taken for seen in series for taken in seen.served)
    return Renewed(done, twice, seconds, idle.p99_ms(), percentile(busy, 0.99) * 1e3)


async def _reads_until(over: asyncio.Event, stub: Any, count: int) -> Sequence[Seen]:
    series = [await reads_at_rate(stub, count, SERIES_SECONDS)]
    while not over.is_set():
        series.append(await reads_at_rate(stub, count, SERIES_SECONDS))
    return series


def _worker(stand: Stand, url: str) -> Process:
    settings = {"POSTROOM_DATABASE_URL": url, "POSTROOM_DOMAIN_VALIDATION": "trust"}
    return stand.process([POSTROOM, "worker"], "", settings)


def _just_ended(now: datetime) -> datetime:
    """When a month began that has ended by now, and whose next one has not."""
    starts = (now - timedelta(days=days) for days in range(SHORTEST_MONTH, LONGEST_MONTH + 1))
    return next(start for start in starts if _end(start) <= now)


def _end(start: datetime) -> datetime:
    return period_end(start, start, SubscriptionPeriod.MONTHLY)


@asynccontextmanager
async def _looking(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection to look at the database over. Each look is a transaction of its own."""
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def _moved(connection: AsyncConnection, start: datetime, past: datetime | None = None) -> int:
    """How many mailboxes are in a later period than that which began at `start`, or in one later than `past`."""
    began = t.mailboxes.c.subscription_period_started_at
    moved = select(func.count()).select_from(t.mailboxes).where(began > (past or start))
    count = (await connection.execute(moved)).scalar_one()
    await connection.rollback()
    return int(count)
