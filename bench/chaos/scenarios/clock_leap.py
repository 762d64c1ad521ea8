"""The system's clock leaps, forward by days and centuries and back, and returns: nothing is purged, renewed or lost.

Mailboxes are created and deleted during each leap. Their dates must be those of the right time. The last leap is
accepted instead: then what is due by the accepted clock is done.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from bench.chaos.client import Client
from bench.chaos.database import integrity_errors, invariant_violations, read_dates
from bench.chaos.harness import ChaosHarness
from bench.chaos.outcome import Outcome
from bench.chaos.settable_clock import set_clock
from bench.chaos.writes import WriteGenerator
from bench.process import LogRecord, Process
from postroomd.storage.opening import open_repository

DAY = timedelta(days=1)
LEAPS = (40 * DAY, 548 * 365 * DAY, -40 * DAY)
RETENTION = 30 * DAY
MAX_ERROR = timedelta(minutes=5)  # of a stored date, for calls that wait
PAUSE_SECONDS = 0.3
CALL_TIMEOUT_SECONDS = 30.0  # long, so that no call fails by timeout
INTERVAL = {"POSTROOM_WORKER_INTERVAL_SECONDS": "0.02"}


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Let the clock leap and return `count` times, then leap once more and stay."""
    clock = harness.directory / "clock"
    set_clock(clock, timedelta(0))
    service, worker = (harness.process_with_clock(name, clock, **INTERVAL) for name in ("serve", "worker"))
    await service.start()
    await worker.start()
    client = harness.client(service.address)
    writes = await harness.create_writes(client)
    outcome = Outcome()
    created = await _create_and_delete(client, writes)
    for off in cycle(LEAPS):
        set_clock(clock, off)
        await _wait_for(worker, "the clock has leapt")
        created += await _create_and_delete(client, writes)
        await asyncio.sleep(PAUSE_SECONDS)
        set_clock(clock, timedelta(0))
        await _wait_for(worker, "clock trusted again")
        outcome.count += 1
        if outcome.count == count:
            break
    dates = await read_dates(harness)
    outcome.require(len(dates) == created, f"{created - len(dates)} of {created} mailboxes are gone")
    now = datetime.now(UTC)
    wrong = [
        each
        for each in dates
        if abs(each.created_at - now) > MAX_ERROR
        or each.period_started_at != each.created_at
        or (each.deletion_at is not None and abs(each.deletion_at - now - RETENTION) > MAX_ERROR)
    ]
    outcome.require(not wrong, f"{len(wrong)} mailboxes have dates of a leapt clock, such as {wrong[:1]}")
    scheduled = sum(each.deletion_at is not None for each in dates)
    outcome.violations += await _accept(harness, clock, worker, created - scheduled)
    outcome.violations += [*await invariant_violations(harness), *await integrity_errors(harness)]
    outcome.metrics = {"mailboxes": created, "gone": created - len(dates)}
    outcome.summary = f"0 of {created} mailboxes purged, renewed or wrongly dated; an accepted leap purged {scheduled}"
    return outcome


async def _create_and_delete(client: Client, writes: WriteGenerator) -> int:
    """Create a batch of mailboxes, and delete some of them. Returns their number."""
    batch = writes.batch()
    response: Any = await client.send(batch, timeout=CALL_TIMEOUT_SECONDS)
    writes.add_mailboxes(batch.ids(response))
    await client.send(writes.deletion(), timeout=CALL_TIMEOUT_SECONDS)
    return len(batch.names)


async def _accept(harness: ChaosHarness, clock: Any, worker: Process, kept: int) -> list[str]:
    """Leap past the retention, accept the clock, and wait until the scheduled mailboxes are purged."""
    set_clock(clock, LEAPS[0])
    await _wait_for(worker, "the clock has leapt")
    repository = await open_repository(harness.url)
    try:
        await repository.clocks.accept(datetime.now(UTC) + LEAPS[0])
    finally:
        await repository.close()
    await _wait_for(worker, "clock trusted again")
    async with asyncio.timeout(30):
        while len(left := await read_dates(harness)) > kept:  # noqa: ASYNC110 # it is another process that purges
            await asyncio.sleep(0.05)
    return [] if len(left) == kept else [f"{kept - len(left)} mailboxes were purged that were not to be deleted"]


async def _wait_for(worker: Process, event: str) -> None:
    def matches(record: LogRecord) -> bool:
        return bool(record["event"].startswith(event))

    await worker.wait_for_log(matches)
