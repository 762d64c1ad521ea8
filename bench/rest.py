"""GET requests to a gateway, as targets for load."""

from collections.abc import Sequence

import aiohttp

from bench.h2load import HttpTarget
from bench.harness import METADATA, PREFIX
from bench.process import Process
from bench.seed import SECRET, seeded_id

MAX_IDS = 500  # distinct mailboxes that a target reads


async def http_target(process: Process, *paths: str) -> HttpTarget:
    """Return a target for paths whose responses are about as long as the first one's. Raises ClientError."""
    body = await get(process, paths[0])
    return HttpTarget(process.address, paths, len(body), SECRET)


async def mailboxes_target(process: Process, size: int, prefix: str = PREFIX) -> HttpTarget:
    """Return a target for single mailboxes spread over a table of `size`."""
    return await http_target(process, *(f"{prefix}/mailboxes/{mailbox_id}" for mailbox_id in sample_ids(size)))


def sample_ids(size: int) -> Sequence[str]:
    """Return about MAX_IDS mailbox ids at equal distances in a table of `size`."""
    return [seeded_id("mailbox", number) for number in range(0, size, max(1, size // MAX_IDS))]


async def get(process: Process, path: str) -> bytes:
    """Return the body of a GET. Raises ClientError."""
    url = f"http://{process.address}{path}"
    async with (
        aiohttp.ClientSession(headers=dict(METADATA), raise_for_status=True) as session,
        session.get(url) as response,
    ):
        return await response.read()
