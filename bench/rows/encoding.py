"""A page of 1,000 mailboxes as JSON: the encoding alone, and the whole request, beside protobuf's json_format."""

import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from google.protobuf.message import Message

from bench.figures import Figure, at_least, compared, in_turns
from bench.floor.messages import message, rows
from bench.h2load import Shape, press
from bench.peers import json_format_gateway
from bench.rest import gets
from bench.stand import PREFIX, Stand, free_address
from postroom.v1alpha1 import mailbox_pb2
from postroomd.gateway.app import SERVICES
from postroomd.gateway.routes import read_routes
from postroomd.gateway.transcode import Transcoder

PAGE = 1_000
REPEATS = 20
CONNECTIONS = 4


async def run(stand: Stand) -> list[Figure]:
    """One service on 100,000 mailboxes, and a gateway of each kind in front of it."""
    return [await _step(stand), await _request(stand)]


async def _step(stand: Stand) -> Figure:
    answer = mailbox_pb2.ListMailboxesResponse(total_count=PAGE, mailboxes=map(message, rows(PAGE)))
    (route,) = (route for route in read_routes(SERVICES) if route.rpc.endswith("/ListMailboxes"))
    encoders = (Transcoder(route).encode, json_format_gateway.encode)
    ours, theirs = await in_turns(stand.plan.runs, *(_timed(encode, answer) for encode in encoders))
    what = f"encoding {PAGE:,} mailboxes, beside json_format"
    return compared(what, "ms", ours, theirs, at_least(4), faster=True)


def _timed(encode: Callable[[Message], bytes], answer: Message) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        started = perf_counter()
        for _ in range(REPEATS):
            encode(answer)
        return (perf_counter() - started) / REPEATS * 1e3

    return measure


async def _request(stand: Stand) -> Figure:
    service = await stand.service(await stand.seeded(stand.plan.middle))
    ours = await stand.gateway(service)
    address = free_address()
    settings = {"POSTROOM_GRPC_ADDRESS": service.address, "POSTROOM_HTTP_ADDRESS": address}
    theirs = await stand.start([sys.executable, "-m", "bench.peers.json_format_gateway"], address, settings)
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS)
    pages = [await gets(process, f"{PREFIX}/mailboxes?page_size={PAGE}") for process in (ours, theirs)]
    loads = await in_turns(stand.plan.runs, *(lambda page=page: press(page, shape) for page in pages))
    product, floor = ([load.rate for load in side] for side in loads)
    what = f"GET a page of {PAGE:,} through the gateway, beside the same with json_format"
    return compared(what, "req/s", product, floor, at_least(1.8))
