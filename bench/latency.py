"""How long one call takes when nobody else calls: one after the other."""

from collections.abc import Awaitable, Callable
from time import perf_counter

from bench.percentiles import percentile

Call = Callable[[int], Awaitable[object]]
"""The `number`th call of a series."""


MOST_SECONDS = 5.0
"""For one series: where calls are slow, so many are not needed to tell."""


async def median_of(call: Call, count: int) -> float:
    """The median time, in milliseconds, of so many calls, or of those that begin in time."""
    taken: list[float] = []
    while len(taken) < count and sum(taken) < MOST_SECONDS:
        started = perf_counter()
        await call(len(taken))
        taken.append(perf_counter() - started)
    return percentile(sorted(taken), 0.5) * 1e3
