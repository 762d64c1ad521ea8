"""Creation of mailboxes in batches of 100: its cost vs its password hashes, and its effect on concurrent reads."""

from time import perf_counter
from typing import Any

import argon2

from bench.batches import BATCH_SIZE, PASSWORD, continuous_batches, create_batch
from bench.harness import METADATA, Harness
from bench.latency import median_ms
from bench.measurements import Measurement, alternate, at_most, compare
from bench.open_loop import Latencies, run_at_rate
from bench.rest import sample_ids
from postroom.v1alpha1 import mailbox_pb2
from postroomd.rpc.cpu_pool import default_threads
from postroomd.settings import Settings

BATCHES = 3  # per run
HASHES = 20  # per run
READS_PER_SECOND = 200
DURATION_FACTOR = 2  # of a run's duration: a p99 needs enough samples


async def batch(harness: Harness) -> list[Measurement]:
    """One idle service with the default number of hashing threads."""
    stub = harness.stub(await harness.service(await harness.copy(harness.parameters.small)))
    await create_batch(stub)
    threads = default_threads()
    durations, hash_durations = await alternate(
        harness.parameters.runs, lambda: median_ms(lambda _: create_batch(stub), BATCHES), _hash_ms
    )
    baselines = [duration * BATCH_SIZE / threads for duration in hash_durations]
    title = f"BatchCreateMailboxes of {BATCH_SIZE} vs {BATCH_SIZE} password hashes, hashing threads: {threads}"
    return [compare(title, "ms", durations, baselines, at_most(1.2))]


async def _hash_ms() -> float:
    """Return the mean duration of one password hash in milliseconds."""
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


async def reads_during_batches(harness: Harness) -> list[Measurement]:
    """One service on 100,000 mailboxes; GetMailbox at 200 calls per second with and without concurrent batches."""
    parameters = harness.parameters
    service = await harness.service(await harness.copy(parameters.medium))
    writer, reader = harness.stub(service), harness.stub(service)
    await create_batch(writer)

    async def without_batches() -> Latencies:
        return await read_at_rate(reader, parameters.medium, parameters.run_seconds * DURATION_FACTOR)

    async def with_batches() -> Latencies:
        async with continuous_batches(writer):
            return await without_batches()

    await without_batches()
    results = await alternate(parameters.runs, with_batches, without_batches)
    p99s, baseline_p99s = ([latencies.p99_ms() for latencies in side] for side in results)
    title = f"GetMailbox p99 at {READS_PER_SECOND} req/s, with vs without concurrent batches of {BATCH_SIZE}"
    return [compare(title, "ms", p99s, baseline_p99s, at_most(4))]


async def read_at_rate(stub: Any, size: int, seconds: float) -> Latencies:
    """Call GetMailbox 200 times per second with ids spread over a table of `size` mailboxes."""
    requests = [mailbox_pb2.GetMailboxRequest(mailbox_id=mailbox_id) for mailbox_id in sample_ids(size)]
    return await run_at_rate(
        lambda number: stub.GetMailbox(requests[number % len(requests)], metadata=METADATA), READS_PER_SECOND, seconds
    )
