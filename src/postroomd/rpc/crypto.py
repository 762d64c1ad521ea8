"""Work that burns a processor core for a while: password hashes and DKIM keys, in threads beside the event loop.

The threads leave a core to the calls, and of the others they have what is left when calls have been served. Each holds
the memory of one hash at most. Callers take turns, a task each; what waits is dropped with its caller. Nobody is let in
who would wait for others much longer than for his own work: who is let in is answered about as soon on a busy day as
on a calm one.
"""

import asyncio
import base64
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter, thread_time
from typing import Generic, NamedTuple, TypeVar

import argon2

from postroomd.domain.errors import TooManyRequests
from postroomd.metrics import PASSWORD_SECONDS, PASSWORDS_REFUSED, PASSWORDS_WAITING, Times

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


class Crypto:
    """A bounded pool of threads. What would wait too long is refused at once."""

    def __init__(self, *, threads: int, most_wait_seconds: float, hasher: argon2.PasswordHasher) -> None:
        """`most_wait_seconds`: how long a caller may wait for others; as long as for its own, where that is longer."""
        self._threads = threads
        self._most_wait_seconds = most_wait_seconds
        self._hasher = hasher
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="crypto", initializer=_give_way)
        # One task more than can run: a thread that is done finds the next at hand.
        self._at_once = threads + 1
        self._turns = asyncio.Semaphore(self._at_once)
        self._left: dict[object, int] = {}  # tasks of each caller
        self._seconds_a_task = SECONDS_A_PASS * hasher.time_cost * hasher.memory_cost

    async def hash_passwords(self, passwords: Sequence[str]) -> list[str]:
        """The hashes of passwords as `{ARGON2ID}$argon2id$…`. Raises TooManyRequests."""
        PASSWORDS_WAITING.of().inc(len(passwords))
        try:
            return await self._run([partial(self._hash, password) for password in passwords], PASSWORD_SECONDS)
        except TooManyRequests:
            PASSWORDS_REFUSED.of().inc(len(passwords))
            raise
        finally:
            PASSWORDS_WAITING.of().dec(len(passwords))

    async def new_dkim_key(self) -> DkimKey:
        """A new key pair. Raises TooManyRequests."""
        (key,) = await self._run([_new_dkim_key], None)
        return key

    def close(self) -> None:
        """Drop what waits, and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return SCHEME + self._hasher.hash(password)

    def _seconds_for(self, tasks: int) -> float:
        return tasks * self._seconds_a_task / self._threads

    def _require_room(self, tasks: int) -> None:
        """Raise TooManyRequests where a caller with so many tasks would wait too long for others."""
        wait = self._seconds_for(tasks_ahead(self._left.values(), tasks))
        if wait > max(self._most_wait_seconds, self._seconds_for(tasks)):
            raise TooManyRequests(max(SHORTEST_RETRY, wait))

    async def _run(self, tasks: Sequence[Callable[[], Result]], times: Times | None) -> list[Result]:
        self._require_room(len(tasks))
        caller = object()
        self._left[caller] = len(tasks)
        results: dict[int, Result] = {}
        queue = iter(enumerate(tasks))

        async def take_turns() -> None:
            loop = asyncio.get_running_loop()
            for place, task in queue:
                # Whoever has had a turn goes to the end of the line: one password need not wait for a hundred.
                async with self._turns:
                    done = await loop.run_in_executor(self._executor, partial(_timed, task))
                results[place] = done.result
                self._left[caller] -= 1
                self._seconds_a_task += (done.processor_seconds - self._seconds_a_task) * WEIGHT
                if times:  # counted here: metrics have locks, and a thread that gives way must hold none
                    times.of().observe(done.seconds)

        runners = [asyncio.create_task(take_turns()) for _ in range(min(self._at_once, len(tasks)))]
        try:
            await asyncio.gather(*runners)
        finally:
            for runner in runners:
                runner.cancel()
            del self._left[caller]
        return [results[place] for place in range(len(tasks))]


def tasks_ahead(left: Iterable[int], tasks: int) -> int:
    """How many tasks of other callers, by what each has left, are done before the last of so many of one's own.

    Callers take turns: of each other one, no more than as many come between.
    """
    return sum(min(others, tasks) for others in left)


class _Done(NamedTuple, Generic[Result]):
    """A task's result, and how long it took by the clock and in the thread's processor time."""

    result: Result
    seconds: float
    processor_seconds: float


def _timed(task: Callable[[], Result]) -> _Done[Result]:
    # By the clock a task takes longer where reads have the processors. They are not to have changes refused.
    started, begun = perf_counter(), thread_time()
    result = task()
    return _Done(result, perf_counter() - started, thread_time() - begun)


def usual_threads() -> int:
    """How many threads a service hashes with that is not told: as many as it has cores, and one left for the rest.

    A priority counts inside a container, or a session, and not beside it: to a database server of the same machine,
    threads on all cores are its equals, and a read that waits for its answer waits for them.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores - 1)


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
