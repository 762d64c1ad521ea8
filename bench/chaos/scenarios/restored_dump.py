"""A dump restored into a fresh cluster, which has no role for tenants.

The service must refuse calls and explain itself until `postroom migrate` has run, then serve every acknowledged write
without a restart.
"""

import asyncio
from dataclasses import replace
from time import monotonic

import aiohttp
import grpc

from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness, new_server
from bench.chaos.history import check
from bench.chaos.load import Load
from bench.chaos.outcome import Outcome
from postroomd.storage.migrations import migrate

CLIENTS = 2
RECOVERY_SECONDS = 10.0
EXPLANATION_SECONDS = 30.0
EXPLANATION = "the role postroom_tenant does not exist"


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Restore `count` dumps, each into a cluster of its own."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    load = Load(clients, await harness.create_writes(clients[0]))
    outcome = Outcome()
    recoveries = []
    for _ in range(count):
        async with load.running():
            await load.run_steadily(0.3)
        dump = await asyncio.to_thread(harness.postgres.dump, "postroom")
        async with new_server() as server:
            await asyncio.to_thread(server.restore, dump, "postroom")
            restored = replace(harness, url=server.url("postroom"), server=server)
            recoveries.append(await _serve_restored(restored, outcome))
            outcome.violations += [*await check(restored, load.history), *await integrity_errors(restored)]
        outcome.count += 1
        if outcome.violations:
            break
    outcome.require_speed(max(recoveries) <= RECOVERY_SECONDS, f"served {max(recoveries):.2f} s after the migration")
    outcome.metrics = {"slowest_recovery_s": max(recoveries), "acknowledged": load.acknowledged}
    outcome.summary = f"{load.acknowledged} acknowledged; served within {max(recoveries):.2f} s of the migration"
    return outcome


async def _serve_restored(harness: ChaosHarness, outcome: Outcome) -> float:
    """Start a service and a gateway on the restored database, and migrate it. Returns the seconds until it serves."""
    service = harness.service()
    await service.start()
    gateway = harness.gateway(service)
    await gateway.start()
    client = harness.client(service.address)
    deadline = monotonic() + EXPLANATION_SECONDS
    status, body = await _readiness(gateway.address)
    while EXPLANATION not in body and monotonic() < deadline:  # the gateway may not be connected to the service yet
        await asyncio.sleep(0.1)
        status, body = await _readiness(gateway.address)
    outcome.require(status == 503 and EXPLANATION in body, f"/readyz answered {status} {body} before the migration")
    try:
        await client.wait_until_ready()
    except grpc.aio.AioRpcError as error:
        outcome.require(error.code() is grpc.StatusCode.UNAVAILABLE, f"a list failed with {error.code().name}")
    else:
        outcome.require(False, "a list succeeded before the migration")
    await asyncio.to_thread(migrate, harness.url)
    migrated = monotonic()
    async with asyncio.timeout(3 * RECOVERY_SECONDS):
        while (await _readiness(gateway.address))[0] != 200:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    recovery = monotonic() - migrated
    await client.wait_until_ready()
    await gateway.terminate()
    outcome.require(await service.terminate() == 0, "the service ended with an error")
    return recovery


async def _readiness(address: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/readyz") as response:
        return response.status, await response.text()
