"""kill -9 of PostgreSQL under load: nothing acknowledged is lost, callers are told so, and the pool is as before."""

import asyncio
from time import monotonic

from bench.chaos.arena import Arena
from bench.chaos.audit import sessions, unsoundness
from bench.chaos.ledger import held_against
from bench.chaos.load import LEAST_WRITES_A_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.postgres import kill_server
from bench.chaos.writes import CHANCE

CLIENTS = 4
POOL = 10
RECOVERY_SECONDS = 5.0
TOLD = {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED"}


async def run(arena: Arena, count: int) -> Outcome:
    """Kill the server `count` times."""
    service = arena.service(POSTROOM_DATABASE_POOL_SIZE=str(POOL))
    await service.start()
    clients = [arena.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await arena.writes(clients[0]))
    outcome = Outcome()
    waits = []
    open_files = 0
    for _ in range(count):
        async with load.running():
            await load.steady(CHANCE.uniform(0.3, 1.0))
            await kill_server(arena.postgres)
            await asyncio.sleep(CHANCE.uniform(0.0, 1.0))
            await asyncio.to_thread(arena.postgres.start)
            back = monotonic()
            await load.next_acknowledgement()
            waits.append(monotonic() - back)
            await asyncio.sleep(0.2)
        outcome.count += 1
        outcome.broken += [*await held_against(arena, load.ledger), *await leaks(arena)]
        open_files = open_files or service.open_files()
        if outcome.broken:
            break
    outcome.broken += await unsoundness(arena)
    outcome.require(set(load.codes) <= TOLD, f"callers were told {dict(load.codes)}")
    outcome.require_speed(max(waits) <= RECOVERY_SECONDS, f"recovered after {max(waits):.2f} s")
    outcome.require_speed(load.rate() >= LEAST_WRITES_A_SECOND, f"only {load.rate():.0f} writes/s")
    more = service.open_files() - open_files
    outcome.require(more <= POOL, f"the service has {more} more files open than after the first fault")
    outcome.measured = {"slowest_recovery_s": max(waits), "acknowledged": load.acknowledged}
    told = ", ".join(f"{number} {code}" for code, number in sorted(load.codes.items()))
    outcome.seen = f"{told}; recovered in at the most {max(waits):.2f} s; {more:+d} open files"
    return outcome


async def leaks(arena: Arena) -> list[str]:
    """What is amiss with the service's sessions, none of which has anything to do now."""
    deadline = monotonic() + 2.0  # an answered call's session may still be on its way back to the pool
    while True:
        states = await sessions(arena)
        amiss = [state for state in states if state != "idle"]
        if not amiss and len(states) <= POOL:
            return []
        if monotonic() > deadline:
            return [f"{len(states)} sessions, of which {amiss}"]
        await asyncio.sleep(0.05)
