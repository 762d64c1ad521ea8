"""One attacker as a process: `python -m bench.attack.attackers NAME JSON`. It runs until it is terminated."""

import asyncio
import contextlib
import functools
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bench.attack.attackers import http2, sockets, tenant

Attack = Callable[..., Awaitable[None]]

ATTACKS: dict[str, Attack] = {
    "calls": functools.partial(http2.flood, chunks=functools.partial(http2.calls, reset=False)),
    "calls-reset": functools.partial(http2.flood, chunks=functools.partial(http2.calls, reset=True)),
    "unfinished-streams": functools.partial(http2.flood, chunks=http2.unfinished_streams),
    "continuations": functools.partial(http2.flood, chunks=http2.continuations),
    "pings": functools.partial(http2.flood, chunks=http2.pings),
    "settings": functools.partial(http2.flood, chunks=http2.settings),
    "oversized-metadata": functools.partial(http2.flood, chunks=http2.oversized_metadata),
    "silent": sockets.silent,
    "unfinished-headers": sockets.unfinished_headers,
    "unfinished-bodies": sockets.unfinished_bodies,
    "unread": sockets.unread,
    "password-batches": tenant.password_batches,
    "searches": tenant.searches,
    "invalid-keys": tenant.invalid_keys,
}


async def main(name: str, arguments: dict[str, Any]) -> None:
    """Attack until SIGTERM."""
    attack = asyncio.ensure_future(ATTACKS[name](**arguments))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, attack.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await attack


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
