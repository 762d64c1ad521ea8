"""kill -9 of the service at a random moment under load: nothing that was acknowledged is lost, and it is back soon."""

from statistics import median
from time import monotonic

from bench.chaos.arena import Arena
from bench.chaos.audit import unsoundness
from bench.chaos.ledger import Outcome as Known
from bench.chaos.ledger import held_against
from bench.chaos.load import LEAST_WRITES_A_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.writes import CHANCE

CLIENTS = 4
READY_SECONDS = 2.0


async def run(arena: Arena, count: int) -> Outcome:
    """Kill the service `count` times."""
    service = arena.service()
    await service.start()
    clients = [arena.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await arena.writes(clients[0]))
    outcome = Outcome()
    waits = []
    for _ in range(count):
        async with load.running():
            await load.steady(CHANCE.uniform(0.3, 1.0))
            await service.kill()
        killed = monotonic()
        await service.start()
        await clients[0].wait_until_answered()
        waits.append(monotonic() - killed)
        outcome.count += 1
        outcome.broken += await held_against(arena, load.ledger)
        if outcome.broken:
            break
    outcome.broken += await unsoundness(arena)
    outcome.require_speed(load.rate() >= LEAST_WRITES_A_SECOND, f"only {load.rate():.0f} writes/s")
    outcome.require_speed(max(waits) <= READY_SECONDS, f"ready again after {max(waits):.2f} s")
    known = load.ledger.counted()
    outcome.measured = {
        "acknowledged": load.acknowledged,
        "writes_a_second": load.rate(),
        "median_start_s": median(waits),
        "slowest_start_s": max(waits),
    }
    outcome.seen = (
        f"{load.acknowledged} acknowledged at {load.rate():.0f}/s, {known[Known.UNKNOWN]} cut off;"
        f" ready again in {median(waits):.2f} s, at the most {max(waits):.2f} s"
    )
    return outcome
