"""Open-loop load: calls start at a fixed rate, whether or not earlier calls have completed.

Latency is measured from the time a call is due. Delays of the service or of this process therefore count, and no slow
period is left out of the samples ("coordinated omission").
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import grpc

from bench.percentiles import percentile

Call = Callable[[int], Awaitable[object]]
"""Makes the `number`th call."""

REJECTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies in seconds, sorted, of the calls that succeeded and of those that were rejected."""

    succeeded: list[float]
    rejected: list[float]

    @property
    def share_rejected(self) -> float:
        """The share of rejected calls, 0 to 1."""
        return len(self.rejected) / (len(self.succeeded) + len(self.rejected))

    def p99_ms(self) -> float:
        """The 99th percentile of successful calls, in milliseconds."""
        return percentile(self.succeeded, 0.99) * 1e3


async def run_at_rate(call: Call, per_second: float, seconds: float) -> Latencies:
    """Start calls at a fixed rate and wait for all of them. Raises any error of a call other than a rejection."""
    succeeded: list[float] = []
    rejected: list[float] = []
    started = monotonic()

    async def make_call(number: int) -> None:
        due = started + number / per_second
        await asyncio.sleep(max(0.0, due - monotonic()))
        try:
            await call(number)
        except grpc.aio.AioRpcError as error:
            if error.code() is not REJECTED:
                raise
            rejected.append(monotonic() - due)
        else:
            succeeded.append(monotonic() - due)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_second * seconds)):
            tasks.create_task(make_call(number))
    return Latencies(sorted(succeeded), sorted(rejected))
