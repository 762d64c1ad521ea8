"""How soon the service says that it is ready, beside an empty database."""

from time import perf_counter

from bench.figures import Figure, Measure, at_most, compared, in_turns
from bench.process import POSTROOM
from bench.stand import Stand, free_address

STARTS = 5


async def run(stand: Stand) -> list[Figure]:
    """One service, started again and again on 1,000,000 mailboxes, and on none."""
    count = stand.plan.large
    full, empty = [_start(stand, await stand.seeded(size)) for size in (count, 0)]
    for start in (full, empty):
        await start()  # reads the programs into memory
    taken, floors = await in_turns(STARTS, full, empty)
    return [compared(f"start on {count:,} mailboxes, beside an empty database", "s", taken, floors, at_most(1.2))]


def _start(stand: Stand, url: str) -> Measure[float]:
    address = free_address()
    settings = {"POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": address, "POSTROOM_DRAIN_SECONDS": "0"}
    process = stand.process([POSTROOM, "serve"], address, settings)

    async def measure() -> float:
        started = perf_counter()
        await process.start()
        taken = perf_counter() - started
        await process.terminate()
        return taken

    return measure
