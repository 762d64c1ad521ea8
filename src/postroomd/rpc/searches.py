"""Limits of concurrent searches, which may read every row of an organization.

A search for less than three letters has no index, and takes as long as a scan of the organization. A longer one has a
trigram index, but scans too if it matches thousands of rows. Few searches run at once, so that other reads find a free
connection and processor time; organizations take turns.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from postroomd.domain.context import CallContext
from postroomd.rpc.admission import Slots

TRIGRAM = 3
SHORT_SLOTS = LONG_SLOTS = 1  # SQLite has three connections for lists, PostgreSQL by default five for reads
MAX_WAITING = 16


class SearchLimits:
    """Slots of short and of long searches. A short one never delays a long one."""

    def __init__(self) -> None:
        self.short = Slots("searches", SHORT_SLOTS, MAX_WAITING)
        self.long = Slots("searches", LONG_SLOTS, MAX_WAITING)

    @asynccontextmanager
    async def slot(self, context: CallContext, search: str) -> AsyncIterator[None]:
        """Hold a slot during the block, none for an empty search. Raises TooManyRequests."""
        if not search:
            yield
            return
        slots = self.short if len(search) < TRIGRAM else self.long
        async with slots.slot(context.scope.organization_id):
            yield
