"""SQLite's write-ahead log while the worker has a backlog: renewals, then the purge of a domain.

The service is killed half-way through the purge, so that the worker has to bound the log by itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from sqlalchemy import Select, func, select

from bench.chaos.database import connect, integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.outcome import Outcome
from bench.rows.renewals import start_of_ended_month
from bench.seed import SECRET, seed, seeded_id
from postroom.v1alpha1 import domain_pb2
from postroomd.storage import schema as t

MIB = 1024 * 1024
MAX_BYTES = 128 * MIB
IDLE_BYTES = 8 * MIB
IDLE_SECONDS = 60.0
WORK_SECONDS = 1_800.0
SAMPLE_SECONDS = 0.02
POLL_SECONDS = 0.2
DELETE_SECONDS = 60.0

REMAINING = select(func.count()).select_from(t.mailboxes)


class LogSize:
    """The size of the write-ahead log in bytes: now, and the largest since the last reset."""

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database}-wal")
        self.largest = 0

    def now(self) -> int:
        """Return the size, 0 if there is no log."""
        return self._path.stat().st_size if self._path.exists() else 0

    @asynccontextmanager
    async def sampled(self) -> AsyncIterator[None]:
        """Keep `largest` up to date during the block."""
        sampling = asyncio.create_task(self._sample())
        yield
        sampling.cancel()

    async def _sample(self) -> None:
        while True:
            self.largest = max(self.largest, self.now())
            await asyncio.sleep(SAMPLE_SECONDS)


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Renew and purge `count` mailboxes."""
    await seed(harness.url, count, start_of_ended_month(datetime.now(UTC)), timedelta())
    outcome = Outcome()
    size = LogSize(harness.database_path)
    async with size.sampled():
        service, worker = harness.service(), harness.worker()
        await service.start()
        started = monotonic()
        await worker.start()
        await _wait_for(harness, REMAINING.where(t.mailboxes.c.due_at < datetime.now(UTC)), 0)
        renewals, renewal_seconds = size.largest, monotonic() - started
        idle = [await _idle_bytes(size)]

        size.largest = 0
        client = harness.client(service.address, token=SECRET)
        started = monotonic()
        request = domain_pb2.DeleteDomainRequest(domain_id=seeded_id("domain"), force=True)
        await client.stub.DeleteDomain(request, metadata=client.metadata, timeout=DELETE_SECONDS)
        await _wait_for(harness, REMAINING, count // 2)
        purge = size.largest
        await service.kill()
        size.largest = 0
        await _wait_for(harness, REMAINING, 0)
        alone, purge_seconds = size.largest, monotonic() - started
        idle.append(await _idle_bytes(size))
        await service.start()  # the worker holds its lock for single checkpoints only
    outcome.count = count
    largest = max(renewals, purge, alone)
    outcome.require(largest <= MAX_BYTES, f"the log had {largest / MIB:.0f} MiB")
    outcome.require(max(idle) < IDLE_BYTES, f"the idle log had {max(idle) / MIB:.0f} MiB after a minute")
    outcome.violations += await integrity_errors(harness)
    outcome.metrics = {
        "renewals_mib": renewals / MIB,
        "purge_mib": purge / MIB,
        "purge_without_service_mib": alone / MIB,
        "idle_mib": max(idle) / MIB,
        "renewal_s": renewal_seconds,
        "purge_s": purge_seconds,
    }
    outcome.summary = (
        f"the log had at most {largest / MIB:.0f} MiB, {max(idle) / MIB:.1f} MiB when idle;"
        f" renewals took {renewal_seconds:.0f} s, the purge {purge_seconds:.0f} s"
    )
    return outcome


async def _wait_for(harness: ChaosHarness, counting: Select[int], remaining: int) -> None:
    """Wait until a count has gone down to `remaining`. Raises TimeoutError."""
    async with asyncio.timeout(WORK_SECONDS):
        while await _count(harness, counting) > remaining:  # noqa: ASYNC110 - the worker is another process
            await asyncio.sleep(POLL_SECONDS)


async def _count(harness: ChaosHarness, counting: Select[int]) -> int:
    async with connect(harness) as connection:
        return (await connection.execute(counting)).scalar_one()


async def _idle_bytes(size: LogSize) -> int:
    """Return the size of the log once it is small, or after a minute."""
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            while size.now() >= IDLE_BYTES:  # noqa: ASYNC110 - no event tells of other processes' checkpoints
                await asyncio.sleep(SAMPLE_SECONDS)
    return size.now()
