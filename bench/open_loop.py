"""Calls at a fixed rate, whatever becomes of those before: an open loop.

A call's time counts from the instant at which it was due. Where the service, or this process, is late, that is part of
the time, and not left out with the calls that were never made ("coordinated omission").
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import grpc

from bench.percentiles import percentile

Call = Callable[[int], Awaitable[object]]
"""The `number`th call."""

REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass(frozen=True, slots=True)
class Seen:
    """How long the calls took, in seconds and sorted: those that were served, and those that were refused."""

    served: list[float]
    refused: list[float]

    @property
    def share_refused(self) -> float:
        """The share of the calls that were refused, 0 to 1."""
        return len(self.refused) / (len(self.served) + len(self.refused))

    def p99_ms(self) -> float:
        """The time within which 99 % of the calls that were served were, in milliseconds."""
        return percentile(self.served, 0.99) * 1e3


async def at_rate(call: Call, per_second: float, seconds: float) -> Seen:
    """Make calls at a rate, and wait for the last of them. Raises what a call raises besides a refusal."""
    served: list[float] = []
    refused: list[float] = []
    begun = monotonic()

    async def one(number: int) -> None:
        due = begun + number / per_second
        await asyncio.sleep(max(0.0, due - monotonic()))
        try:
            await call(number)
        except grpc.aio.AioRpcError as error:
            if error.code() is not REFUSED:
                raise
            refused.append(monotonic() - due)
        else:
            served.append(monotonic() - due)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_second * seconds)):
            tasks.create_task(one(number))
    return Seen(sorted(served), sorted(refused))
