"""The pool of threads that hash passwords: whose turn it is, what is dropped, what the process notes of it."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from time import thread_time
from typing import Any

import pytest

from postroomd.domain.errors import TooManyRequests
from postroomd.rpc.crypto import NICENESS, SCHEME, SECONDS_A_PASS, Crypto, usual_threads

PASSES, KIB = 3, 10_000
SECONDS_A_HASH = SECONDS_A_PASS * PASSES * KIB


class Hasher:
    """Hashes when it is told to, one password a permit."""

    time_cost = PASSES
    memory_cost = KIB
    parallelism = 1

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


def crypto_of(hasher: Any, *, threads: int = 1, max_wait_seconds: float = 60) -> Crypto:
    return Crypto(threads=threads, max_wait_seconds=max_wait_seconds, hasher=hasher)


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
    crypto = crypto_of(hasher, max_wait_seconds=0)
    gone = [asyncio.create_task(crypto.hash_passwords(passwords(100))) for _ in range(2)]
    await begun(hasher, 1)
    with pytest.raises(TooManyRequests):
        await crypto.hash_passwords(["late"])
    for each in gone:
        each.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    hasher.permits.release(100)
    assert await crypto.hash_passwords(["next"]) == [f"{SCHEME}NEXT"]
    assert set(hasher.begun) == {"password 0", "next"}


async def test_a_caller_is_refused_who_would_wait_longer_than_is_allowed(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, threads=2, max_wait_seconds=50 * SECONDS_A_HASH)
    small = [asyncio.create_task(crypto.hash_passwords([password])) for password in passwords(150)]
    await begun(hasher, 2)
    refused = [each for each in small if each.done() and isinstance(each.exception(), TooManyRequests)]
    assert len(refused) == 150 - 101  # a hundred take as long on two threads, and one comes after them
    hasher.permits.release(101)
    answers = await asyncio.gather(*small, return_exceptions=True)
    assert sum(isinstance(answer, list) for answer in answers) == 101


async def test_a_batch_may_wait_for_others_as_long_as_its_own_hashes_take(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, max_wait_seconds=0)
    first, second, third = (asyncio.create_task(crypto.hash_passwords(passwords(100))) for _ in range(3))
    await begun(hasher, 1)
    with pytest.raises(TooManyRequests) as refusal:
        await third
    assert refusal.value.retry_after_seconds == pytest.approx(200 * SECONDS_A_HASH)
    hasher.permits.release(200)
    assert [len(answer) for answer in await asyncio.gather(first, second)] == [100, 100]


async def test_who_comes_later_does_not_keep_a_batch_waiting_for_ever(hasher: Hasher) -> None:
    crypto = crypto_of(hasher, max_wait_seconds=0)
    loop = asyncio.get_running_loop()
    batch = asyncio.create_task(crypto.hash_passwords(passwords(5)))
    await begun(hasher, 1)
    singles = []
    since = loop.time()
    while loop.time() < since + 11 * SECONDS_A_HASH:  # twice what the batch's own hashes take, and a little more
        singles.append(asyncio.create_task(crypto.hash_passwords(["single"])))
        await asyncio.sleep(SECONDS_A_HASH / 4)
    waiting = [each for each in singles if not each.done()]
    late = asyncio.create_task(crypto.hash_passwords(["late"] * 5))
    await asyncio.sleep(0)
    hasher.permits.release(1_000)
    await asyncio.gather(batch, late, *waiting)
    assert hasher.begun.index("late") > hasher.begun.index("password 4")


@pytest.mark.parametrize(("lanes", "learns"), [(1, True), (2, False)])
async def test_what_hashes_take_is_measured_where_it_can_be(lanes: int, learns: bool) -> None:
    class Slow(Hasher):
        parallelism = lanes

        def hash(self, password: str) -> str:
            until = thread_time() + 0.2
            while thread_time() < until:
                pass
            return password

    crypto = crypto_of(Slow(), max_wait_seconds=2.5 * SECONDS_A_HASH / lanes)
    await crypto.hash_passwords(passwords(3))
    # Each was taken to be so short that two more may come first, and is so long that only one may.
    together = [asyncio.create_task(crypto.hash_passwords([password])) for password in passwords(3)]
    answers = await asyncio.gather(*together, return_exceptions=True)
    assert [isinstance(answer, TooManyRequests) for answer in answers] == [False, False, learns]


async def test_a_key_teaches_nothing_of_how_long_a_hash_takes(hasher: Hasher) -> None:
    crypto = crypto_of(hasher)
    await crypto.new_dkim_key()
    assert crypto._seconds_a_task == SECONDS_A_HASH


async def test_what_waits_when_the_pool_is_closed_is_dropped(hasher: Hasher) -> None:
    crypto = crypto_of(hasher)
    batch = asyncio.create_task(crypto.hash_passwords(passwords(10)))
    await begun(hasher, 1)
    crypto.close()
    hasher.permits.release(10)
    with pytest.raises(asyncio.CancelledError):
        await batch


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process has all the cores there are")
@pytest.mark.parametrize(
    ("cores", "processes", "threads"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (64, 1, 63), (9, 4, 2), (4, 4, 1)]
)
def test_one_of_the_cores_that_the_processes_may_use_is_left_for_calls(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert usual_threads(processes) == threads
