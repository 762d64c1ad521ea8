"""Writers that go on whatever happens, as callers do, and note everything that they are told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import grpc

from bench.chaos.client import CALL_SECONDS, Client
from bench.chaos.ledger import Entry, Ledger
from bench.chaos.writes import Kind, Writes

WRITERS = 8
WRITES_A_SECOND = 120.0
LEAST_WRITES_A_SECOND = 50.0
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Load:
    """Writes over some clients, at a steady rate as far as they are answered."""

    clients: Sequence[Client]
    writes: Writes
    writers: int = WRITERS
    writes_a_second: float = WRITES_A_SECOND
    call_seconds: float = CALL_SECONDS
    ledger: Ledger = field(default_factory=Ledger)
    codes: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    steadily_acknowledged: int = 0
    seconds: float = 0.0  # of steady running
    _stopping: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the end of the block, and let every call that is under way then come to its own end."""
        self._stopping = False
        writers = [asyncio.create_task(self._write_on(number)) for number in range(self.writers)]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*writers)

    async def steady(self, seconds: float) -> None:
        """Let the load run, once every writer may have had an answer, for a time that counts for its rate."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            before = self.acknowledged
            while self.acknowledged < before + self.writers:  # noqa: ASYNC110 # told apart by polling, all of them are
                await asyncio.sleep(0.01)
        started, before = monotonic(), self.acknowledged
        await asyncio.sleep(seconds)
        self.seconds += monotonic() - started
        self.steadily_acknowledged += self.acknowledged - before

    async def next_acknowledgement(self) -> float:
        """Wait until a write that was sent from now on is acknowledged; the seconds that took. Raises TimeoutError."""
        started = monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                entry = await self._write()
                if entry.ids:
                    return monotonic() - started
                await asyncio.sleep(0.02)

    def rate(self) -> float:
        """Acknowledged writes a second of steady running."""
        return self.steadily_acknowledged / self.seconds if self.seconds else 0.0

    async def _write_on(self, number: int) -> None:
        pause = self.writers / self.writes_a_second
        await asyncio.sleep(pause * number / self.writers)
        due = monotonic()
        while not self._stopping:
            await self._write(number)
            due = max(due + pause, monotonic())
            await asyncio.sleep(due - monotonic())

    async def _write(self, number: int = 0) -> Entry:
        write = self.writes.any()
        entry = self.ledger.sent(write)
        try:
            response = await self.clients[number % len(self.clients)].send(write, timeout=self.call_seconds)
        except grpc.aio.AioRpcError as error:
            self.codes[error.code().name] += 1
            entry.fail(error.code())
        else:
            self.codes["OK"] += 1
            self.acknowledged += 1
            entry.acknowledge(response)
            if write.kind is Kind.MAILBOXES:
                self.writes.learn(entry.ids)
        return entry
