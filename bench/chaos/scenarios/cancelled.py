"""Clients cancel calls at a random time: each write is applied entirely or not at all, and no resource leaks."""

import asyncio
from statistics import median
from time import monotonic

import grpc

from bench.chaos.client import Client
from bench.chaos.database import integrity_errors
from bench.chaos.harness import ChaosHarness
from bench.chaos.history import History, WriteStatus, check
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios.postgres_killed import leaked_sessions
from bench.chaos.writes import RANDOM, WriteGenerator
from bench.engine import Engine

CLIENTS = 10
WARM_UP_CALLS = 50
BURST_CALLS = 40  # concurrent calls at the end, more than the pool has connections
BURST_SECONDS = 5.0
CALL_TIMEOUT_SECONDS = 60.0  # long, so that a slow call is not mistaken for a stuck one


async def run(harness: ChaosHarness, count: int) -> Outcome:
    """Cancel `count` calls."""
    service = harness.service()
    await service.start()
    clients = [harness.client(service.address) for _ in range(CLIENTS)]
    writes = await harness.create_writes(clients[0])
    history = History()
    outcome = Outcome()
    typical = await _typical_seconds(clients, writes, history)
    open_files = service.open_files()
    while outcome.count < count:
        cancelled = await asyncio.gather(*(_cancel(client, writes, history, typical) for client in clients))
        outcome.count += sum(cancelled)
    if harness.engine is Engine.POSTGRESQL:
        outcome.violations += await leaked_sessions(harness)
    started = monotonic()
    await asyncio.gather(*(_complete(clients[number % CLIENTS], writes, history) for number in range(BURST_CALLS)))
    burst = monotonic() - started
    outcome.require_speed(burst <= BURST_SECONDS, f"{BURST_CALLS} concurrent calls took {burst:.1f} s afterwards")
    leaked_files = service.open_files() - open_files
    outcome.require(leaked_files <= CLIENTS, f"the service has {leaked_files} more open files than before")
    outcome.violations += [*await check(harness, history), *await integrity_errors(harness)]
    acknowledged = history.count_by_status()[WriteStatus.ACKNOWLEDGED]
    outcome.metrics = {"typical_s": typical, "completed_first": acknowledged, "burst_s": burst}
    outcome.summary = (
        f"{outcome.count} cancelled within {1_200 * typical:.0f} ms, {acknowledged} completed first;"
        f" {BURST_CALLS} concurrent calls took {burst:.2f} s afterwards"
    )
    return outcome


async def _typical_seconds(clients: list[Client], writes: WriteGenerator, history: History) -> float:
    """Return the median duration of a batch while every client has one pending."""
    durations: list[float] = []
    while len(durations) < WARM_UP_CALLS:
        durations += await asyncio.gather(*(_complete(client, writes, history) for client in clients))
    return median(durations)


async def _complete(client: Client, writes: WriteGenerator, history: History) -> float:
    """Create a batch. Returns its duration in seconds."""
    started = monotonic()
    write = writes.batch()
    entry = history.add(write)
    entry.acknowledge(await client.send(write, timeout=CALL_TIMEOUT_SECONDS))
    return monotonic() - started


async def _cancel(client: Client, writes: WriteGenerator, history: History, typical: float) -> bool:
    """Cancel a batch at a random time of up to 1.2 times its typical duration. False if it had completed."""
    write = writes.batch()
    entry = history.add(write)
    call = client.send(write)
    await asyncio.sleep(RANDOM.uniform(0.0, 1.2 * typical))
    call.cancel()
    try:
        entry.acknowledge(await call)
    except asyncio.CancelledError:
        return True
    except grpc.aio.AioRpcError as error:
        entry.fail(error.code())
        return error.code() is grpc.StatusCode.CANCELLED
    return False
