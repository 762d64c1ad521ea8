"""Latency of one client without concurrency: sequential calls."""

from collections.abc import Awaitable, Callable
from time import perf_counter

from bench.percentiles import percentile

Call = Callable[[int], Awaitable[object]]
"""Makes the `number`th call of a series."""

MAX_SECONDS = 5.0
"""Maximum duration of a series: slow calls need fewer samples."""


async def median_ms(call: Call, count: int) -> float:
    """Return the median duration in milliseconds of up to `count` calls, as many as begin within MAX_SECONDS."""
    durations: list[float] = []
    while len(durations) < count and sum(durations) < MAX_SECONDS:
        started = perf_counter()
        await call(len(durations))
        durations.append(perf_counter() - started)
    return percentile(sorted(durations), 0.5) * 1e3
