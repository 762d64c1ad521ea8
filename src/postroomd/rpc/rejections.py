"""Delayed answers to calls that are rejected for load, and to many calls with invalid keys.

A client that repeats such a call at once would otherwise fail thousands of times a second, which takes the event loop
from everyone else: a failure costs about as much as a read. The number of calls of a connection is bounded, and so with
a delay is the rate of its failures. A call that waits holds no slot. The gateway delays its answers by itself, once
their slots are free, so that calls of gateways are answered at once.
"""

import asyncio
from collections.abc import Callable

from postroomd.domain.errors import TooManyRequests, Unauthenticated
from postroomd.pacing import LateAnswers
from postroomd.rpc.client_address import Metadata

DELAY_SECONDS = 0.5
MAX_DELAYED = 2_000
"""Calls that wait at once; further ones are answered immediately."""
SHARE_OF_DEADLINE = 0.5


class Rejections:
    """Delays the answers to such calls. `is_gateway` recognizes the calls of gateways."""

    def __init__(self, is_gateway: Callable[[Metadata], bool], seconds: float = DELAY_SECONDS) -> None:
        self.delayed = 0
        self._is_gateway = is_gateway
        self._late = LateAnswers(seconds)

    async def delay(self, error: Exception, metadata: Metadata, remaining_seconds: float | None) -> None:
        """Wait before a call is answered with this error, at most for half of the time until its deadline."""
        if not isinstance(error, TooManyRequests | Unauthenticated):
            return
        if self.delayed >= MAX_DELAYED or self._is_gateway(metadata):
            return
        limit = None if remaining_seconds is None else SHARE_OF_DEADLINE * remaining_seconds
        seconds = self._late.delay(unauthenticated=isinstance(error, Unauthenticated), limit=limit)
        if not seconds:
            return
        self.delayed += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.delayed -= 1


AT_ONCE = Rejections(lambda _: True)
"""Answers every call at once."""
