"""GET of a mailbox vs a typical implementation (`bench.peers.fastapi_sqlalchemy`), both with two processes."""

import asyncio
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from time import monotonic

import aiohttp

from bench.h2load import LoadResult, LoadShape, run_h2load
from bench.harness import PREFIX, Harness
from bench.measurements import Measurement, alternate, at_least, compare
from bench.process import TIMEOUT_SECONDS, Process, ProcessFailed
from bench.rest import get, mailboxes_target
from bench.rows.gateway import CONNECTIONS
from bench.seed import seeded_id
from tools.ports import free_address

UNAUTHENTICATED_PREFIX = "/open"
"""The peer's paths that require no API key."""

PATH = f"/mailboxes/{seeded_id('mailbox', 1)}"


async def run(harness: Harness) -> list[Measurement]:
    """Service and gateway vs two workers of the peer."""
    title = "GET mailbox over REST vs FastAPI and SQLAlchemy's ORM"
    if find_spec("fastapi") is None:
        return [Measurement(title=title, note="not measured: FastAPI is not installed; `make bench` installs it")]
    size = harness.parameters.medium
    url = await harness.seeded(size)
    gateway = await harness.gateway(await harness.service(url))
    peer = await _start_peer(harness, url)
    await _check_same_response(gateway, peer)
    targets = [
        await mailboxes_target(gateway, size),
        await mailboxes_target(peer, size),
        await mailboxes_target(peer, size, UNAUTHENTICATED_PREFIX),
    ]
    shape = LoadShape(harness.parameters.run_seconds, connections=CONNECTIONS)
    product, authenticated, unauthenticated = await alternate(
        harness.parameters.runs, *(lambda target=target: run_h2load(target, shape) for target in targets)
    )
    return [
        *_compare(f"{title}, with API key", product, authenticated),
        *_compare(f"{title}, without API key", product, unauthenticated),
    ]


def _compare(title: str, product: Sequence[LoadResult], peer: Sequence[LoadResult]) -> list[Measurement]:
    rates, peer_rates = ([load.rate for load in side] for side in (product, peer))
    p99s, peer_p99s = ([load.percentile(0.99) * 1e3 for load in side] for side in (product, peer))
    return [
        compare(f"{title}: throughput", "req/s", rates, peer_rates, at_least(2.5)),
        compare(f"{title}: p99", "ms", p99s, peer_p99s, at_least(1.0), speedup=True),
    ]


async def _start_peer(harness: Harness, url: str) -> Process:
    address = free_address()
    host, _, port = address.partition(":")
    command = [
        *(sys.executable, "-m", "uvicorn", "bench.peers.fastapi_sqlalchemy:app"),
        *(f"--host={host}", f"--port={port}", "--workers=2", "--no-access-log", "--log-level=warning"),
    ]
    peer = harness.process(command, address, {"PEER_DATABASE_URL": url})
    await peer.launch()
    harness.cleanups.push_async_callback(peer.terminate)  # SIGKILL would leave its workers running
    deadline = monotonic() + TIMEOUT_SECONDS
    while monotonic() < deadline:
        try:
            await get(peer, PREFIX + PATH)
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
        else:
            return peer
    raise ProcessFailed("the peer does not respond")


async def _check_same_response(product: Process, peer: Process) -> None:
    """Raise ValueError if the peer's response differs from the product's."""
    expected = json.loads(await get(product, PREFIX + PATH))
    for prefix in (PREFIX, UNAUTHENTICATED_PREFIX):
        if (response := json.loads(await get(peer, prefix + PATH))) != expected:
            raise ValueError(f"the peer returns {response}, not {expected}")
