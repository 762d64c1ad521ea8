"""GET of one mailbox beside what people usually write: `bench.peers.fastapi_sqlalchemy`, on as many cores."""

import asyncio
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from time import monotonic
from typing import Any

import aiohttp

from bench.figures import Figure, Target, at_least, compared, in_turns
from bench.h2load import Load, Shape, press
from bench.process import PATIENCE_SECONDS, Ended, Process
from bench.rows.gateway import CONNECTIONS, mailboxes
from bench.seed import seeded_id
from bench.stand import METADATA, PREFIX, Stand, free_address

OPEN_PREFIX = "/open"
"""Where the peer asks for no key."""


async def run(stand: Stand) -> list[Figure]:
    """Service and gateway, two processes, beside two workers of the peer."""
    what = "GET a mailbox, service and gateway beside FastAPI, SQLAlchemy's ORM and aiosqlite in 2 workers"
    if find_spec("fastapi") is None:
        return [Figure(what=what, note="not measured: FastAPI is not installed: `make bench` installs it")]
    count = stand.plan.middle
    url = await stand.seeded(count)
    gateway = await stand.gateway(await stand.service(url))
    peer = await _peer(stand, url)
    await _require_same_answers(gateway, peer)
    targets = (
        mailboxes(gateway.address, count),
        mailboxes(peer.address, count),
        mailboxes(peer.address, count, OPEN_PREFIX),
    )
    shape = Shape(stand.plan.seconds, connections=CONNECTIONS)
    product, keyed, unkeyed = await in_turns(
        stand.plan.runs, *(lambda target=target: press(target, shape) for target in targets)
    )
    return [
        *_beside(f"{what}, which looks the key up", product, keyed, at_least(2.5)),
        *_beside(f"{what}, which asks for no key", product, unkeyed, at_least(2.5)),
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
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        try:
            await _answer(peer, PREFIX)
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
        else:
            return peer
    raise Ended("the peer does not answer")


async def _require_same_answers(product: Process, peer: Process) -> None:
    wanted = await _answer(product, PREFIX)
    for prefix in (PREFIX, OPEN_PREFIX):
        if (answered := await _answer(peer, prefix)) != wanted:
            raise ValueError(f"the peer answers {answered}, not {wanted}")


async def _answer(process: Process, prefix: str) -> Any:
    url = f"http://{process.address}{prefix}/mailboxes/{seeded_id('mailbox', 1)}"
    async with aiohttp.ClientSession(headers=dict(METADATA), raise_for_status=True) as session, session.get(url) as got:
        return await got.json()
