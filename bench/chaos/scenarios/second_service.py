"""A second service is started on an SQLite file in use: it is refused, and the first one goes on undisturbed."""

from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import check
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome

CLIENTS = 4
CALL_TIMEOUT_SECONDS = 30.0  # long, so that no call fails by timeout


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Start a second service `count` times."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]), call_timeout_seconds=CALL_TIMEOUT_SECONDS)
    outcome = Outcome()
    refusal = f"process {service.pid} is the service of this database: stop it first"
    async with load.running():
        await load.run_steadily(0.5)
        for _ in range(count):
            second = harness.service()
            await second.launch()
            code, text = await second.wait()
            outcome.require(code == 1, f"the second service exited with {code}")
            outcome.require(refusal in text, f"it said: {text}")
            outcome.count += 1
    outcome.violations += await check(harness, load.history)
    outcome.violations += await integrity_errors(harness)
    outcome.require(set(load.codes) == {"OK"}, f"callers of the first received {dict(load.codes)}")
    outcome.metrics = {"acknowledged": load.acknowledged}
    outcome.summary = f"{outcome.count} refused, naming the first; {load.format_codes()} of the first"
    return outcome
