"""Work of some 10 ms, such as the encoding of a list of 1,000 items, outside the event loop.

A client that asks for many such lists at once would otherwise keep the event loop from the calls of others.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

MAX_INLINE_ITEMS = 100
"""Lists up to this length are encoded in the event loop."""


class LongWork:
    """Runs functions in a thread, one at a time: more would only take turns with the event loop's own thread."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Return the result of a function, once those before it have ended. Raises what it raises."""
        async with self._turn:
            return await asyncio.to_thread(function, argument)
