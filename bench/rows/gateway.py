"""GET of one mailbox through the gateway, as a share of a gateway and a service that do nothing but the transport."""

from collections.abc import Sequence

from bench.figures import Figure, at_least, compared, in_turns
from bench.h2load import Gets, Shape, press
from bench.seed import SECRET, seeded_id
from bench.stand import PREFIX, Stand

CONNECTIONS = 32
IDS = 500  # that are asked for one after the other


async def run(stand: Stand) -> list[Figure]:
    """One service and one gateway on 100,000 mailboxes."""
    count = stand.plan.middle
    gateway = await stand.gateway(await stand.service(await stand.seeded(count)))
    floor = await stand.floor_gateway(await stand.floor_service())
    product, bare = (mailboxes(process.address, count) for process in (gateway, floor))
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS)
    loads, floors = await in_turns(stand.plan.runs, lambda: press(product, shape), lambda: press(bare, shape))
    what = f"GET a mailbox through the gateway, {count:,} mailboxes"
    return [compared(what, "req/s", [load.rate for load in loads], [load.rate for load in floors], at_least(0.70))]


def mailboxes(address: str, count: int, prefix: str = PREFIX) -> Gets:
    """GET of many mailboxes out of `count`, one by one."""
    paths = [f"{prefix}/mailboxes/{mailbox_id}" for mailbox_id in spread_ids(count)]
    return Gets(address, paths, MAILBOX_OCTETS, SECRET)


MAILBOX_OCTETS = 550
"""The least length of a mailbox in JSON."""


def spread_ids(count: int) -> Sequence[str]:
    """The ids of mailboxes from all over the table."""
    return [seeded_id("mailbox", number) for number in range(0, count, max(1, count // IDS))]
