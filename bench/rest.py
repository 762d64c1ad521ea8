"""GET requests, to be pressed."""

from collections.abc import Sequence

import aiohttp

from bench.h2load import Gets
from bench.process import Process
from bench.seed import SECRET, seeded_id
from bench.stand import METADATA, PREFIX

IDS = 500  # that are asked for one after the other


async def gets(process: Process, *paths: str) -> Gets:
    """GET of paths, whose answers are about as long as that of the first: it is asked for here. Raises ClientError."""
    body = await answer(process, paths[0])
    return Gets(process.address, paths, len(body), SECRET)


async def mailboxes(process: Process, count: int, prefix: str = PREFIX) -> Gets:
    """GET of many mailboxes out of `count`, one by one."""
    return await gets(process, *(f"{prefix}/mailboxes/{mailbox_id}" for mailbox_id in spread_ids(count)))


def spread_ids(count: int) -> Sequence[str]:
    """The ids of mailboxes from all over the table."""
    return [seeded_id("mailbox", number) for number in range(0, count, max(1, count // IDS))]


async def answer(process: Process, path: str) -> bytes:
    """The body of an answer. Raises ClientError."""
    url = f"http://{process.address}{path}"
    async with aiohttp.ClientSession(headers=dict(METADATA), raise_for_status=True) as session, session.get(url) as got:
        return await got.read()
