"""GET of one mailbox through the gateway, as a share of a gateway and a service that do nothing but the transport."""

from bench.figures import Figure, at_least, compared, in_turns
from bench.h2load import Shape, press
from bench.rest import mailboxes
from bench.stand import Stand

CONNECTIONS = 32


async def run(stand: Stand) -> list[Figure]:
    """One service and one gateway on 100,000 mailboxes."""
    count = stand.plan.middle
    gateway = await stand.gateway(await stand.service(await stand.seeded(count)))
    floor = await stand.floor_gateway(await stand.floor_service())
    product, bare = [await mailboxes(process, count) for process in (gateway, floor)]
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS)
    loads, floors = await in_turns(stand.plan.runs, lambda: press(product, shape), lambda: press(bare, shape))
    what = f"GET a mailbox through the gateway, {count:,} mailboxes"
    return [compared(what, "req/s", [load.rate for load in loads], [load.rate for load in floors], at_least(0.70))]
