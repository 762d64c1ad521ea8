"""Time from starting the service until it is ready vs the same on an empty database."""

from time import perf_counter

from bench.harness import Harness
from bench.measurements import Measure, Measurement, alternate, at_most, compare
from bench.process import POSTROOM
from tools.ports import free_address

STARTS = 5


async def run(harness: Harness) -> list[Measurement]:
    """One service, started repeatedly on 1,000,000 mailboxes and on none."""
    size = harness.parameters.large
    full, empty = [_start(harness, await harness.seeded(each)) for each in (size, 0)]
    for start in (full, empty):
        await start()  # fills the page cache
    durations, baselines = await alternate(STARTS, full, empty)
    return [compare(f"start on {size:,} mailboxes vs an empty database", "s", durations, baselines, at_most(1.2))]


def _start(harness: Harness, url: str) -> Measure[float]:
    address = free_address()
    settings = {"POSTROOM_DATABASE_URL": url, "POSTROOM_GRPC_ADDRESS": address, "POSTROOM_DRAIN_SECONDS": "0"}
    process = harness.process([POSTROOM, "serve"], address, settings)

    async def measure() -> float:
        started = perf_counter()
        await process.start()
        seconds = perf_counter() - started
        await process.terminate()
        return seconds

    return measure
