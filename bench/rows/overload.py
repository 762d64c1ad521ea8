"""Twice as much as the service can do: how soon what it accepts is answered, and how much it refuses."""

from statistics import median

from bench.batches import create
from bench.figures import Figure, compared, in_turns
from bench.h2load import Gets, Load, Shape, press
from bench.latency import median_of
from bench.open_loop import Seen, at_rate
from bench.rest import mailboxes
from bench.rows.gateway import CONNECTIONS
from bench.stand import Stand

OVERLOAD = 2.0  # times the capacity
EASE = 0.5  # times the capacity: what the overload is held against
MANY_CONNECTIONS = 400
BATCH = 10
SERIES = 3  # in the time of one run: a p99 wants its batches
SERVED, REFUSED = 200, 429


async def reads(stand: Stand) -> list[Figure]:
    """GET of one mailbox through service and gateway, from more connections than they can serve at a time."""
    count = stand.plan.middle
    gateway = await stand.gateway(await stand.service(await stand.seeded(count)))
    gets = await mailboxes(gateway, count)
    capacity = (await press(gets, Shape(stand.plan.seconds, connections=CONNECTIONS))).rate
    over, ease = await in_turns(
        stand.plan.runs,
        lambda: _press(stand, gets, capacity * OVERLOAD),
        lambda: _press(stand, gets, capacity * EASE),
    )
    refused = median(load.statuses[REFUSED] / load.statuses.total() for load in over)
    served = median(load.statuses[SERVED] / stand.plan.seconds for load in over)
    note = f"{refused:.0%} refused; {served / capacity:.0%} of the capacity served; other statuses: {_others(over)}"
    p99s, ease_p99s = ([load.percentile(0.99) * 1e3 for load in side] for side in (over, ease))
    what = f"GET a mailbox at {OVERLOAD:g} times the capacity, beside {EASE:g} times: p99 of what is served"
    return [compared(what, "ms", p99s, ease_p99s, note=note)]


async def _press(stand: Stand, gets: Gets, per_second: float) -> Load:
    each = max(1, round(per_second / MANY_CONNECTIONS))
    shape = Shape(stand.plan.seconds, connections=round(per_second / each), per_second=each)
    return await press(gets, shape, refusals=True)


def _others(loads: list[Load]) -> str:
    seen = sum((load.statuses for load in loads), start=loads[0].statuses - loads[0].statuses)
    return ", ".join(f"{status}: {n}" for status, n in seen.items() if status not in {SERVED, REFUSED}) or "none"


async def hashes(stand: Stand) -> list[Figure]:
    """Batches of 10 at a fixed rate, of which the hashing threads can do half."""
    stub = stand.stub(await stand.service(await stand.copy(stand.plan.small)))
    await create(stub, BATCH)
    taken = await median_of(lambda _: create(stub, BATCH), 10)
    capacity = 1e3 / taken  # batches a second: one alone keeps all threads busy

    async def batches(times: float) -> Seen:
        return await at_rate(lambda _: create(stub, BATCH), capacity * times, stand.plan.seconds * SERIES)

    over, ease = await in_turns(stand.plan.runs, lambda: batches(OVERLOAD), lambda: batches(EASE))
    refused = median(seen.share_refused for seen in over)
    p99s, ease_p99s = ([seen.p99_ms() for seen in side] for side in (over, ease))
    what = f"batches of {BATCH} at {OVERLOAD:g} times the capacity, beside {EASE:g} times: p99 of what is served"
    return [compared(what, "ms", p99s, ease_p99s, note=f"{refused:.0%} refused")]


async def run(stand: Stand) -> list[Figure]:
    """Reads, then hashes."""
    return [*await reads(stand), *await hashes(stand)]
