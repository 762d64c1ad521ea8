"""Polling for conditions that have no event to wait for."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

TIMEOUT_SECONDS = 30.0
"""Long enough for a busy machine: only a failing test waits that long."""

POLL_SECONDS = 0.02

T = TypeVar("T")


@overload
async def wait_until(condition: Callable[[], Awaitable[T | None]], timeout_seconds: float = TIMEOUT_SECONDS) -> T: ...
@overload
async def wait_until(condition: Callable[[], T | None], timeout_seconds: float = TIMEOUT_SECONDS) -> T: ...
async def wait_until(condition: Callable[[], Any], timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
    """Poll a function, which may be async, until its result is true. Returns the result. Raises AssertionError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"the condition was not met within {timeout_seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)


def block_until(condition: Callable[[], T | None], timeout_seconds: float = TIMEOUT_SECONDS) -> T:
    """Do the same outside of an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"the condition was not met within {timeout_seconds:g} s"
        time.sleep(POLL_SECONDS)
