"""GET of one mailbox through the gateway, as a share of a gateway and a service that do nothing but the transport."""

from bench.figures import Figure, at_least, compared, in_turns
from bench.h2load import Shape, press
from bench.process import Process
from bench.rest import mailboxes
from bench.stand import Stand

CONNECTIONS = 32


async def run(stand: Stand) -> list[Figure]:
    """One service and one gateway on 100,000 mailboxes."""
    count, url = stand.plan.middle, await stand.seeded(stand.plan.middle)

    async def product() -> float:
        service = await stand.service(url)
        return await pressed(service, await stand.gateway(service))

    async def floor() -> float:
        service = await stand.floor_service()
        return await pressed(service, await stand.floor_gateway(service))

    async def pressed(service: Process, gateway: Process) -> float:
        load = await press(await mailboxes(gateway, count), Shape(stand.plan.seconds, connections=CONNECTIONS))
        await gateway.kill()
        await service.kill()
        return load.rate

    rates, floors = await in_turns(stand.plan.starts, product, floor)
    what = f"GET a mailbox through the gateway, {count:,} mailboxes"
    return [compared(what, "req/s", rates, floors, at_least(0.70))]
