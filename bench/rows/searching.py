"""Search for a rare substring, the whole call, vs the bare LIKE statement without its index."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.harness import METADATA, Harness
from bench.latency import median_ms
from bench.measurements import Measurement, alternate, at_least, compare
from bench.seed import RARE, seeded_id
from postroom.v1alpha1 import mailbox_pb2
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines

SEARCHES = 200
SCANS = 3


async def run(harness: Harness) -> list[Measurement]:
    """One service on 1,000,000 mailboxes, and a database connection of the benchmark."""
    size = harness.parameters.large
    url = await harness.seeded(size)
    search = harness.stub(await harness.service(url)).ListMailboxes
    request = mailbox_pb2.ListMailboxesRequest(search=RARE)
    response = await search(request, metadata=METADATA)
    if response.total_count != 1:
        raise ValueError(f"the search finds {response.total_count} mailboxes, not 1")
    async with _connect_without_index(url) as connection:
        scan = (
            select(func.count())
            .select_from(t.mailboxes)
            .where(
                t.mailboxes.c.organization_id == seeded_id("organization"),
                t.mailboxes.c.email.contains(RARE),
            )
        )
        searches, scans = await alternate(
            harness.parameters.runs,
            lambda: median_ms(lambda _: search(request, metadata=METADATA), SEARCHES),
            lambda: median_ms(lambda _: connection.execute(scan), SCANS),
        )
    title = f"rare substring search vs LIKE without an index, {size:,} mailboxes"
    return [compare(title, "ms", searches, scans, at_least(50), speedup=True)]


@asynccontextmanager
async def _connect_without_index(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection on which LIKE scans the table."""
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SET enable_bitmapscan = off"))  # a GIN index only supports bitmap scans
        yield connection
    await engine.dispose()
