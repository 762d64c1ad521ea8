"""kill -9 of PostgreSQL under load: no acknowledged write is lost, callers get UNAVAILABLE, and the pool recovers."""

import asyncio
from time import monotonic

from bench.chaos.database import integrity_errors, session_states
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import check
from bench.chaos.load import MIN_WRITES_PER_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.writes import RANDOM

CLIENTS = 4
POOL_SIZE = 10
RECOVERY_SECONDS = 5.0
IDLE_SECONDS = 30.0
EXPECTED_CODES = {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Kill the server `count` times."""
    service = harness.service(POSTROOM_DATABASE_POOL_SIZE=str(POOL_SIZE))
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    outcome = Outcome()
    recoveries = []
    open_files = 0
    for _ in range(count):
        async with load.running():
            await load.run_steadily(RANDOM.uniform(0.3, 1.0))
            await asyncio.to_thread(harness.postgres.kill)
            await asyncio.sleep(RANDOM.uniform(0.0, 1.0))
            await asyncio.to_thread(harness.postgres.start)
            restarted = monotonic()
            await load.wait_until_acknowledged()
            recoveries.append(monotonic() - restarted)
            await asyncio.sleep(0.2)
        outcome.count += 1
        outcome.violations += [*await check(harness, load.history), *await leaked_sessions(harness)]
        open_files = open_files or service.open_files()
        if outcome.violations:
            break
    outcome.violations += await integrity_errors(harness)
    outcome.require(set(load.codes) <= EXPECTED_CODES, f"callers received {dict(load.codes)}")
    outcome.require_speed(max(recoveries) <= RECOVERY_SECONDS, f"recovered after {max(recoveries):.2f} s")
    outcome.require_speed(load.rate() >= MIN_WRITES_PER_SECOND, f"only {load.rate():.0f} writes/s")
    leaked_files = service.open_files() - open_files
    outcome.require(
        leaked_files <= POOL_SIZE, f"the service has {leaked_files} more open files than after the first fault"
    )
    outcome.metrics = {"slowest_recovery_s": max(recoveries), "acknowledged": load.acknowledged}
    outcome.summary = f"{load.format_codes()}; recovered within {max(recoveries):.2f} s; {leaked_files:+d} open files"
    return outcome


async def leaked_sessions(harness: ChaosHarness) -> list[str]:
    """Return the service's database sessions that are not idle, or are too many, while no call is pending."""
    deadline = monotonic() + IDLE_SECONDS  # the session of a completed call may not be back in the pool yet
    while True:
        states = await session_states(harness)
        active = [state for state in states if state != "idle"]
        if not active and len(states) <= POOL_SIZE:
            return []
        if monotonic() > deadline:
            return [f"{len(states)} sessions, of which {active}"]
        await asyncio.sleep(0.05)
