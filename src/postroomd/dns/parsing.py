"""Parsing of responses, whose cost the servers choose: bounded per validation, and in turns of the organizations.

Parsing blocks the event loop. If each of many responses that have arrived were parsed at once, other organizations'
lookups and the worker's other steps would wait for all of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

import dns.message

from postroomd.dns.wire import HEADER, MAX_TOTAL_WORK, TRUNCATED, TooMuchWork, Work, bounded

Clock = Callable[[], float]


class Turns:
    """Turns on the event loop, one at a time: the next goes to the organization whose turns have taken the least time.

    After a turn, the loop is left to other tasks for as long as the turn took. An organization that comes back starts
    where the others are (start-time fair queueing).
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._used: dict[str, float] = {}  # seconds by organization, and
        self._started = 0.0  # of the one whose turn was the last, before it
        self._serving = False

    async def take(self, organization_id: str) -> None:
        """Wait for a turn, which lasts until the caller awaits something else."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if organization_id not in self._waiting:
            self._waiting[organization_id] = deque()
            self._used[organization_id] = max(self._used.get(organization_id, 0.0), self._started)
        self._waiting[organization_id].append(turn)
        if not self._serving:
            self._serving = True
            loop.call_soon(self._serve)
        await turn

    def _serve(self) -> None:
        """Give the next turn."""
        if not self._waiting:
            self._serving = False
            self._used.clear()
            self._started = 0.0
            return
        organization_id = min(self._waiting, key=lambda waiting: self._used[waiting])
        turns = self._waiting[organization_id]
        turn = turns.popleft()
        if not turns:
            del self._waiting[organization_id]
        loop = asyncio.get_running_loop()
        if turn.done():  # canceled
            loop.call_soon(self._serve)
            return
        turn.set_result(None)
        self._started = self._used[organization_id]
        loop.call_soon(self._finish, organization_id, self._clock())  # after the task that waits

    def _finish(self, organization_id: str, began: float) -> None:
        """Count the time of a turn, and give the next after a rest."""
        seconds = self._clock() - began
        self._used[organization_id] += seconds
        asyncio.get_running_loop().call_later(seconds, self._serve)


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
