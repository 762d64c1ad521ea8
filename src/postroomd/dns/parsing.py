"""Parsing of responses, whose cost the servers choose: bounded per validation, and in turns of the organizations.

Parsing blocks the event loop. If each of many responses that have arrived were parsed at once, other organizations'
lookups and the worker's other steps would wait for all of them.
"""

import asyncio

import dns.message

from postroomd.dns.wire import HEADER, MAX_TOTAL_WORK, TRUNCATED, TooMuchWork, Work, bounded
from postroomd.fair_queue import FairQueue


class Turns:
    """Turns on the event loop: one in each of its iterations, to organizations in rotation."""

    def __init__(self) -> None:
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()
        self._serving = False

    async def take(self, organization_id: str) -> None:
        """Wait for a turn, which lasts until the caller awaits something else."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._queue.push(organization_id, turn)
        if not self._serving:
            self._serving = True
            loop.call_soon(self._serve)
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.discard(organization_id, lambda waiting: waiting is turn)
            raise

    def _serve(self) -> None:
        """Give the next turn, and do so again in the next iteration while others wait."""
        self._serving = len(self._queue) > 0
        if self._serving:
            organization_id, turn = self._queue.pop()
            self._queue.finish(organization_id)
            if not turn.done():
                turn.set_result(None)
            asyncio.get_running_loop().call_soon(self._serve)


class WorkExhausted(Exception):
    """The responses of the validation were too costly."""


class ResponseParser:
    """Parses the responses of one validation, at most MAX_TOTAL_WORK."""

    def __init__(self, turns: Turns, organization_id: str) -> None:
        self._turns = turns
        self._organization_id = organization_id
        self._work = Work()

    def check(self) -> None:
        """Raise WorkExhausted if nothing more may be parsed."""
        if self._work.spent >= MAX_TOTAL_WORK:
            raise WorkExhausted

    async def parse(self, query: dns.message.Message, wire: bytes) -> dns.message.Message | None:
        """Return the message, or None if it is malformed or responds to another query.

        Raises TooMuchWork for a message that is too costly, and WorkExhausted.
        """
        await self._turns.take(self._organization_id)
        self.check()
        if len(wire) < HEADER.size:
            return None
        message_id, flags, *_ = HEADER.unpack_from(wire)
        if message_id != query.id:
            return None
        try:
            # A truncated message may end within a record.
            response = dns.message.from_wire(
                bounded(wire, self._work), question_only=bool(flags & TRUNCATED), ignore_trailing=True
            )
        except TooMuchWork:
            raise
        except Exception:  # parsing hostile input may raise anything
            return None
        return response if query.is_response(response) else None
