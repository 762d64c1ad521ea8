"""Sequential read latency (p50) on 1,000,000 mailboxes vs on 1,000."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.message import Message

from bench.harness import METADATA, Harness
from bench.latency import Call, median_ms
from bench.measurements import Measurement, alternate, at_most, compare
from bench.seed import ALIAS_EVERY, RARE, seeded_id
from postroom.v1alpha1 import alias_pb2, mailbox_pb2

CALLS = 300
WARM_UP_CALLS = 50


@dataclass(frozen=True, slots=True)
class Read:
    """An RPC and its request, given the number of a mailbox that has an alias."""

    title: str
    rpc: str
    request: Callable[[int], Message]


READS = (
    Read("GetMailbox", "GetMailbox", lambda n: mailbox_pb2.GetMailboxRequest(mailbox_id=seeded_id("mailbox", n))),
    Read("first page with total_count", "ListMailboxes", lambda _: mailbox_pb2.ListMailboxesRequest(page_size=100)),
    Read("rare substring search", "ListMailboxes", lambda _: mailbox_pb2.ListMailboxesRequest(search=RARE)),
    Read("GetAlias", "GetAlias", lambda n: alias_pb2.GetAliasRequest(alias_id=seeded_id("alias", n))),
    Read(
        "aliases of a mailbox",
        "ListAliases",
        lambda n: alias_pb2.ListAliasesRequest(mailbox_id=seeded_id("mailbox", n)),
    ),
)


async def run(harness: Harness) -> list[Measurement]:
    """One service on 1,000 mailboxes, and one on 1,000,000."""
    sizes = (harness.parameters.large, harness.parameters.small)
    stubs = [(harness.stub(await harness.service(await harness.seeded(size))), size) for size in sizes]
    measurements = []
    for read in READS:
        calls = [_call(stub, read, size) for stub, size in stubs]
        for call in calls:
            await median_ms(call, WARM_UP_CALLS)
        large, small = await alternate(
            harness.parameters.runs, *(lambda call=call: median_ms(call, CALLS) for call in calls)
        )
        title = f"{read.title}: p50 on {sizes[0]:,} vs {sizes[1]:,} mailboxes"
        measurements.append(compare(title, "ms", large, small, at_most(1.5)))
    return measurements


def _call(stub: Any, read: Read, size: int) -> Call:
    random = Random(size)  # noqa: S311 - a fixed seed: the same mailboxes in each run
    numbers = [random.randrange(0, size, ALIAS_EVERY) for _ in range(CALLS)]
    requests = [read.request(number) for number in numbers]
    method = getattr(stub, read.rpc)
    return lambda number: method(requests[number], metadata=METADATA)
