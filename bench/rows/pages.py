"""Latency of a deep page vs the first page, by page number and by page token."""

from bench.harness import METADATA, Harness
from bench.latency import Call, median_ms
from bench.measurements import Measurement, alternate, at_most, compare
from postroom.v1alpha1 import mailbox_pb2

PAGE_SIZE = 100
STEP_SIZE = 1_000  # page size on the way to the deep page's token
CALLS = 100
CALLS_BY_NUMBER = 10


async def run(harness: Harness) -> list[Measurement]:
    """One service on 1,000,000 mailboxes; the page in the middle."""
    size = harness.parameters.large
    deep = size // PAGE_SIZE // 2
    stub = harness.stub(await harness.service(await harness.seeded(size)))

    def call(**fields: object) -> Call:
        request = _request(page_size=PAGE_SIZE, **fields)
        return lambda _: stub.ListMailboxes(request, metadata=METADATA)

    async def compare_with_first(deep_call: Call, calls: int, title: str, limit: float) -> Measurement:
        first_page, deep_page = await alternate(
            harness.parameters.runs, lambda: median_ms(call(), CALLS), lambda: median_ms(deep_call, calls)
        )
        return compare(title, "ms", deep_page, first_page, at_most(limit))

    token = ""
    for _ in range((deep - 1) * PAGE_SIZE // STEP_SIZE):
        request = _request(page_size=STEP_SIZE, page_token=token)
        token = (await stub.ListMailboxes(request, metadata=METADATA)).next_page_token
    title = f"page {deep:,} of {PAGE_SIZE} vs the first, {size:,} mailboxes"
    return [
        await compare_with_first(call(page=deep), CALLS_BY_NUMBER, f"{title}: p50 by page number", 60),
        await compare_with_first(call(page_token=token), CALLS, f"{title}: p50 by page token", 1.5),
    ]


def _request(**fields: object) -> mailbox_pb2.ListMailboxesRequest:
    return mailbox_pb2.ListMailboxesRequest(**fields)  # type: ignore[arg-type] # fields vary
