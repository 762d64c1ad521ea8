"""Concurrent writers that continue through faults and record every outcome."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import grpc

from bench.chaos.client import CALL_TIMEOUT_SECONDS, Client
from bench.chaos.history import Entry, History
from bench.chaos.writes import Kind, WriteGenerator

WRITERS = 8
WRITES_PER_SECOND = 120.0
MIN_WRITES_PER_SECOND = 50.0
TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Load:
    """Writes over several clients at a fixed rate, or slower if responses are slower."""

    clients: Sequence[Client]
    writes: WriteGenerator
    writers: int = WRITERS
    writes_per_second: float = WRITES_PER_SECOND
    call_timeout_seconds: float = CALL_TIMEOUT_SECONDS
    history: History = field(default_factory=History)
    codes: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    _steady_acknowledged: int = 0
    _steady_seconds: float = 0.0
    _stopping: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write during the block, then wait for all pending calls."""
        self._stopping = False
        writers = [asyncio.create_task(self._write_until_stopped(number)) for number in range(self.writers)]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*writers)

    async def run_steadily(self, seconds: float) -> None:
        """Warm up until about every writer has had a response, then measure the rate. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            before = self.acknowledged
            while self.acknowledged < before + self.writers:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.01)
        started, before = monotonic(), self.acknowledged
        await asyncio.sleep(seconds)
        self._steady_seconds += monotonic() - started
        self._steady_acknowledged += self.acknowledged - before

    async def wait_until_acknowledged(self) -> float:
        """Send writes until one is acknowledged. Returns the seconds that takes. Raises TimeoutError."""
        started = monotonic()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                entry = await self._write()
                if entry.ids:
                    return monotonic() - started
                await asyncio.sleep(0.02)

    def rate(self) -> float:
        """Return the acknowledged writes per second while running steadily."""
        return self._steady_acknowledged / self._steady_seconds if self._steady_seconds else 0.0

    def format_codes(self) -> str:
        """Return the number of calls by status code, for a summary."""
        return format_codes(self.codes)

    async def _write_until_stopped(self, number: int) -> None:
        interval = self.writers / self.writes_per_second
        await asyncio.sleep(interval * number / self.writers)
        due = monotonic()
        while not self._stopping:
            await self._write(number)
            due = max(due + interval, monotonic())
            await asyncio.sleep(due - monotonic())

    async def _write(self, number: int = 0) -> Entry:
        write = self.writes.random()
        entry = self.history.add(write)
        try:
            response = await self.clients[number % len(self.clients)].send(write, timeout=self.call_timeout_seconds)
        except grpc.aio.AioRpcError as error:
            self.codes[error.code().name] += 1
            entry.fail(error.code())
        else:
            self.codes["OK"] += 1
            self.acknowledged += 1
            entry.acknowledge(response)
            if write.kind is Kind.MAILBOXES:
                self.writes.add_mailboxes(entry.ids)
        return entry


def format_codes(codes: Counter[str]) -> str:
    """Return the number of calls by status code, sorted by code."""
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
