"""Behaviour at twice the capacity: latency of accepted requests, and the share that is rejected."""

from statistics import median

from bench.batches import create_batch
from bench.h2load import HttpTarget, LoadResult, LoadShape, run_h2load
from bench.harness import Harness
from bench.latency import median_ms
from bench.measurements import Measurement, alternate, compare
from bench.open_loop import Latencies, run_at_rate
from bench.rest import mailboxes_target
from bench.rows.gateway import CONNECTIONS

OVERLOAD = 2.0  # times the capacity
MODERATE = 0.5  # times the capacity, as the baseline
MANY_CONNECTIONS = 400
BATCH_SIZE = 10
DURATION_FACTOR = 3  # of a run's duration: a p99 needs enough batches
OK, TOO_MANY_REQUESTS = 200, 429


async def reads(harness: Harness) -> list[Measurement]:
    """GET of a mailbox through gateway and service, from more connections than they serve concurrently."""
    size, seconds = harness.parameters.medium, harness.parameters.run_seconds
    gateway = await harness.gateway(await harness.service(await harness.seeded(size)))
    target = await mailboxes_target(gateway, size)
    capacity = (await run_h2load(target, LoadShape(seconds, connections=CONNECTIONS))).rate
    overload, moderate = await alternate(
        harness.parameters.runs,
        lambda: _load(harness, target, capacity * OVERLOAD),
        lambda: _load(harness, target, capacity * MODERATE),
    )
    rejected = median(load.statuses[TOO_MANY_REQUESTS] / load.statuses.total() for load in overload)
    accepted = median(load.statuses[OK] / seconds for load in overload)
    note = f"{rejected:.0%} rejected, {accepted / capacity:.0%} of capacity served, other statuses: {_others(overload)}"
    p99s, baseline_p99s = ([load.percentile(0.99) * 1e3 for load in side] for side in (overload, moderate))
    title = f"GET mailbox over REST: p99 of accepted requests at {OVERLOAD:g}x vs {MODERATE:g}x capacity"
    return [compare(title, "ms", p99s, baseline_p99s, note=note)]


async def _load(harness: Harness, target: HttpTarget, per_second: float) -> LoadResult:
    per_connection = max(1, round(per_second / MANY_CONNECTIONS))
    connections = round(per_second / per_connection)
    shape = LoadShape(harness.parameters.run_seconds, connections=connections, per_second=per_connection)
    return await run_h2load(target, shape, allow_rejections=True)


def _others(loads: list[LoadResult]) -> str:
    total = sum((load.statuses for load in loads), start=loads[0].statuses - loads[0].statuses)
    others = (f"{status}: {count}" for status, count in total.items() if status not in {OK, TOO_MANY_REQUESTS})
    return ", ".join(others) or "none"


async def batches(harness: Harness) -> list[Measurement]:
    """Batches of 10 at a fixed rate of twice what the hashing threads can process."""
    parameters = harness.parameters
    stub = harness.stub(await harness.service(await harness.copy(parameters.small)))
    await create_batch(stub, BATCH_SIZE)
    duration = await median_ms(lambda _: create_batch(stub, BATCH_SIZE), 10)
    capacity = 1e3 / duration  # batches per second: a single one occupies all hashing threads

    async def create_at(factor: float) -> Latencies:
        seconds = parameters.run_seconds * DURATION_FACTOR
        return await run_at_rate(lambda _: create_batch(stub, BATCH_SIZE), capacity * factor, seconds)

    overload, moderate = await alternate(parameters.runs, lambda: create_at(OVERLOAD), lambda: create_at(MODERATE))
    rejected = median(latencies.share_rejected for latencies in overload)
    p99s, baseline_p99s = ([latencies.p99_ms() for latencies in side] for side in (overload, moderate))
    title = f"BatchCreateMailboxes of {BATCH_SIZE}: p99 of accepted calls at {OVERLOAD:g}x vs {MODERATE:g}x capacity"
    return [compare(title, "ms", p99s, baseline_p99s, note=f"{rejected:.0%} rejected")]


async def run(harness: Harness) -> list[Measurement]:
    """Reads, then batches."""
    return [*await reads(harness), *await batches(harness)]
