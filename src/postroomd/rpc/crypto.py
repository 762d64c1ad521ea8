"""Work that burns a processor core for a while: password hashes and DKIM keys, in threads beside the event loop.

The threads leave a core to the calls, and of the others they have what is left when calls have been served. Each holds
the memory of one hash at most.

A call is let in that need not wait for others much longer than for its own work. It is given an instant by which it
ought to be done, and what has the earliest is done first: one password goes before a hundred that came earlier, and
those who come later can't keep the hundred waiting for ever. What waits is dropped with its caller.
"""

import asyncio
import base64
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from time import perf_counter, thread_time
from typing import Any, Generic, NamedTuple, TypeVar

import argon2

from postroomd.domain.errors import TooManyRequests
from postroomd.observability.metric_types import Histogram
from postroomd.observability.metrics import PASSWORD_SECONDS, PASSWORDS_REFUSED, PASSWORDS_WAITING

SCHEME = "{ARGON2ID}"  # the prefix by which Dovecot knows how a password is hashed
SECONDS_A_PASS = 0.03 / (2 * 19_456)
"""About what Argon2id takes for one pass over one KiB. What hashes take is measured, beginning with this."""

WEIGHT = 0.1
"""Of the last task, in what tasks are taken to last."""

SHORTEST_RETRY = 1.0  # second, that a refused caller is told to wait

NICENESS = 10
"""By how much the threads give way, as nice(2) counts. It weighs them a tenth of the event loop."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DkimKey:
    """An RSA-2048 key pair: the private key as PKCS #8 PEM, the public one as RFC 6376 has it in the DNS."""

    private_pem: str
    public_base64: str

    def __repr__(self) -> str:
        return "DkimKey(…)"


@dataclass(order=True, slots=True)
class _Waiting:
    """A task that waits for a thread. They are in the order in which they are done."""

    due: float  # by the loop's time
    number: int
    task: Callable[[], Any] = field(compare=False)
    answer: "asyncio.Future[Any]" = field(compare=False)
    times: Histogram | None = field(compare=False)


class Crypto:
    """A bounded pool of threads. What would wait too long is refused at once."""

    def __init__(self, *, threads: int, max_wait_seconds: float, hasher: argon2.PasswordHasher) -> None:
        """`max_wait_seconds`: how long a caller may wait for others; as long as for its own, where that is longer."""
        self._threads = threads
        self._most_wait_seconds = max_wait_seconds
        self._hasher = hasher
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="crypto", initializer=_give_way)
        self._free = threads + 1  # one more than can run: a thread that is done finds the next at hand
        self._waiting: list[_Waiting] = []  # a heap
        self._numbers = count()
        self._seconds_a_task = SECONDS_A_PASS * hasher.time_cost * hasher.memory_cost / hasher.parallelism
        self._learns = hasher.parallelism == 1  # more lanes have threads of their own, whose time is not seen

    async def hash_passwords(self, passwords: Sequence[str]) -> list[str]:
        """The hashes of passwords as `{ARGON2ID}$argon2id$…`. Raises TooManyRequests."""
        PASSWORDS_WAITING.inc(len(passwords))
        try:
            return await self._run([partial(self._hash, password) for password in passwords], PASSWORD_SECONDS)
        except TooManyRequests:
            PASSWORDS_REFUSED.inc(len(passwords))
            raise
        finally:
            PASSWORDS_WAITING.dec(len(passwords))

    async def new_dkim_key(self) -> DkimKey:
        """A new key pair. Raises TooManyRequests."""
        (key,) = await self._run([_new_dkim_key], None)
        return key

    def close(self) -> None:
        """Drop what waits, and let the threads end."""
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return SCHEME + self._hasher.hash(password)

    async def _run(self, tasks: Sequence[Callable[[], Result]], times: Histogram | None) -> list[Result]:
        loop = asyncio.get_running_loop()
        due = self._due(len(tasks), loop.time())
        answers: list[asyncio.Future[Result]] = [loop.create_future() for _ in tasks]
        for task, answer in zip(tasks, answers, strict=True):
            heappush(self._waiting, _Waiting(due, next(self._numbers), task, answer, times))
        self._fill()
        try:
            return await asyncio.gather(*answers)
        finally:
            for answer in answers:
                answer.cancel()

    def _due(self, tasks: int, now: float) -> float:
        """By when a caller with so many tasks ought to be done. Raises TooManyRequests where it would wait too long."""
        own = self._seconds_for(tasks)
        patience = max(self._most_wait_seconds, own)
        due = now + patience + own
        before = sum(each.due <= due and not each.answer.done() for each in self._waiting)
        wait = self._seconds_for(before + self._threads + 1 - self._free)
        if wait > patience:
            raise TooManyRequests(max(SHORTEST_RETRY, wait))
        return due

    def _seconds_for(self, tasks: int) -> float:
        return tasks * self._seconds_a_task / self._threads

    def _fill(self) -> None:
        """Give the threads what they have room for."""
        while self._free and self._waiting:
            waiting = heappop(self._waiting)
            if waiting.answer.done():  # its caller has gone
                continue
            self._free -= 1
            running = asyncio.get_running_loop().run_in_executor(self._executor, partial(_timed, waiting.task))
            running.add_done_callback(partial(self._ended, waiting))
            waiting.answer.add_done_callback(partial(_drop, running))

    def _ended(self, waiting: _Waiting, running: "asyncio.Future[_Done[Any]]") -> None:
        self._free += 1
        answer = waiting.answer
        if running.cancelled():  # the pool is closed, or the caller has gone
            answer.cancel()
        elif error := running.exception():
            if not answer.done():
                answer.set_exception(error)
        else:
            self._learn(running.result(), waiting.times)
            if not answer.done():
                answer.set_result(running.result().value)
        self._fill()

    def _learn(self, done: "_Done[Any]", times: Histogram | None) -> None:
        """Take in how long a hash took. The thread does not: it gives way, and is to hold no metric's lock."""
        if times is None:
            return
        times.observe(done.seconds)
        if self._learns:
            self._seconds_a_task += (done.processor_seconds - self._seconds_a_task) * WEIGHT


class _Done(NamedTuple, Generic[Result]):
    """A task's result, and how long it took by the clock and in the thread's processor time."""

    value: Result
    seconds: float
    processor_seconds: float


def _drop(running: "asyncio.Future[Any]", _answer: "asyncio.Future[Any]") -> None:
    """Don't begin what nobody waits for any more."""
    running.cancel()


def _timed(task: Callable[[], Result]) -> _Done[Result]:
    # By the clock a task takes longer where reads have the processors. They are not to have changes refused.
    started, begun = perf_counter(), thread_time()
    result = task()
    return _Done(result, perf_counter() - started, thread_time() - begun)


def usual_threads(processes: int = 1) -> int:
    """How many threads a service hashes with that is not told: together, all processes leave a core for the rest.

    A priority counts inside a container, or a session, and not beside it: to a database server of the same machine,
    threads on all cores are its equals, and a read that waits for its answer waits for them.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, (cores - 1) // processes)


def _give_way() -> None:
    """Lower this thread's priority, where threads have one of their own: elsewhere it would be the process's."""
    if sys.platform == "linux":
        os.nice(NICENESS)


def _new_dkim_key() -> DkimKey:
    # 7 MB of memory, and a good part of the start, that a process without a new domain has no use for.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(private.decode(), base64.b64encode(public).decode())
