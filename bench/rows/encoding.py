"""JSON encoding of a page of 1,000 mailboxes vs protobuf's json_format: the encoding alone, and the whole request."""

import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from google.protobuf.message import Message

from bench.baseline.messages import message, rows
from bench.h2load import LoadShape, run_h2load
from bench.harness import PREFIX, Harness
from bench.measurements import Measurement, alternate, at_least, compare
from bench.peers import json_format_gateway
from bench.rest import http_target
from postroom.v1alpha1 import mailbox_pb2
from postroomd.gateway.app import SERVICES
from postroomd.gateway.routes import read_routes
from postroomd.gateway.transcode import Transcoder
from tools.ports import free_address

PAGE_SIZE = 1_000
REPETITIONS = 20
CONNECTIONS = 4


async def run(harness: Harness) -> list[Measurement]:
    """One service on 100,000 mailboxes, with a gateway of each kind in front of it."""
    return [await _encoding(harness), await _request(harness)]


async def _encoding(harness: Harness) -> Measurement:
    response = mailbox_pb2.ListMailboxesResponse(total_count=PAGE_SIZE, mailboxes=map(message, rows(PAGE_SIZE)))
    (route,) = (route for route in read_routes(SERVICES) if route.rpc.endswith("/ListMailboxes"))
    encoders = (Transcoder(route).encode, json_format_gateway.encode)
    durations, baselines = await alternate(harness.parameters.runs, *(_timer(encode, response) for encode in encoders))
    title = f"JSON encoding of {PAGE_SIZE:,} mailboxes vs json_format"
    return compare(title, "ms", durations, baselines, at_least(4), speedup=True)


def _timer(encode: Callable[[Message], bytes], response: Message) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        started = perf_counter()
        for _ in range(REPETITIONS):
            encode(response)
        return (perf_counter() - started) / REPETITIONS * 1e3

    return measure


async def _request(harness: Harness) -> Measurement:
    service = await harness.service(await harness.seeded(harness.parameters.medium))
    gateway = await harness.gateway(service)
    address = free_address()
    settings = {"POSTROOM_GRPC_ADDRESS": service.address, "POSTROOM_HTTP_ADDRESS": address}
    peer = await harness.start([sys.executable, "-m", "bench.peers.json_format_gateway"], address, settings)
    shape = LoadShape(harness.parameters.run_seconds, connections=CONNECTIONS)
    targets = [await http_target(process, f"{PREFIX}/mailboxes?page_size={PAGE_SIZE}") for process in (gateway, peer)]
    loads = await alternate(
        harness.parameters.runs, *(lambda target=target: run_h2load(target, shape) for target in targets)
    )
    rates, baselines = ([load.rate for load in side] for side in loads)
    title = f"GET page of {PAGE_SIZE:,} mailboxes over REST vs a json_format gateway"
    return compare(title, "req/s", rates, baselines, at_least(1.8))
