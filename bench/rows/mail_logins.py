"""IMAP logins on Dovecot (p95) while the service writes at full speed, with every processor in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.batches import PASSWORD
from bench.dovecot import Dovecot
from bench.harness import METADATA, Harness
from bench.measurements import Measurement, alternate, at_most, compare
from bench.open_loop import run_at_rate
from bench.percentiles import percentile
from bench.seed import DOMAIN, seeded_id
from postroom.v1alpha1 import mailbox_pb2

LOGINS_PER_SECOND = 10
DURATION_FACTOR = 5  # of a run's duration: a p95 needs enough samples
WRITERS = 4
USER = "somebody"


async def run(harness: Harness) -> list[Measurement]:
    """One service and one Dovecot on a database, and a second service on a copy of it.

    Writes to the copy use the same processor time, but do not change the database that Dovecot reads: the difference
    to them is what the database costs, the rest is what processors in use cost.
    """
    size = harness.parameters.small
    url = await harness.copy(size)
    own, copy = [harness.stub(await harness.service(each)) for each in (url, await harness.copy(size))]
    await _create_user(own)
    dovecot = await Dovecot.start(harness, url)
    user = f"{USER}@{DOMAIN}"
    await dovecot.wait_until_ready(user, PASSWORD)
    seconds = harness.parameters.run_seconds * DURATION_FACTOR

    async def p95() -> float:
        latencies = await run_at_rate(lambda _: dovecot.log_in(user, PASSWORD), LOGINS_PER_SECOND, seconds)
        return percentile(latencies.succeeded, 0.95) * 1e3

    async def writing_to(stub: Any) -> float:
        async with _writes(stub, size):
            return await p95()

    writing, burning, idle = await alternate(
        harness.parameters.runs, lambda: writing_to(own), lambda: writing_to(copy), p95
    )
    return [
        compare(
            f"login p95, {WRITERS} callers writing to its database vs to another", "ms", writing, burning, at_most(1.25)
        ),
        compare(f"login p95, {WRITERS} callers writing vs idle", "ms", writing, idle, at_most(2)),
    ]


async def _create_user(stub: Any) -> None:
    parameters = mailbox_pb2.BatchCreateMailboxesRequest.MailboxParameters(local_part=USER, password=PASSWORD)
    request = mailbox_pb2.BatchCreateMailboxesRequest(domain_id=seeded_id("domain"), mailboxes=[parameters])
    await stub.BatchCreateMailboxes(request, metadata=METADATA)


@asynccontextmanager
async def _writes(stub: Any, size: int) -> AsyncIterator[None]:
    """Change mailboxes one after another from several callers during the block."""

    async def write(writer: int) -> None:
        number = 0
        while True:
            number += 1
            request = mailbox_pb2.UpdateMailboxRequest(
                mailbox_id=seeded_id("mailbox", (number * WRITERS + writer) % size), display_name=f"name {number}"
            )
            await stub.UpdateMailbox(request, metadata=METADATA)

    writing = [asyncio.create_task(write(writer)) for writer in range(WRITERS)]
    try:
        yield
        for task in writing:
            if task.done():
                task.result()
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
