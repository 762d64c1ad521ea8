"""GET requests to a gateway, as targets for load."""

from collections.abc import Sequence
from ssl import SSLContext

import aiohttp

from bench.h2load import HttpTarget
from bench.harness import METADATA, PREFIX
from bench.process import Process
from bench.seed import SECRET, seeded_id

MAX_IDS = 500  # distinct mailboxes that a target reads


async def http_target(process: Process, *paths: str, context: SSLContext | None = None) -> HttpTarget:
    """Return a target for paths whose responses are about as long as the first one's. Raises ClientError."""
    body = await get(process, paths[0], context)
    return HttpTarget(process.address, paths, len(body), SECRET, "https" if context else "http")


async def mailboxes_target(
    process: Process, size: int, prefix: str = PREFIX, context: SSLContext | None = None
) -> HttpTarget:
    """Return a target for single mailboxes spread over a table of `size`, over HTTPS if there is a context."""
    paths = (f"{prefix}/mailboxes/{mailbox_id}" for mailbox_id in sample_ids(size))
    return await http_target(process, *paths, context=context)


def sample_ids(size: int) -> Sequence[str]:
    """Return about MAX_IDS mailbox ids at equal distances in a table of `size`."""
    return [seeded_id("mailbox", number) for number in range(0, size, max(1, size // MAX_IDS))]


async def get(process: Process, path: str, context: SSLContext | None = None) -> bytes:
    """Return the body of a GET, over HTTPS if there is a context. Raises ClientError."""
    url = f"{'https' if context else 'http'}://{process.address}{path}"
    async with (
        aiohttp.ClientSession(headers=dict(METADATA), raise_for_status=True) as session,
        session.get(url, ssl=context or True) as response,
    ):
        return await response.read()
