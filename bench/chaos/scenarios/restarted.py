"""SIGTERM and a new start, over and over under load: whatever had been accepted is answered.

On PostgreSQL two services stand side by side and are restarted in turn; the client spreads its calls over both by
gRPC's own means, turning away from one that says it is NOT_SERVING, and repeats nothing by itself: not one call may
fail. An SQLite file has one service: there the requests that a gateway has under way when the service is told to stop
must be answered, and later ones be answered or told to come again.
"""

import asyncio
from collections import Counter

from bench.chaos.arena import Arena
from bench.chaos.audit import unsoundness
from bench.chaos.ledger import held_against
from bench.chaos.load import LEAST_WRITES_A_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.rest import RestClient
from bench.chaos.writes import CHANCE
from bench.engine import Engine

CLIENTS = 4
UNDER_WAY = 6
WRITERS = 32  # as many calls as that may be under way when a service is told to stop
WRITES_A_SECOND = 400.0
CALL_SECONDS = 30.0  # a call that fails has not failed for want of time
SENT_SECONDS = 0.03  # by when a request has come to the gateway
ROUND_ROBIN = (
    "grpc.service_config",
    '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}',
)

# Dear enough that a request is still under way when the service is told to stop.
DEAR_HASHES = {"POSTROOM_ARGON2_MEMORY_KIB": "19456", "POSTROOM_ARGON2_TIME_COST": "2"}


async def run(arena: Arena, count: int) -> Outcome:
    """Restart services `count` times."""
    outcome = await (_side_by_side if arena.engine is Engine.POSTGRESQL else _behind_gateway)(arena, count)
    outcome.broken += await unsoundness(arena)
    return outcome


async def _side_by_side(arena: Arena, count: int) -> Outcome:
    services = [arena.service(), arena.service()]
    for service in services:
        await service.start()
    target = "ipv4:" + ",".join(service.address for service in services)
    clients = [arena.client(target, ROUND_ROBIN) for _ in range(CLIENTS)]
    writes = await arena.writes(clients[0])
    load = Load(clients, writes, writers=WRITERS, writes_a_second=WRITES_A_SECOND, call_seconds=CALL_SECONDS)
    outcome = Outcome()
    async with load.running():
        for number in range(count):
            await load.steady(CHANCE.uniform(0.2, 0.6))
            service = services[number % 2]
            code = await service.terminate()
            outcome.require(code == 0, f"a service ended with exit code {code}")
            await service.start()
            await asyncio.sleep(0.5)  # for the clients to find it again
            outcome.count += 1
    failed = sum(load.codes.values()) - load.codes["OK"]
    outcome.require(failed == 0, f"{failed} calls failed: {dict(load.codes)}")
    outcome.require_speed(load.rate() >= LEAST_WRITES_A_SECOND, f"only {load.rate():.0f} writes/s")
    outcome.broken += await held_against(arena, load.ledger)
    outcome.measured = {"answered": load.acknowledged, "failed": failed}
    outcome.seen = f"{load.acknowledged} calls answered, {failed} failed, at {load.rate():.0f}/s over two services"
    return outcome


async def _behind_gateway(arena: Arena, count: int) -> Outcome:
    service = arena.service(**DEAR_HASHES)
    await service.start()
    gateway = arena.gateway(service)
    await gateway.start()
    writes = await arena.writes(arena.client(service.address))
    outcome = Outcome()
    under_way: Counter[int] = Counter()
    later: Counter[int] = Counter()
    async with RestClient(gateway.address, arena.token) as rest:
        for _ in range(count):
            accepted = [asyncio.create_task(rest.send(writes.batch())) for _ in range(UNDER_WAY)]
            await asyncio.sleep(SENT_SECONDS)
            await rest.read_domains()  # goes the same way behind them: answered, the service has them too
            accepted = [request for request in accepted if not request.done()]
            stopping = asyncio.create_task(service.terminate())
            await asyncio.sleep(CHANCE.uniform(0.0, 0.1))
            after = [asyncio.create_task(rest.send(writes.batch())) for _ in range(2)]
            under_way.update(await asyncio.gather(*accepted))
            later.update(await asyncio.gather(*after))
            outcome.require(await stopping == 0, "the service did not end well")
            await service.start()
            await rest.wait_until_ready()
            outcome.count += 1
    outcome.require(set(under_way) == {200}, f"requests under way were answered {dict(under_way)}")
    outcome.require(set(later) <= {200, 503}, f"later requests were answered {dict(later)}")
    outcome.broken += await held_against(arena, rest.ledger)
    outcome.measured = {"under_way": under_way.total(), "under_way_answered": under_way[200]}
    outcome.seen = (
        f"{under_way.total()} requests under way, {under_way[200]} answered; of {later.total()} sent later"
        f" {later[503]} were told 503"
    )
    return outcome
