"""How long one call takes when nobody else calls: one after the other."""

from collections.abc import Awaitable, Callable
from time import perf_counter

from bench.percentiles import percentile

Call = Callable[[int], Awaitable[object]]
"""The `number`th call of a series."""


async def median_of(call: Call, count: int) -> float:
    """The median time, in milliseconds, of so many calls."""
    taken = []
    for number in range(count):
        started = perf_counter()
        await call(number)
        taken.append(perf_counter() - started)
    return percentile(sorted(taken), 0.5) * 1e3
