"""Scheduling of CPU-bound work: a bounded thread pool beside the event loop, fair to organizations.

Password hashing and RSA key generation release the interpreter lock, so they run in threads. The pool leaves one core
to the event loop (`default_threads`), and on Linux its threads have a lower priority than the event loop. Each thread
runs one task at a time, which bounds the memory of Argon2 to one hash per thread.

Organizations take turns (`FairQueue`). A batch gets a deadline when it is submitted: its maximum queueing time plus the
estimated duration of its own tasks. Within an organization, tasks run in order of their deadlines. A single password
therefore overtakes a batch of 100 submitted before it, and later submissions cannot starve that batch. A batch that
would exceed its maximum queueing time is rejected at once. Cancelling a caller drops its queued tasks.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, thread_time
from typing import Any, Generic, NamedTuple, TypeVar

from postroomd.domain.errors import TooManyRequests
from postroomd.fair_queue import FairQueue

EWMA_WEIGHT = 0.1  # of the latest duration in the estimate

MIN_RETRY_SECONDS = 1.0

NICENESS = 10  # added to the threads' nice(2) value: a tenth of the event loop's scheduling weight

Result = TypeVar("Result")


class Timing(NamedTuple):
    """How long a task ran: elapsed time, and processor time of its thread, in seconds."""

    elapsed: float
    processor: float


class _Completed(NamedTuple, Generic[Result]):
    """The result of a task, and its timing."""

    result: Result
    timing: Timing


OnCompleted = Callable[[Timing], None]


@dataclass(eq=False, slots=True)
class _QueuedTask:
    """A task in the queue."""

    task: Callable[[], Any] = field(repr=False)  # its arguments may be passwords
    future: "asyncio.Future[Any]"
    on_completed: OnCompleted | None


class CpuPool:
    """A bounded pool of threads that rejects what would queue for too long.

    `max_wait_seconds` is how long a batch may queue behind other batches, or the duration of its own tasks if that is
    longer. `task_seconds` is the initial estimate of a task's processor time.
    """

    def __init__(self, *, threads: int, max_wait_seconds: float, task_seconds: float) -> None:
        self._threads = threads
        self._max_wait_seconds = max_wait_seconds
        self._task_seconds = task_seconds
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="cpu", initializer=_lower_priority)
        # One slot more than threads: a thread that completes a task finds the next one in the executor's queue.
        self._free_slots = threads + 1
        self._queue: FairQueue[_QueuedTask] = FairQueue()  # by organization; ordered by deadline

    @property
    def task_seconds(self) -> float:
        """The estimated processor time of one task, in seconds."""
        return self._task_seconds

    def update_estimate(self, seconds: float) -> None:
        """Include the processor time of one more task in the moving average."""
        self._task_seconds += (seconds - self._task_seconds) * EWMA_WEIGHT

    async def run(
        self, organization_id: str, tasks: Sequence[Callable[[], Result]], on_completed: OnCompleted | None = None
    ) -> list[Result]:
        """Run a batch of an organization's tasks in the pool, and return their results in order.

        `on_completed` is called on the event loop after each task that succeeds. Raises TooManyRequests if the batch
        would queue for too long, and the first exception of a task.
        """
        loop = asyncio.get_running_loop()
        deadline = self._deadline(organization_id, len(tasks), loop.time())
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in tasks]
        for task, future in zip(tasks, futures, strict=True):
            self._queue.push(organization_id, _QueuedTask(task, future, on_completed), deadline)
        self._dispatch()
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()
            self._queue.discard(organization_id, lambda queued: queued.future.done())

    def close(self) -> None:
        """Cancel the queued tasks, and let the threads end."""
        for queued in self._queue.clear():
            queued.future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _deadline(self, organization_id: str, tasks: int, now: float) -> float:
        """Return the deadline of a new batch. Raises TooManyRequests if it would queue for too long."""
        duration = self._duration(tasks)
        max_wait = max(self._max_wait_seconds, duration)
        deadline = now + max_wait + duration
        ahead = self._queue.ahead_of(organization_id, deadline, tasks)
        wait = self._duration(ahead + self._threads + 1 - self._free_slots)
        if wait > max_wait:
            raise TooManyRequests(max(MIN_RETRY_SECONDS, wait))
        return deadline

    def _duration(self, tasks: int) -> float:
        """Return the estimated duration of a number of tasks on all threads, in seconds."""
        return tasks * self._task_seconds / self._threads

    def _dispatch(self) -> None:
        """Move queued tasks to the executor while it has free slots."""
        while self._free_slots and self._queue:
            organization_id, queued = self._queue.pop()
            if queued.future.done():  # canceled in this iteration of the event loop
                self._queue.finish(organization_id)
                continue
            self._free_slots -= 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, partial(_timed, queued.task))
            running.add_done_callback(partial(self._on_done, organization_id, queued))
            queued.future.add_done_callback(partial(_cancel, running))

    def _on_done(self, organization_id: str, queued: _QueuedTask, running: "asyncio.Future[_Completed[Any]]") -> None:
        self._free_slots += 1
        self._queue.finish(organization_id)
        future = queued.future
        if running.cancelled():  # by close(), or by the caller before a thread took the task
            future.cancel()
        elif error := running.exception():
            if not future.done():
                future.set_exception(error)
        else:
            completed = running.result()
            # Not called in the thread, which has a low priority and could hold the lock of a metric for long.
            if queued.on_completed is not None:
                queued.on_completed(completed.timing)
            if not future.done():
                future.set_result(completed.result)
        self._dispatch()


def default_threads(processes: int = 1) -> int:
    """Return the number of threads for each of `processes` processes: together, they leave one core free.

    Thread priorities count only within a container or a session. For a database server on the same machine, threads on
    all cores would compete with it as equals, and delay every read that waits for its response.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, (cores - 1) // processes)


def _cancel(running: "asyncio.Future[Any]", _future: "asyncio.Future[Any]") -> None:
    running.cancel()


def _timed(task: Callable[[], Result]) -> _Completed[Result]:
    # The estimate uses processor time: elapsed time also grows while the event loop is busy with reads, which must not
    # cause password requests to be rejected.
    elapsed, processor = perf_counter(), thread_time()
    result = task()
    return _Completed(result, Timing(perf_counter() - elapsed, thread_time() - processor))


def _lower_priority() -> None:
    """Lower the priority of this thread, unless a filter of system calls denies it.

    Other systems than Linux have one priority per process. An exception would break the pool.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.nice(NICENESS)
