"""Slots that keys share fairly, such as organizations or client addresses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from postroomd.domain.errors import TooManyRequests
from postroomd.fair_queue import FairQueue

RETRY_SECONDS = 1.0  # the retry delay that a rejected caller is given


class FairSlots:
    """A number of slots shared by keys, and a bounded queue of callers that wait for one.

    Beyond `max_waiting`, the last caller of the key with the most slots and callers is rejected: a key that floods the
    queue displaces itself, not others.
    """

    def __init__(self, slots: int, max_waiting: int) -> None:
        self.slots = self.free = slots
        self._max_waiting = max_waiting
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return len(self._queue)

    def try_acquire(self, key: str) -> bool:
        """Take a slot if one is free. Nobody waits then: a released slot goes to the next caller directly."""
        if not self.free:
            return False
        self.free -= 1
        self._queue.start(key)
        return True

    async def acquire(self, key: str) -> None:
        """Take a slot, after waiting for one if necessary. Raises TooManyRequests if too many wait."""
        if self.try_acquire(key):
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.push(key, turn)
        if len(self._queue) > self._max_waiting:
            displaced = self._queue.pop_last_of_heaviest(key)
            if not displaced.done():  # or canceled in this iteration of the event loop
                displaced.set_exception(TooManyRequests(RETRY_SECONDS))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(key)  # canceled after its turn had come
            else:
                self._queue.discard(key, lambda other: other is turn)
            raise

    def release(self, key: str) -> None:
        """Return a slot of a key, which goes to the next caller that waits."""
        self._queue.finish(key)
        while len(self._queue):
            next_key, turn = self._queue.pop()
            if not turn.done():
                turn.set_result(None)
                return
            self._queue.finish(next_key)  # canceled in this iteration of the event loop
        self.free += 1

    @asynccontextmanager
    async def slot(self, key: str) -> AsyncIterator[None]:
        """Hold a slot during the block. Raises TooManyRequests."""
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)
