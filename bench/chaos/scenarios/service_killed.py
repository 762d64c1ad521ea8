"""kill -9 of the service at a random time under load: no acknowledged write is lost, and it restarts quickly."""

from statistics import median
from time import monotonic

from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import WriteStatus, check
from bench.chaos.load import MIN_WRITES_PER_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.writes import RANDOM

CLIENTS = 4
READY_SECONDS = 2.0


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Kill the service `count` times."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    outcome = Outcome()
    restarts = []
    for _ in range(count):
        async with load.running():
            await load.run_steadily(RANDOM.uniform(0.3, 1.0))
            await service.kill()
        killed = monotonic()
        await service.start()
        await clients[0].wait_until_ready()
        restarts.append(monotonic() - killed)
        outcome.count += 1
        outcome.violations += await check(harness, load.history)
        if outcome.violations:
            break
    outcome.violations += await integrity_errors(harness)
    outcome.require_speed(load.rate() >= MIN_WRITES_PER_SECOND, f"only {load.rate():.0f} writes/s")
    outcome.require_speed(max(restarts) <= READY_SECONDS, f"ready again after {max(restarts):.2f} s")
    outcome.metrics = {
        "acknowledged": load.acknowledged,
        "writes_per_second": load.rate(),
        "median_start_s": median(restarts),
        "slowest_start_s": max(restarts),
    }
    outcome.summary = (
        f"{load.acknowledged} acknowledged at {load.rate():.0f}/s,"
        f" {load.history.count_by_status()[WriteStatus.UNKNOWN]} interrupted;"
        f" ready again in {median(restarts):.2f} s (median), {max(restarts):.2f} s (maximum)"
    )
    return outcome
