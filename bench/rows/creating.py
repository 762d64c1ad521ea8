"""What a batch of 100 costs beside the hashes in it, and what reads at a fixed rate notice of batches without pause."""

from time import perf_counter
from typing import Any

import argon2

from bench.batches import BATCH, PASSWORD, create, without_pause
from bench.figures import Figure, at_most, compared, in_turns
from bench.latency import median_of
from bench.open_loop import Seen, at_rate
from bench.rest import spread_ids
from bench.stand import METADATA, Stand
from postroom.v1alpha1 import mailbox_pb2
from postroomd.rpc.cpu_pool import default_threads
from postroomd.settings import Settings

BATCHES = 3  # a run
HASHES = 20  # a run
READS_PER_SECOND = 200
SERIES = 2  # a run, in the time of one under load: a p99 wants its calls


async def batch(stand: Stand) -> list[Figure]:
    """One service with as many hashing threads as it has by itself, which has nothing else to do."""
    stub = stand.stub(await stand.service(await stand.copy(stand.plan.small)))
    await create(stub)
    threads = default_threads()
    taken, hashed = await in_turns(
        stand.plan.runs, lambda: median_of(lambda _: create(stub), BATCHES), _milliseconds_a_hash
    )
    floors = [each * BATCH / threads for each in hashed]
    what = f"batch of {BATCH}, beside {BATCH} hashes on {threads} threads"
    return [compared(what, "ms", taken, floors, at_most(1.2))]


async def _milliseconds_a_hash() -> float:
    settings = Settings()
    hasher = argon2.PasswordHasher(
        time_cost=settings.argon2_time_cost,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )
    started = perf_counter()
    for _ in range(HASHES):
        hasher.hash(PASSWORD)
    return (perf_counter() - started) / HASHES * 1e3


async def reads_meanwhile(stand: Stand) -> list[Figure]:
    """One service on 100,000 mailboxes; GetMailbox at 200 a second with batches of 100 created, and without."""
    service = await stand.service(await stand.copy(stand.plan.middle))
    creating = stand.stub(service)
    await create(creating)

    reading = stand.stub(service)

    async def quiet() -> Seen:
        return await reads_at_rate(reading, stand.plan.middle, stand.plan.seconds * SERIES)

    async def busy() -> Seen:
        async with without_pause(creating):
            return await quiet()

    await quiet()
    with_batches, without = await in_turns(stand.plan.runs, busy, quiet)
    p99s, quiet_p99s = ([seen.p99_ms() for seen in side] for side in (with_batches, without))
    what = f"GetMailbox at {READS_PER_SECOND} a second with batches of {BATCH}, beside without: p99"
    return [compared(what, "ms", p99s, quiet_p99s, at_most(4))]


async def reads_at_rate(stub: Any, count: int, seconds: float) -> Seen:
    """GetMailbox all over a table of `count` mailboxes, 200 times a second."""
    requests = [mailbox_pb2.GetMailboxRequest(mailbox_id=one) for one in spread_ids(count)]
    return await at_rate(
        lambda number: stub.GetMailbox(requests[number % len(requests)], metadata=METADATA), READS_PER_SECOND, seconds
    )
