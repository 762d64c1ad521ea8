"""The clocks: the system's, and the trial clock that several processes share."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from postroomd.clock import Clock, TrialClock

DAY = timedelta(days=1)


def test_a_trial_clock_starts_at_the_system_time() -> None:
    before = Clock().now()
    assert before <= TrialClock().now() <= Clock().now()


async def test_advance_waits_until_the_worker_has_caught_up() -> None:
    clock = TrialClock()
    clock.mark_caught_up(clock.now())
    before = clock.now()
    advancing = asyncio.create_task(clock.advance(DAY))
    await asyncio.sleep(0)
    assert clock.now() - before >= DAY
    clock.mark_caught_up(before + DAY / 2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(advancing), 0.05)
    clock.mark_caught_up(clock.now())
    assert await advancing - before >= DAY


async def test_advance_wakes_a_waiting_worker() -> None:
    clock, stop = TrialClock(), asyncio.Event()

    async def work() -> None:
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            clock.mark_caught_up(clock.now())
            await clock.wait({stopping}, 3_600)

    working = asyncio.create_task(work())
    start = clock.now()
    for _ in range(12):
        await clock.advance(30 * DAY)
    assert clock.now() - start >= 360 * DAY
    stop.set()
    await working


@pytest.mark.parametrize("clock", [Clock(), TrialClock()])
async def test_wait_ends_with_its_timeout_or_an_event(clock: Clock) -> None:
    event = asyncio.get_running_loop().create_future()
    await clock.wait({event}, 0.01)
    waiting = asyncio.create_task(clock.wait({event}, 3_600))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    event.set_result(None)
    await waiting


@pytest.fixture
def forked_clock() -> Iterator[TrialClock]:
    """A clock shared with a forked process that acts as the worker."""
    clock = TrialClock()
    child = os.fork()
    if child == 0:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            clock.mark_caught_up(clock.now())
            time.sleep(0.001)
        os._exit(0)
    yield clock
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def test_forked_processes_share_the_clock(forked_clock: TrialClock) -> None:
    async with asyncio.timeout(9):
        await forked_clock.advance(2 * DAY)
