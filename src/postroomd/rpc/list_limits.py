"""Limits of concurrent searches, which may read every row of an organization, and of long pages.

A search for less than three letters has no index, and takes as long as a scan of the organization. A longer one has a
trigram index, but scans too if it matches thousands of rows. Few searches run at once, so that other reads find a free
connection and processor time; organizations take turns.

A slot is held until the response is serialized. It is the serialization of long pages that keeps the event loop busy:
were several in progress at once, each turn of the loop would have a part of every one of them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from google.protobuf.message import Message

from postroomd.domain.context import CallContext
from postroomd.domain.queries import DomainQuery, MailboxQuery, Page
from postroomd.rpc.admission import Slots
from postroomd.rpc.page_tokens import LONG_PAGE_ITEMS, ListResult, list_result, serialize_in_parts

Query = TypeVar("Query", DomainQuery, MailboxQuery)
Item = TypeVar("Item")

TRIGRAM = 3
SHORT_SLOTS = LONG_SLOTS = 1  # SQLite has three connections for lists, PostgreSQL by default five for reads
MAX_WAITING = 16
MAX_REST_SECONDS = 1.0  # after the longest searches: others wait for the slot
PAGE_SLOTS = 1
MAX_WAITING_PAGES = 64


class ListLimits:
    """Slots of short and of long searches, and of long pages. Those of one kind never delay those of another."""

    def __init__(self) -> None:
        self.short = Slots("searches", SHORT_SLOTS, MAX_WAITING)
        self.long = Slots("searches", LONG_SLOTS, MAX_WAITING)
        self.pages = Slots("pages", PAGE_SLOTS, MAX_WAITING_PAGES)

    async def page(
        self,
        context: CallContext,
        query: Query,
        search: str,
        read: Callable[[CallContext, Query], Awaitable[Page[Item]]],
        response: Callable[[ListResult[Item]], Message],
    ) -> bytes:
        """Return the serialized response with one page of a list.

        `search` is the shortest text that the page is searched for, "" without a search. Raises TooManyRequests.
        """
        async with self.slot(context, search, query.page_size):
            result = list_result(await read(context, query), context.scope, query)
            return await serialize_in_parts(response, result)

    @asynccontextmanager
    async def slot(self, context: CallContext, search: str, page_size: int) -> AsyncIterator[None]:
        """Hold a slot during the block, none for a short page without a search. Raises TooManyRequests."""
        organization_id = context.scope.organization_id
        if search:
            async with _resting_slot(self.short if len(search) < TRIGRAM else self.long, organization_id):
                yield
        elif page_size > LONG_PAGE_ITEMS:
            async with self.pages.slot(organization_id):
                yield
        else:
            yield


@asynccontextmanager
async def _resting_slot(slots: Slots, key: str) -> AsyncIterator[None]:
    """Hold a slot during the block, and afterwards as long again, up to MAX_REST_SECONDS. Raises TooManyRequests.

    One search after the other would keep a processor of the database busy, and the statements of others from it.
    """
    await slots.acquire(key)
    started = monotonic()
    try:
        yield
    finally:
        rest = min(monotonic() - started, MAX_REST_SECONDS)
        asyncio.get_running_loop().call_later(rest, slots.release, key)
