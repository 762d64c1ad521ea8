"""SIGTERM and restart, repeatedly under load: every accepted call completes.

On PostgreSQL, two services run and are restarted in turn. Clients balance calls over both with gRPC's own load
balancing, which avoids a service that is NOT_SERVING, and do not retry: no call may fail. An SQLite file has one
service. There, requests that are pending in the gateway at the time of the SIGTERM must succeed, and later ones must
succeed or get 503.
"""

import asyncio
from collections import Counter

from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import check
from bench.chaos.load import MIN_WRITES_PER_SECOND, Load
from bench.chaos.outcome import Outcome
from bench.chaos.rest import RestClient
from bench.chaos.writes import RANDOM, WriteGenerator
from bench.engine import Engine

CLIENTS = 4
PENDING_REQUESTS = 6  # or twice as many, and so on, on a machine that has completed these at once
WRITERS = 32  # and as many pending calls at the time of the SIGTERM
WRITES_PER_SECOND = 400.0
CALL_TIMEOUT_SECONDS = 30.0  # long, so that no call fails by timeout
ARRIVAL_SECONDS = 0.1  # time for a request to reach the gateway
ROUND_ROBIN = (
    "grpc.service_config",
    '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}',
)

# So expensive that requests are still pending at the time of the SIGTERM.
EXPENSIVE_HASHES = {"POSTROOM_ARGON2_MEMORY_KIB": "19456", "POSTROOM_ARGON2_TIME_COST": "4"}
LONG_DRAIN = {"POSTROOM_DRAIN_SECONDS": "25"}  # so that a busy machine completes them


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Restart services `count` times."""
    restart = _restart_in_turn if harness.engine is Engine.POSTGRESQL else _restart_behind_gateway
    outcome = await restart(harness, count)
    outcome.violations += await integrity_errors(harness)
    return outcome


async def _restart_in_turn(harness: ChaosHarness, count: int) -> Outcome:
    services = [harness.service(), harness.service()]
    for service in services:
        await service.start()
    target = "ipv4:" + ",".join(service.address for service in services)
    clients = [harness.client(target, ROUND_ROBIN) for _ in range(CLIENTS)]
    load = Load(
        clients,
        await harness.create_writes(clients[0]),
        writers=WRITERS,
        writes_per_second=WRITES_PER_SECOND,
        call_timeout_seconds=CALL_TIMEOUT_SECONDS,
    )
    outcome = Outcome()
    async with load.running():
        for number in range(count):
            await load.run_steadily(RANDOM.uniform(0.2, 0.6))
            service = services[number % 2]
            code = await service.terminate()
            outcome.require(code == 0, f"a service ended with exit code {code}")
            await service.start()
            await asyncio.sleep(0.5)  # time for the clients to reconnect
            outcome.count += 1
    failed = sum(load.codes.values()) - load.codes["OK"]
    outcome.require(failed == 0, f"{failed} calls failed: {dict(load.codes)}")
    outcome.require_speed(load.rate() >= MIN_WRITES_PER_SECOND, f"only {load.rate():.0f} writes/s")
    outcome.violations += await check(harness, load.history)
    outcome.metrics = {"succeeded": load.acknowledged, "failed": failed}
    outcome.summary = f"{load.acknowledged} calls succeeded, {failed} failed, at {load.rate():.0f}/s over two services"
    return outcome


async def _restart_behind_gateway(harness: ChaosHarness, count: int) -> Outcome:
    service = harness.service(**EXPENSIVE_HASHES, **LONG_DRAIN)
    await service.start()
    gateway = harness.gateway(service)
    await gateway.start()
    writes = await harness.create_writes(harness.client(service.address))
    outcome = Outcome()
    pending_statuses: Counter[int] = Counter()
    later_statuses: Counter[int] = Counter()
    number = PENDING_REQUESTS
    async with RestClient(gateway.address, harness.token) as rest:
        for _ in range(count):
            while not (pending := await _begin_requests(rest, writes, number)):
                number *= 2
            stopping = asyncio.create_task(service.terminate())
            await asyncio.sleep(RANDOM.uniform(0.0, 0.1))
            later = [asyncio.create_task(rest.send(writes.batch())) for _ in range(2)]
            pending_statuses.update(await asyncio.gather(*pending))
            later_statuses.update(await asyncio.gather(*later))
            outcome.require(await stopping == 0, "the service ended with an error")
            await service.start()
            await rest.wait_until_ready()
            outcome.count += 1
    outcome.require(set(pending_statuses) == {200}, f"pending requests returned {dict(pending_statuses)}")
    outcome.require(set(later_statuses) <= {200, 503}, f"later requests returned {dict(later_statuses)}")
    outcome.violations += await check(harness, rest.history)
    outcome.metrics = {"pending": pending_statuses.total(), "pending_succeeded": pending_statuses[200]}
    outcome.summary = (
        f"{pending_statuses[200]} of {pending_statuses.total()} pending requests succeeded;"
        f" {later_statuses[503]} of {later_statuses.total()} later ones got 503"
    )
    return outcome


async def _begin_requests(rest: RestClient, writes: WriteGenerator, number: int) -> list[asyncio.Task[int]]:
    """Send this many requests. Returns those that the service has, and has not completed."""
    requests = [asyncio.create_task(rest.send(writes.batch())) for _ in range(number)]
    await asyncio.sleep(ARRIVAL_SECONDS)
    await rest.list_domains()  # over the same connection: once it completes, the service has the batches too
    return [request for request in requests if not request.done()]
