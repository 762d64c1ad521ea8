"""The disk fills up under load: no write is acknowledged but lost, reads continue, and writes recover.

The database is on a small tmpfs, which a ballast file fills. Without a tmpfs, on SQLite, a limit on the size of the
service's files has the same effect.
"""

import asyncio
from time import monotonic

import grpc

from bench.chaos.client import Client
from bench.chaos.database import integrity_errors
from bench.chaos.disk import BallastFile, DiskSpace, FileSizeLimit
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import check
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome
from bench.chaos.postgres import preallocate_wal, restart_if_down
from bench.chaos.scenarios.postgres_killed import EXPECTED_CODES
from bench.chaos.writes import RANDOM
from bench.engine import Engine

CLIENTS = 4
FAILED_WRITES = 20  # before the disk is freed
READS = 20
FILL_SECONDS = 30.0
RECOVERY_SECONDS = 5.0


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Fill the disk `count` times."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    disk: DiskSpace = BallastFile(harness.mount) if harness.mount else FileSizeLimit(service)
    outcome = Outcome()
    recoveries = []
    failed_reads = restarts = 0
    for _ in range(count):
        if harness.engine is Engine.POSTGRESQL:
            await asyncio.to_thread(preallocate_wal, harness.postgres)
        async with load.running():
            await load.run_steadily(RANDOM.uniform(0.2, 0.6))
            await _fill_until_writes_fail(load, disk)
            mailbox_id = next(entry.ids[0] for entry in load.history.entries if entry.ids)
            failed_reads += await _count_failed_reads(clients, mailbox_id)
            disk.free()
            freed = monotonic()
            if harness.engine is Engine.POSTGRESQL:
                restarts += await restart_if_down(harness.postgres)
            await load.wait_until_acknowledged()
            recoveries.append(monotonic() - freed)
        outcome.count += 1
        outcome.violations += await check(harness, load.history)
        if outcome.violations:
            break
    outcome.violations += await integrity_errors(harness)
    outcome.require(set(load.codes) <= EXPECTED_CODES, f"callers received {dict(load.codes)}")
    outcome.require(failed_reads == 0, f"{failed_reads} reads failed while the disk was full")
    outcome.require(restarts == 0, f"PostgreSQL had to be restarted {restarts} times")
    outcome.require_speed(max(recoveries) <= RECOVERY_SECONDS, f"recovered after {max(recoveries):.2f} s")
    reads = outcome.count * READS
    outcome.metrics = {"slowest_recovery_s": max(recoveries), "reads": reads, "reads_failed": failed_reads}
    outcome.summary = (
        f"{load.format_codes()}; {reads - failed_reads} of {reads} reads succeeded on the full disk;"
        f" recovered within {max(recoveries):.2f} s"
    )
    return outcome


async def _fill_until_writes_fail(load: Load, disk: DiskSpace) -> None:
    """Fill the disk, repeatedly as space is freed, until writes fail. Raises TimeoutError."""
    before = load.codes["UNAVAILABLE"]
    async with asyncio.timeout(FILL_SECONDS):
        while load.codes["UNAVAILABLE"] < before + FAILED_WRITES:
            await asyncio.to_thread(disk.fill)
            await asyncio.sleep(0.05)


async def _count_failed_reads(clients: list[Client], mailbox_id: str) -> int:
    reads = (clients[number % CLIENTS].get_mailbox(mailbox_id) for number in range(READS))
    results = await asyncio.gather(*reads, return_exceptions=True)
    return sum(isinstance(result, grpc.aio.AioRpcError) for result in results)
