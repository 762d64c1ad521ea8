"""The search of a rare substring, answer and all, beside the bare statement with LIKE and no index for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.figures import Figure, at_least, compared, in_turns
from bench.latency import median_of
from bench.seed import RARE, seeded_id
from bench.stand import METADATA, Stand
from postroom.v1alpha1 import mailbox_pb2
from postroomd.storage import schema as t
from postroomd.storage.drivers import open_engines

SEARCHES = 200
SCANS = 3


async def run(stand: Stand) -> list[Figure]:
    """One service on 1,000,000 mailboxes, and a connection of our own."""
    count = stand.plan.large
    url = await stand.seeded(count)
    search = stand.stub(await stand.service(url)).ListMailboxes
    request = mailbox_pb2.ListMailboxesRequest(search=RARE)
    answer = await search(request, metadata=METADATA)
    if answer.total_count != 1:
        raise ValueError(f"{answer.total_count} mailboxes are found, not 1")
    async with _scanning(url) as connection:
        counting = (
            select(func.count())
            .select_from(t.mailboxes)
            .where(
                t.mailboxes.c.organization_id == seeded_id("organization"),
                t.mailboxes.c.email.contains(RARE),
            )
        )
        ours, theirs = await in_turns(
            stand.plan.runs,
            lambda: median_of(lambda _: search(request, metadata=METADATA), SEARCHES),
            lambda: median_of(lambda _: connection.execute(counting), SCANS),
        )
    what = f"search of a rare substring, {count:,} mailboxes, beside LIKE without an index"
    return [compared(what, "ms", ours, theirs, at_least(50), faster=True)]


@asynccontextmanager
async def _scanning(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection on which LIKE is given no index for it."""
    engine = open_engines(url, owner=False, pool_size=1).reader
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SET enable_bitmapscan = off"))  # the only way into a GIN index
        yield connection
    await engine.dispose()
