"""Delayed answers to calls that are rejected for load.

A client that repeats a rejected call at once would otherwise be rejected thousands of times a second, which takes the
event loop from everyone else: a rejection costs about as much as a read. The number of calls of a connection is
bounded, and so with a delay is the rate of its rejections. A call that waits holds no slot. The gateway delays its
answers by itself, once their slots are free, so that calls of gateways are answered at once.
"""

import asyncio
from collections.abc import Callable

from postroomd.domain.errors import TooManyRequests
from postroomd.rpc.client_address import Metadata

DELAY_SECONDS = 0.5
MAX_DELAYED = 2_000
"""Rejected calls that wait at once; further ones are answered immediately."""
SHARE_OF_DEADLINE = 0.5


class Rejections:
    """Delays the answers to rejected calls. `is_gateway` recognizes the calls of gateways."""

    def __init__(self, is_gateway: Callable[[Metadata], bool], seconds: float = DELAY_SECONDS) -> None:
        self.delayed = 0
        self._is_gateway = is_gateway
        self._seconds = seconds

    async def delay(self, error: Exception, metadata: Metadata, remaining_seconds: float | None) -> None:
        """Wait before a call is answered with this error, at most for half of the time until its deadline."""
        if not isinstance(error, TooManyRequests) or self.delayed >= MAX_DELAYED or self._is_gateway(metadata):
            return
        seconds = self._seconds
        if remaining_seconds is not None:
            seconds = min(seconds, SHARE_OF_DEADLINE * remaining_seconds)
        self.delayed += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.delayed -= 1


AT_ONCE = Rejections(lambda _: True)
"""Answers every call at once."""
