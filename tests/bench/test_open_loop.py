"""Calls at a fixed rate: none is left out because another is slow, and each one's time counts from when it was due."""

import asyncio

import grpc
import pytest

from bench.open_loop import at_rate


def failure(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


async def test_slow_calls_hold_up_no_others() -> None:
    under_way = asyncio.Semaphore(0)

    async def call(number: int) -> None:
        under_way.release()
        if number == 0:  # ends once all others have begun
            for _ in range(20):
                await under_way.acquire()

    seen = await asyncio.wait_for(at_rate(call, 1_000, 0.02), 10)
    assert len(seen.served) == 20


async def test_what_delays_the_loop_is_part_of_the_time() -> None:
    begun = asyncio.get_running_loop().time()
    ended = []

    async def call(number: int) -> None:
        if number == 0:
            while asyncio.get_running_loop().time() < begun + 0.2:
                pass  # nothing else gets a turn
        ended.append(number)

    seen = await at_rate(call, 100, 0.1)
    assert sorted(ended) == list(range(10))
    # The last was due 90 ms after the first, and began no earlier than 200 ms after it.
    assert min(seen.served) >= 0.1


async def test_refusals_are_told_apart() -> None:
    async def call(number: int) -> None:
        if number % 4 == 0:
            raise failure(grpc.StatusCode.RESOURCE_EXHAUSTED)

    seen = await at_rate(call, 1_000, 0.008)
    assert (len(seen.served), len(seen.refused), seen.share_refused) == (6, 2, 0.25)


async def test_failures_are_no_refusals() -> None:
    async def call(_: int) -> None:
        raise failure(grpc.StatusCode.INTERNAL)

    with pytest.raises(ExceptionGroup):
        await at_rate(call, 1_000, 0.003)
