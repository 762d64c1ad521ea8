"""GET of one mailbox beside what people usually write: `bench.peers.fastapi_sqlalchemy`, on as many cores."""

import asyncio
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from time import monotonic

import aiohttp

from bench.figures import Figure, Target, at_least, compared, in_turns
from bench.h2load import Load, Shape, press
from bench.process import PATIENCE_SECONDS, Ended, Process
from bench.rest import answer, mailboxes
from bench.rows.gateway import CONNECTIONS
from bench.seed import seeded_id
from bench.stand import PREFIX, Stand, free_address

OPEN_PREFIX = "/open"
"""Where the peer asks for no key."""

PATH = f"/mailboxes/{seeded_id('mailbox', 1)}"


async def run(stand: Stand) -> list[Figure]:
    """Service and gateway, two processes, beside two workers of the peer."""
    what = "GET a mailbox beside FastAPI with SQLAlchemy's ORM"
    if find_spec("fastapi") is None:
        return [Figure(what=what, note="not measured: FastAPI is not installed: `make bench` installs it")]
    count = stand.plan.middle
    url = await stand.seeded(count)
    gateway = await stand.gateway(await stand.service(url))
    peer = await _peer(stand, url)
    await _require_same_answers(gateway, peer)
    targets = [
        await mailboxes(gateway, count),
        await mailboxes(peer, count),
        await mailboxes(peer, count, OPEN_PREFIX),
    ]
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS)
    product, keyed, unkeyed = await in_turns(
        stand.plan.runs, *(lambda target=target: press(target, shape) for target in targets)
    )
    return [
        *_beside(f"{what} and a key", product, keyed, at_least(2.5)),
        *_beside(f"{what} and no key", product, unkeyed, at_least(2.5)),
    ]


def _beside(what: str, product: Sequence[Load], peer: Sequence[Load], target: Target) -> list[Figure]:
    rate, peer_rate = ([load.rate for load in side] for side in (product, peer))
    ours, theirs = ([load.percentile(0.99) * 1e3 for load in side] for side in (product, peer))
    return [
        compared(f"{what}: throughput", "req/s", rate, peer_rate, target),
        compared(f"{what}: p99", "ms", ours, theirs, at_least(1.0), faster=True),
    ]


async def _peer(stand: Stand, url: str) -> Process:
    address = free_address()
    host, _, port = address.partition(":")
    command = [
        *(sys.executable, "-m", "uvicorn", "bench.peers.fastapi_sqlalchemy:app"),
        *(f"--host={host}", f"--port={port}", "--workers=2", "--no-access-log", "--log-level=warning"),
    ]
    peer = stand.process(command, address, {"PEER_DATABASE_URL": url})
    await peer.launch()
    stand.cleanups.push_async_callback(peer.terminate)  # or its workers would outlive it
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        try:
            await answer(peer, PREFIX + PATH)
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
        else:
            return peer
    raise Ended("the peer does not answer")


async def _require_same_answers(product: Process, peer: Process) -> None:
    wanted = json.loads(await answer(product, PREFIX + PATH))
    for prefix in (PREFIX, OPEN_PREFIX):
        if (answered := json.loads(await answer(peer, prefix + PATH))) != wanted:
            raise ValueError(f"the peer answers {answered}, not {wanted}")
