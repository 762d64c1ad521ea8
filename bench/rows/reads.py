"""Single reads and first pages over gRPC, as a share of what the bare transport does."""

from google.protobuf.message import Message

from bench.engine import Engine
from bench.figures import Figure, Target, at_least, compared, in_turns
from bench.h2load import Calls, Shape, press
from bench.process import Process
from bench.seed import SECRET, seeded_id
from bench.stand import METADATA, RPC_PREFIX, Stand
from postroom.v1alpha1 import mailbox_pb2

GET_TARGETS = {Engine.SQLITE: at_least(0.60), Engine.POSTGRESQL: at_least(0.50)}
PAGE = 100


async def get(stand: Stand) -> list[Figure]:
    """GetMailbox, one service on 100,000 mailboxes."""
    request = mailbox_pb2.GetMailboxRequest(mailbox_id=seeded_id("mailbox"))
    return [await _share(stand, stand.plan.middle, "GetMailbox", request, "GetMailbox", GET_TARGETS[stand.engine])]


async def first_page(stand: Stand) -> list[Figure]:
    """ListMailboxes, the first page of 100, one service on 1,000,000 mailboxes."""
    request = mailbox_pb2.ListMailboxesRequest(page_size=PAGE)
    return [await _share(stand, stand.plan.large, "ListMailboxes", request, f"first page of {PAGE}", at_least(0.60))]


async def _share(stand: Stand, count: int, rpc: str, request: Message, what: str, target: Target) -> Figure:
    url = await stand.seeded(count)

    async def product() -> float:
        return await pressed(await stand.service(url))

    async def floor() -> float:
        return await pressed(await stand.floor_service())

    async def pressed(process: Process) -> float:
        answer = await getattr(stand.stub(process), rpc)(request, metadata=METADATA)
        calls = Calls(process.address, f"{RPC_PREFIX}/{rpc}", request, answer, SECRET)
        load = await press(calls, Shape(stand.plan.seconds))
        await process.kill()
        return load.rate

    rates, floors = await in_turns(stand.plan.starts, product, floor)
    return compared(f"{what} over gRPC, {count:,} mailboxes", "req/s", rates, floors, target)
