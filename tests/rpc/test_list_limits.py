"""Searches and long pages have few slots, in which organizations take turns."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from postroomd.domain.errors import TooManyRequests
from postroomd.rpc.list_limits import (
    LONG_SLOTS,
    MAX_WAITING,
    MAX_WAITING_PAGES,
    PAGE_SLOTS,
    SHORT_SLOTS,
    ListLimits,
)
from tests.support.factories import tenant_context

FLOOD, OTHER = (tenant_context(organization_id=name) for name in ("flood", "other"))


@pytest.mark.parametrize(
    ("search", "page_size", "slots", "max_waiting"),
    [
        ("ab", 10, SHORT_SLOTS, MAX_WAITING),
        ("abc", 10, LONG_SLOTS, MAX_WAITING),
        ("", 1_000, PAGE_SLOTS, MAX_WAITING_PAGES),
    ],
)
async def test_lists_beyond_the_slots_wait_and_beyond_the_queue_are_rejected(
    search: str, page_size: int, slots: int, max_waiting: int
) -> None:
    limits, ended = ListLimits(), asyncio.Event()
    order: list[str] = []

    async def run(organization: str) -> None:
        async with limits.slot(tenant_context(organization_id=organization), search, page_size):
            order.append(organization)
            await ended.wait()

    flood = [asyncio.create_task(run("flood")) for _ in range(slots + max_waiting + 5)]
    await asyncio.sleep(0)
    other = asyncio.create_task(run("other"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == ["flood"] * slots
    assert sum(isinstance(each.exception(), TooManyRequests) for each in flood if each.done()) == 5 + 1
    ended.set()
    await other
    assert order.index("other") <= slots + 1  # the flood has queued first
    await asyncio.gather(*flood, return_exceptions=True)
    assert (limits.short.free, limits.long.free, limits.pages.free) == (SHORT_SLOTS, LONG_SLOTS, PAGE_SLOTS)


async def test_long_searches_and_other_reads_do_not_wait_for_short_searches() -> None:
    limits = ListLimits()
    async with AsyncExitStack() as held, asyncio.timeout(10):
        for _ in range(SHORT_SLOTS):
            await held.enter_async_context(limits.slot(FLOOD, "ab", 10))
        async with limits.slot(OTHER, "abc", 10), limits.slot(OTHER, "", 100):
            assert limits.long.free == LONG_SLOTS - 1
