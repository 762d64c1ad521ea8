"""Searches and long pages have few slots, in which organizations take turns."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from postroom.v1alpha1.domain_pb2 import ListDomainsResponse
from postroomd.domain.context import CallContext
from postroomd.domain.errors import TooManyRequests
from postroomd.domain.queries import DomainQuery, Ordering, Page
from postroomd.rpc.list_limits import (
    LONG_SLOTS,
    MAX_WAITING,
    MAX_WAITING_PAGES,
    PAGE_SLOTS,
    SHORT_SLOTS,
    ListLimits,
)
from postroomd.rpc.page_tokens import PART_ITEMS, ListResult
from tests.support.factories import tenant_context
from tests.support.waiting import wait_until


def free(limits: ListLimits) -> tuple[int, int, int]:
    return limits.short.free, limits.long.free, limits.pages.free


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
    await wait_until(lambda: free(limits) == (SHORT_SLOTS, LONG_SLOTS, PAGE_SLOTS))


async def test_long_searches_and_other_reads_do_not_wait_for_short_searches() -> None:
    limits = ListLimits()
    async with AsyncExitStack() as held, asyncio.timeout(10):
        for _ in range(SHORT_SLOTS):
            await held.enter_async_context(limits.slot(FLOOD, "ab", 10))
        async with limits.slot(OTHER, "abc", 10), limits.slot(OTHER, "", 100):
            assert limits.long.free == LONG_SLOTS - 1


@pytest.mark.parametrize("search", ["ab", "abc"])
async def test_the_slot_of_a_search_rests_for_as_long_as_the_search_took(search: str) -> None:
    limits = ListLimits()
    async with limits.slot(FLOOD, search, 10):
        await asyncio.sleep(0.05)
    assert sum(free(limits)) == SHORT_SLOTS + LONG_SLOTS + PAGE_SLOTS - 1
    async with asyncio.timeout(10), limits.slot(OTHER, search, 10):
        pass
    await wait_until(lambda: free(limits) == (SHORT_SLOTS, LONG_SLOTS, PAGE_SLOTS))


async def test_a_slot_is_held_until_the_response_is_serialized() -> None:
    limits = ListLimits()
    held: list[int] = []

    async def read(_context: CallContext, query: DomainQuery) -> Page[str]:
        held.append(limits.pages.free)
        return Page([str(number) for number in range(query.page_size)], 1_000)

    def response(result: ListResult[str]) -> ListDomainsResponse:
        held.append(limits.pages.free)
        return ListDomainsResponse(total_count=result.page.total_count)

    query = DomainQuery(ordering=Ordering(field="name", descending=False), page=1, page_size=1_000)
    serialized = await limits.page(FLOOD, query, "", read, response)
    assert ListDomainsResponse.FromString(serialized).total_count == 1_000
    assert set(held) == {PAGE_SLOTS - 1}
    assert len(held) == 1 + 1_000 // PART_ITEMS
    assert limits.pages.free == PAGE_SLOTS
