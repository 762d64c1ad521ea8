"""Long work runs outside the event loop, one at a time."""

import asyncio
import threading

import pytest

from postroomd.long_work import LongWork


async def test_functions_run_one_at_a_time_outside_the_event_loop() -> None:
    work, lock = LongWork(), threading.Lock()

    def function(number: int) -> int:
        assert lock.acquire(blocking=False)  # no other runs
        assert threading.current_thread() is not threading.main_thread()
        lock.release()
        return -number

    assert await asyncio.gather(*(work.run(function, number) for number in range(20))) == [-n for n in range(20)]


async def test_a_failure_is_raised_and_keeps_no_turn() -> None:
    work = LongWork()
    with pytest.raises(ValueError, match="invalid literal"):
        await work.run(int, "no number")
    assert await work.run(len, "ab") == 2
