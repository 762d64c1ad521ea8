"""SQLite's write-ahead log is deleted under load: the service explains itself, and loses nothing that it acknowledged.

After that it is killed. Should the log say that acknowledged writes may be missing, they may.
"""

from time import monotonic

from bench.chaos.database import integrity_errors
from bench.chaos.faults import fault_record, not_serving_reason
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import check
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios.postgres_killed import EXPECTED_CODES
from bench.chaos.writes import RANDOM

CLIENTS = 4
REPORT_SECONDS = 5.0


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Delete the log `count` times."""
    service, worker = harness.service(), harness.worker()
    gateway = harness.gateway(service)
    await service.start()
    await worker.start()
    await gateway.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    outcome = Outcome()
    reports = []
    unsure = 0
    for _ in range(count):
        async with load.running():
            await load.run_steadily(RANDOM.uniform(0.2, 0.6))
            harness.log_path.unlink()
            deleted = monotonic()
            reason = await not_serving_reason(gateway)
            reports.append(monotonic() - deleted)
        record = await fault_record(service)
        outcome.require("write-ahead log was deleted" in reason, f"/readyz says: {reason}")
        outcome.require(record["kind"] == "log_replaced", f"the log says: {record}")
        unsure += record["acknowledged_writes"] == "may be missing"
        for process in (service, worker):
            await process.kill()
            await process.start()
        await clients[0].wait_until_ready()
        outcome.count += 1
        if not unsure:
            outcome.violations += await check(harness, load.history)
        if outcome.violations:
            break
    outcome.violations += await integrity_errors(harness)
    outcome.require(set(load.codes) <= EXPECTED_CODES, f"callers received {dict(load.codes)}")
    outcome.require(unsure == 0, f"{unsure} times, acknowledged writes may have been missing")
    outcome.require_speed(max(reports) <= REPORT_SECONDS, f"reported after {max(reports):.2f} s")
    outcome.metrics = {"slowest_report_s": max(reports), "unsure": unsure}
    outcome.summary = f"{load.acknowledged} acknowledged, none lost; reported within {max(reports):.2f} s"
    return outcome
