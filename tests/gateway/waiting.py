"""Polling for conditions that have no event."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0) -> None:
    """Poll `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        met = condition()
        if await met if inspect.isawaitable(met) else met:
            return
        assert time.monotonic() < deadline, f"condition not met within {seconds} s"
        await asyncio.sleep(0.01)
