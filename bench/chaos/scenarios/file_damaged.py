"""A page of SQLite's file is overwritten under load: the service explains itself, and acknowledges nothing more.

Calls that had begun before the report may succeed, however long they take.
"""

import asyncio
import shutil
from time import monotonic

from bench.chaos.database import integrity_errors
from bench.chaos.faults import fault_record, not_serving_reason, overwrite
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import WriteStatus
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios.postgres_killed import EXPECTED_CODES
from bench.chaos.writes import RANDOM

CLIENTS = 4
LATE_SECONDS = 2.0
# Mailboxes of an earlier round do not exist in the copy.
CODES = EXPECTED_CODES | {"NOT_FOUND"}
REPORT_SECONDS = 10.0


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Damage the file `count` times, and put an undamaged copy in its place each time."""
    service = harness.service()
    gateway = harness.gateway(service)
    await service.start()
    await gateway.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    await service.terminate()
    copy = harness.directory / "copy.db"
    await asyncio.to_thread(shutil.copyfile, harness.database_path, copy)
    outcome = Outcome()
    reports = []
    for _ in range(count):
        await service.start()
        await clients[0].wait_until_ready()
        async with load.running():
            await load.run_steadily(RANDOM.uniform(0.2, 0.6))
            damaged = monotonic()
            # Until the service reads the page: a checkpoint may write it in between.
            reason = await not_serving_reason(gateway, lambda: overwrite(harness.database_path))
            reports.append(monotonic() - damaged)
            begun = len(load.history.entries)
            await asyncio.sleep(LATE_SECONDS)
        late = sum(entry.status is WriteStatus.ACKNOWLEDGED for entry in load.history.entries[begun:])
        record = await fault_record(service)
        outcome.require("the database file is damaged" in reason, f"/readyz says: {reason}")
        outcome.require(
            (record["kind"], record["acknowledged_writes"]) == ("damaged", "may be missing"), f"the log says: {record}"
        )
        outcome.require(late == 0, f"{late} writes acknowledged that began after the report")
        await service.kill()
        for path in harness.database_path.parent.glob(f"{harness.database_path.name}-*"):
            path.unlink()
        await asyncio.to_thread(shutil.copyfile, copy, harness.database_path)
        outcome.count += 1
        if outcome.violations:
            break
    outcome.violations += await integrity_errors(harness)
    outcome.require(set(load.codes) <= CODES, f"callers received {dict(load.codes)}")
    outcome.require_speed(max(reports) <= REPORT_SECONDS, f"reported after {max(reports):.2f} s")
    outcome.metrics = {"slowest_report_s": max(reports)}
    outcome.summary = f"{load.format_codes()}; reported within {max(reports):.2f} s, nothing acknowledged afterwards"
    return outcome
