"""GetMailbox and the first page of ListMailboxes over gRPC vs a bare gRPC server."""

from google.protobuf.message import Message

from bench.engine import Engine
from bench.h2load import GrpcTarget, LoadShape, run_h2load
from bench.harness import METADATA, RPC_PREFIX, Harness
from bench.measurements import Measurement, Target, alternate, at_least, compare
from bench.process import Process
from bench.seed import SECRET, seeded_id
from postroom.v1alpha1 import mailbox_pb2

GET_TARGETS = {Engine.SQLITE: at_least(0.60), Engine.POSTGRESQL: at_least(0.50)}
PAGE_SIZE = 100


async def get(harness: Harness) -> list[Measurement]:
    """GetMailbox, one service on 100,000 mailboxes."""
    size = harness.parameters.medium
    request = mailbox_pb2.GetMailboxRequest(mailbox_id=seeded_id("mailbox"))
    title = f"GetMailbox over gRPC, {size:,} mailboxes"
    return [await _compare(harness, size, "GetMailbox", request, title, GET_TARGETS[harness.engine])]


async def first_page(harness: Harness) -> list[Measurement]:
    """ListMailboxes, the first page of 100, one service on 1,000,000 mailboxes."""
    size = harness.parameters.large
    request = mailbox_pb2.ListMailboxesRequest(page_size=PAGE_SIZE)
    title = f"ListMailboxes over gRPC, first page of {PAGE_SIZE}, {size:,} mailboxes"
    return [await _compare(harness, size, "ListMailboxes", request, title, at_least(0.60))]


async def _compare(harness: Harness, size: int, rpc: str, request: Message, title: str, target: Target) -> Measurement:
    url = await harness.seeded(size)

    async def product() -> float:
        return await measure(await harness.service(url))

    async def baseline() -> float:
        return await measure(await harness.baseline_service())

    async def measure(process: Process) -> float:
        response = await getattr(harness.stub(process), rpc)(request, metadata=METADATA)
        target = GrpcTarget(process.address, f"{RPC_PREFIX}/{rpc}", request, response, SECRET)
        load = await run_h2load(target, LoadShape(harness.parameters.run_seconds))
        await process.kill()
        return load.rate

    rates, baselines = await alternate(harness.parameters.process_runs, product, baseline)
    return compare(title, "req/s", rates, baselines, target)
