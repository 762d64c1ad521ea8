"""How much dearer a page far down is than the first: by its number, and by the token of the page before it."""

from typing import Any

from bench.figures import Figure, at_most, compared, in_turns
from bench.latency import median_of
from bench.stand import METADATA, Stand
from postroom.v1alpha1 import mailbox_pb2

PAGE = 100
STRIDE = 1_000  # a page, on the way to the token
CALLS = 100
DEEP_CALLS = 10


async def run(stand: Stand) -> list[Figure]:
    """One service on 1,000,000 mailboxes; the page in the middle."""
    count = stand.plan.large
    deep = count // PAGE // 2
    stub = stand.stub(await stand.service(await stand.seeded(count)))
    by_number = _call(stub, page=deep)
    first, far = await in_turns(
        stand.plan.runs,
        lambda: median_of(_call(stub), CALLS),
        lambda: median_of(by_number, DEEP_CALLS),
    )
    what = f"page {deep:,} of {PAGE}, {count:,} mailboxes, beside the first"
    return [
        compared(f"{what}: by number, p50", "ms", far, first, at_most(60)),
        await _by_token(stand, stub, deep, what),
    ]


async def _by_token(stand: Stand, stub: Any, deep: int, what: str) -> Figure:
    what = f"{what}: by page_token, p50"
    if "page_token" not in mailbox_pb2.ListMailboxesRequest.DESCRIPTOR.fields_by_name:
        return Figure(what=what, target=at_most(1.5), note="not there yet: lists have no page tokens")
    token = ""
    for _ in range((deep - 1) * PAGE // STRIDE):
        request = _request(page_size=STRIDE, page_token=token)
        token = (await stub.ListMailboxes(request, metadata=METADATA)).next_page_token
    first, far = await in_turns(
        stand.plan.runs,
        lambda: median_of(_call(stub), CALLS),
        lambda: median_of(_call(stub, page_token=token), CALLS),
    )
    return compared(what, "ms", far, first, at_most(1.5))


def _call(stub: Any, **fields: object) -> Any:
    request = _request(page_size=PAGE, **fields)
    return lambda _: stub.ListMailboxes(request, metadata=METADATA)


def _request(**fields: Any) -> mailbox_pb2.ListMailboxesRequest:
    return mailbox_pb2.ListMailboxesRequest(**fields)
