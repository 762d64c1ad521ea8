"""Limits of concurrent searches, which may read every row of an organization, and of long pages.

A search for less than three letters has no index, and takes as long as a scan of the organization. A longer one has a
trigram index, but scans too if it matches thousands of rows. Few searches run at once, so that other reads find a free
connection and processor time; organizations take turns.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from postroomd.domain.context import CallContext
from postroomd.rpc.admission import Slots
from postroomd.rpc.page_tokens import LONG_PAGE_ITEMS

TRIGRAM = 3
SHORT_SLOTS = LONG_SLOTS = 1  # SQLite has three connections for lists, PostgreSQL by default five for reads
MAX_WAITING = 16
PAGE_SLOTS = 1
MAX_WAITING_PAGES = 64


class ListLimits:
    """Slots of short and of long searches, and of long pages. Those of one kind never delay those of another."""

    def __init__(self) -> None:
        self.short = Slots("searches", SHORT_SLOTS, MAX_WAITING)
        self.long = Slots("searches", LONG_SLOTS, MAX_WAITING)
        self.pages = Slots("pages", PAGE_SLOTS, MAX_WAITING_PAGES)

    @asynccontextmanager
    async def slot(self, context: CallContext, search: str, page_size: int) -> AsyncIterator[None]:
        """Hold a slot during the block, none for a short page without a search. Raises TooManyRequests."""
        if search:
            slots = self.short if len(search) < TRIGRAM else self.long
        elif page_size > LONG_PAGE_ITEMS:
            slots = self.pages
        else:
            yield
            return
        async with slots.slot(context.scope.organization_id):
            yield
