"""What a thousand times as many mailboxes add to a call: p50, one call at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.message import Message

from bench.figures import Figure, at_most, compared, in_turns
from bench.latency import Call, median_of
from bench.seed import ALIAS_EVERY, RARE, seeded_id
from bench.stand import METADATA, Stand
from postroom.v1alpha1 import alias_pb2, mailbox_pb2

CALLS = 300
WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Kind:
    """A call whose request depends on the number of a mailbox that has an alias."""

    what: str
    rpc: str
    request: Callable[[int], Message]


KINDS = (
    Kind("GetMailbox", "GetMailbox", lambda n: mailbox_pb2.GetMailboxRequest(mailbox_id=seeded_id("mailbox", n))),
    Kind("first page and total_count", "ListMailboxes", lambda _: mailbox_pb2.ListMailboxesRequest(page_size=100)),
    Kind("search of a rare substring", "ListMailboxes", lambda _: mailbox_pb2.ListMailboxesRequest(search=RARE)),
    Kind("GetAlias", "GetAlias", lambda n: alias_pb2.GetAliasRequest(alias_id=seeded_id("alias", n))),
    Kind(
        "aliases of a mailbox",
        "ListAliases",
        lambda n: alias_pb2.ListAliasesRequest(mailbox_id=seeded_id("mailbox", n)),
    ),
)


async def run(stand: Stand) -> list[Figure]:
    """A service on 1,000 mailboxes, and one on 1,000,000."""
    sizes = (stand.plan.large, stand.plan.small)
    stubs = [(stand.stub(await stand.service(await stand.seeded(size))), size) for size in sizes]
    figures = []
    for kind in KINDS:
        calls = [_call(stub, kind, size) for stub, size in stubs]
        for call in calls:
            await median_of(call, WARM_UP)
        large, small = await in_turns(stand.plan.runs, *(lambda call=call: median_of(call, CALLS) for call in calls))
        what = f"{kind.what}, {sizes[1]:,} to {sizes[0]:,} mailboxes: p50"
        figures.append(compared(what, "ms", large, small, at_most(1.5)))
    return figures


def _call(stub: Any, kind: Kind, size: int) -> Call:
    random = Random(size)  # noqa: S311 - the same mailboxes every time
    numbers = [random.randrange(0, size, ALIAS_EVERY) for _ in range(CALLS)]
    requests = [kind.request(number) for number in numbers]
    method = getattr(stub, kind.rpc)
    return lambda number: method(requests[number], metadata=METADATA)
