"""The pool of threads that hash passwords: whose turn it is, what is dropped, what the process notes of it."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from postroomd.domain.errors import TooManyRequests
from postroomd.rpc.crypto import NICENESS, SCHEME, Crypto


class Hasher:
    """Hashes when it is told to, one password a permit."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.begun: list[str] = []
        self.most_at_once = 0
        self.niceness = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def hash(self, password: str) -> str:
        with self._lock:
            self.begun.append(password)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self.permits.acquire()
        with self._lock:
            self._at_once -= 1
        return password.upper()


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    made = Hasher()
    yield made
    made.permits.release(10_000)  # or its threads would keep the process alive


def crypto_of(hasher: Any, *, threads: int = 1, most_waiting: int = 400) -> Crypto:
    return Crypto(threads=threads, most_waiting=most_waiting, hasher=hasher)


def passwords(count: int) -> list[str]:
    return [f"password {number}" for number in range(count)]


async def begun(hasher: Hasher, count: int) -> None:
    """Wait until so many hashes have begun."""
    async with asyncio.timeout(10):
        while len(hasher.begun) < count:  # noqa: ASYNC110 # another thread begins them
            await asyncio.sleep(0.001)


async def test_a_batch_is_hashed_in_its_order_by_as_many_threads_as_there_are(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, threads=3)
    batch = asyncio.create_task(crypto.hash_passwords(passwords(50)))
    await begun(hasher, 3)
    hasher.permits.release(50)
    assert await batch == [SCHEME + password.upper() for password in passwords(50)]
    assert hasher.most_at_once == 3


async def test_one_password_does_not_wait_for_a_batch_that_came_before(hasher: Hasher) -> None:
    crypto = crypto_of(hasher)
    batch = asyncio.create_task(crypto.hash_passwords(passwords(100)))
    await begun(hasher, 1)
    single = asyncio.create_task(crypto.hash_passwords(["single"]))
    while not single.done():
        hasher.permits.release()
        await begun(hasher, len(hasher.begun) + 1)
    assert len(hasher.begun) < 10
    assert not batch.done()
    hasher.permits.release(100)
    assert len(await batch) == 100


async def test_what_waits_is_dropped_with_its_caller_and_makes_room(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, most_waiting=100)
    gone = asyncio.create_task(crypto.hash_passwords(passwords(100)))
    await begun(hasher, 1)
    with pytest.raises(TooManyRequests):
        await crypto.hash_passwords(["late"])
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    hasher.permits.release(100)
    assert await crypto.hash_passwords(["next"]) == [f"{SCHEME}NEXT"]
    assert hasher.begun == ["password 0", "next"]


async def test_many_small_requests_are_bounded_as_one_large_is(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, threads=2, most_waiting=100)
    small = [asyncio.create_task(crypto.hash_passwords([password])) for password in passwords(150)]
    await begun(hasher, 2)
    refused = [each for each in small if each.done() and isinstance(each.exception(), TooManyRequests)]
    assert len(refused) == 50
    hasher.permits.release(100)
    answers = await asyncio.gather(*small, return_exceptions=True)
    assert sum(isinstance(answer, list) for answer in answers) == 100


async def test_a_hash_that_fails_fails_its_batch_alone(hasher: Hasher) -> None:
    class Failing(Hasher):
        def hash(self, password: str) -> str:
            if password == "password 1":
                raise MemoryError
            return password.upper()

    crypto = crypto_of(Failing(), threads=2)
    with pytest.raises(MemoryError):
        await crypto.hash_passwords(passwords(3))
    assert await crypto.hash_passwords(["next"]) == [f"{SCHEME}NEXT"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
async def test_the_threads_give_way_and_the_event_loop_does_not(hasher: Hasher) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    hasher.permits.release()
    await crypto_of(hasher).hash_passwords(["one"])
    assert hasher.niceness == min(19, before + NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
