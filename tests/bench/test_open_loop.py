"""Open-loop load: slow calls delay no others, and latency counts from the time a call is due."""

import asyncio

import grpc
import pytest

from bench.open_loop import run_at_rate


def failure(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


async def test_slow_call_delays_no_others() -> None:
    started = asyncio.Semaphore(0)

    async def call(number: int) -> None:
        started.release()
        if number == 0:  # ends once all others have started
            for _ in range(20):
                await started.acquire()

    latencies = await asyncio.wait_for(run_at_rate(call, 1_000, 0.02), 10)
    assert len(latencies.succeeded) == 20


async def test_event_loop_delay_counts_as_latency() -> None:
    started = asyncio.get_running_loop().time()
    completed = []

    async def call(number: int) -> None:
        if number == 0:
            while asyncio.get_running_loop().time() < started + 0.2:
                pass  # blocks the event loop
        completed.append(number)

    latencies = await run_at_rate(call, 100, 0.1)
    assert sorted(completed) == list(range(10))
    # The last was due 90 ms after the first, and started at least 200 ms after it.
    assert min(latencies.succeeded) >= 0.1


async def test_rejections_are_counted_separately() -> None:
    async def call(number: int) -> None:
        if number % 4 == 0:
            raise failure(grpc.StatusCode.RESOURCE_EXHAUSTED)

    latencies = await run_at_rate(call, 1_000, 0.008)
    assert (len(latencies.succeeded), len(latencies.rejected), latencies.share_rejected) == (6, 2, 0.25)


async def test_other_errors_are_raised() -> None:
    async def call(_: int) -> None:
        raise failure(grpc.StatusCode.INTERNAL)

    with pytest.raises(ExceptionGroup):
        await run_at_rate(call, 1_000, 0.003)
