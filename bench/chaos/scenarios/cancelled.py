"""Clients hang up at a random instant: what they asked for is done whole or not at all, and nothing stays held."""

import asyncio
from statistics import median
from time import monotonic

import grpc

from bench.chaos.arena import Arena
from bench.chaos.audit import unsoundness
from bench.chaos.client import Client
from bench.chaos.ledger import Ledger, held_against
from bench.chaos.ledger import Outcome as Known
from bench.chaos.outcome import Outcome
from bench.chaos.scenarios.postgres_killed import leaks
from bench.chaos.writes import CHANCE, Writes
from bench.engine import Engine

CLIENTS = 10
WARM_UP = 50
BURST = 40  # calls at once, beyond the pool, after everything
BURST_SECONDS = 5.0
CALL_SECONDS = 60.0  # late is told apart from never


async def run(arena: Arena, count: int) -> Outcome:
    """Cancel `count` calls."""
    service = arena.service()
    await service.start()
    clients = [arena.client(service.address) for _ in range(CLIENTS)]
    writes = await arena.writes(clients[0])
    ledger = Ledger()
    outcome = Outcome()
    usual = await _usual_seconds(clients, writes, ledger)
    open_files = service.open_files()
    while outcome.count < count:
        canceled = await asyncio.gather(*(_hang_up(client, writes, ledger, usual) for client in clients))
        outcome.count += sum(canceled)
    if arena.engine is Engine.POSTGRESQL:
        outcome.broken += await leaks(arena)
    started = monotonic()
    await asyncio.gather(*(_answered(clients[number % CLIENTS], writes, ledger) for number in range(BURST)))
    took = monotonic() - started
    outcome.require_speed(took <= BURST_SECONDS, f"{BURST} calls took {took:.1f} s afterwards")
    more = service.open_files() - open_files
    outcome.require(more <= CLIENTS, f"the service has {more} more files open than before")
    outcome.broken += [*await held_against(arena, ledger), *await unsoundness(arena)]
    known = ledger.counted()
    outcome.measured = {"usual_s": usual, "answered_first": known[Known.ACKNOWLEDGED], "burst_s": took}
    outcome.seen = (
        f"{outcome.count} canceled within {1_200 * usual:.0f} ms, {known[Known.ACKNOWLEDGED]} were answered first;"
        f" {BURST} calls at once took {took:.2f} s afterwards"
    )
    return outcome


async def _usual_seconds(clients: list[Client], writes: Writes, ledger: Ledger) -> float:
    """How long a batch takes while every client has one under way."""
    times: list[float] = []
    while len(times) < WARM_UP:
        times += await asyncio.gather(*(_answered(client, writes, ledger) for client in clients))
    return median(times)


async def _answered(client: Client, writes: Writes, ledger: Ledger) -> float:
    started = monotonic()
    write = writes.batch()
    entry = ledger.sent(write)
    entry.acknowledge(await client.send(write, timeout=CALL_SECONDS))
    return monotonic() - started


async def _hang_up(client: Client, writes: Writes, ledger: Ledger, usual: float) -> bool:
    """Cancel a batch at some instant of about the time that it takes. False where it was answered before."""
    write = writes.batch()
    entry = ledger.sent(write)
    call = client.send(write)
    await asyncio.sleep(CHANCE.uniform(0.0, 1.2 * usual))
    call.cancel()
    try:
        entry.acknowledge(await call)
    except asyncio.CancelledError:
        return True
    except grpc.aio.AioRpcError as error:
        entry.fail(error.code())
        return error.code() is grpc.StatusCode.CANCELLED
    return False
