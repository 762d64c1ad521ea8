"""Password hashing in the CPU pool: order, rejection, cancellation, the estimate of a hash's duration, priorities."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from time import thread_time
from typing import Any

import pytest

from postroomd.domain.errors import TooManyRequests
from postroomd.rpc.cpu_pool import NICENESS, CpuPool, default_threads
from postroomd.rpc.dkim import generate_dkim_key
from postroomd.rpc.hashing import SCHEME, SECONDS_PER_KIB_PASS, PasswordHashing, estimated_hash_seconds

ORGANIZATION = "organization"
PASSES, KIB = 3, 10_000
HASH_SECONDS = SECONDS_PER_KIB_PASS * PASSES * KIB
"""The initial estimate of a hash's duration."""


class ControlledHasher:
    """A hasher that completes one hash for each permit released."""

    time_cost = PASSES
    memory_cost = KIB
    parallelism = 1

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.started: list[str] = []
        self.max_concurrency = 0
        self.niceness = 0
        self._concurrency = 0
        self._lock = threading.Lock()

    def hash(self, password: str) -> str:
        with self._lock:
            self.started.append(password)
            self._concurrency += 1
            self.max_concurrency = max(self.max_concurrency, self._concurrency)
        self.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self.permits.acquire()
        with self._lock:
            self._concurrency -= 1
        return password.upper()


@pytest.fixture
def hasher() -> Iterator[ControlledHasher]:
    controlled = ControlledHasher()
    yield controlled
    controlled.permits.release(10_000)  # blocked threads would keep the process alive


def hashing_with(hasher: Any, *, threads: int = 1, max_wait_seconds: float = 60) -> PasswordHashing:
    pool = CpuPool(threads=threads, max_wait_seconds=max_wait_seconds, task_seconds=estimated_hash_seconds(hasher))
    return PasswordHashing(pool, hasher)


def passwords(count: int) -> list[str]:
    return [f"password {number}" for number in range(count)]


async def wait_for_started(hasher: ControlledHasher, count: int) -> None:
    """Wait until a number of hashes have started."""
    async with asyncio.timeout(30):
        while len(hasher.started) < count:  # noqa: ASYNC110 # threads start them
            await asyncio.sleep(0.001)


async def test_a_batch_is_hashed_in_order_on_all_threads(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, threads=3)
    batch = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(50)))
    await wait_for_started(hasher, 3)
    hasher.permits.release(50)
    assert await batch == [SCHEME + password.upper() for password in passwords(50)]
    assert hasher.max_concurrency == 3


async def test_threads_that_may_not_lower_their_priority_hash_all_the_same(
    hasher: ControlledHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: int) -> int:
        raise PermissionError  # of a filter of system calls, such as a systemd unit's

    monkeypatch.setattr(os, "nice", denied)
    hasher.permits.release(2)
    assert len(await hashing_with(hasher).hash_passwords(ORGANIZATION, passwords(2))) == 2


async def test_a_single_password_overtakes_an_earlier_batch(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher)
    batch = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(100)))
    await wait_for_started(hasher, 1)
    single = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, ["single"]))
    while not single.done():
        following = len(hasher.started) + 1  # before the thread goes on, which begins the next hash by itself
        hasher.permits.release()
        await wait_for_started(hasher, following)
    assert len(hasher.started) < 10
    assert not batch.done()
    hasher.permits.release(100)
    assert len(await batch) == 100


async def test_cancelling_a_caller_drops_its_queued_tasks(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, max_wait_seconds=0)
    cancelled = [asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(100))) for _ in range(2)]
    await wait_for_started(hasher, 1)
    with pytest.raises(TooManyRequests):
        await hashing.hash_passwords(ORGANIZATION, ["late"])
    for batch in cancelled:
        batch.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    hasher.permits.release(100)
    assert await hashing.hash_passwords(ORGANIZATION, ["next"]) == [f"{SCHEME}NEXT"]
    assert set(hasher.started) == {"password 0", "next"}


async def test_a_caller_that_would_exceed_the_maximum_wait_is_rejected(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, threads=2, max_wait_seconds=50 * HASH_SECONDS)
    singles = [asyncio.create_task(hashing.hash_passwords(ORGANIZATION, [password])) for password in passwords(150)]
    await wait_for_started(hasher, 2)
    rejected = [each for each in singles if each.done() and isinstance(each.exception(), TooManyRequests)]
    assert len(rejected) == 150 - 101  # 100 hashes take the maximum wait on two threads, and one more queues behind
    hasher.permits.release(101)
    results = await asyncio.gather(*singles, return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 101


async def test_a_batch_may_queue_for_as_long_as_its_own_hashes_take(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, max_wait_seconds=0)
    first, second, third = (asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(100))) for _ in range(3))
    await wait_for_started(hasher, 1)
    with pytest.raises(TooManyRequests) as rejection:
        await third
    assert rejection.value.retry_after_seconds == pytest.approx(200 * HASH_SECONDS)
    hasher.permits.release(200)
    assert [len(hashes) for hashes in await asyncio.gather(first, second)] == [100, 100]


async def test_later_callers_do_not_starve_a_batch(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, max_wait_seconds=0)
    loop = asyncio.get_running_loop()
    batch = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(5)))
    await wait_for_started(hasher, 1)
    singles = []
    start = loop.time()
    while loop.time() < start + 11 * HASH_SECONDS:  # just past the batch's deadline, twice its own duration
        singles.append(asyncio.create_task(hashing.hash_passwords(ORGANIZATION, ["single"])))
        await asyncio.sleep(HASH_SECONDS / 4)
    waiting = [each for each in singles if not each.done()]
    late = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, ["late"] * 5))
    await asyncio.sleep(0)
    hasher.permits.release(1_000)
    await asyncio.gather(batch, late, *waiting)
    assert hasher.started.index("late") > hasher.started.index("password 4")


async def test_organizations_take_turns(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher)
    flood = [asyncio.create_task(hashing.hash_passwords("flood", passwords(100))) for _ in range(3)]
    await wait_for_started(hasher, 1)
    others = [
        asyncio.create_task(hashing.hash_passwords(organization, [f"{organization} {number}" for number in range(5)]))
        for organization in ("one", "two")
    ]
    while not all(other.done() for other in others):
        following = len(hasher.started) + 1  # before the thread goes on, which begins the next hash by itself
        hasher.permits.release()
        await wait_for_started(hasher, following)
    assert len(hasher.started) < 3 * 5 + 5  # each of the three gets a third
    hasher.permits.release(300)
    await asyncio.gather(*flood)


async def test_a_full_queue_of_one_organization_rejects_only_its_own_passwords(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher, max_wait_seconds=10 * HASH_SECONDS)
    flood = [asyncio.create_task(hashing.hash_passwords("flood", ["flood"])) for _ in range(30)]
    await wait_for_started(hasher, 1)
    assert sum(each.done() for each in flood) > 15
    other = asyncio.create_task(hashing.hash_passwords("other", ["other"]))
    await asyncio.sleep(0)
    assert not other.done()
    hasher.permits.release(30)
    assert await other == [f"{SCHEME}OTHER"]
    await asyncio.gather(*flood, return_exceptions=True)


@pytest.mark.parametrize(("lanes", "updates"), [(1, True), (2, False)])
async def test_single_lane_hashes_update_the_estimate(lanes: int, updates: bool) -> None:
    class SlowHasher(ControlledHasher):
        parallelism = lanes

        def hash(self, password: str) -> str:
            end = thread_time() + 0.2
            while thread_time() < end:
                pass
            return password

    hashing = hashing_with(SlowHasher(), max_wait_seconds=2.5 * HASH_SECONDS / lanes)
    await hashing.hash_passwords(ORGANIZATION, passwords(3))
    # With the initial estimate two hashes fit into the maximum wait, with the measured duration only one.
    concurrent = [asyncio.create_task(hashing.hash_passwords(ORGANIZATION, [password])) for password in passwords(3)]
    results = await asyncio.gather(*concurrent, return_exceptions=True)
    assert [isinstance(result, TooManyRequests) for result in results] == [False, False, updates]


async def test_key_generation_leaves_the_estimate_of_a_hash_unchanged(hasher: ControlledHasher) -> None:
    pool = hashing_with(hasher).pool
    await pool.run(ORGANIZATION, [generate_dkim_key])
    assert pool.task_seconds == HASH_SECONDS


async def test_closing_the_pool_cancels_the_queued_tasks(hasher: ControlledHasher) -> None:
    hashing = hashing_with(hasher)
    batch = asyncio.create_task(hashing.hash_passwords(ORGANIZATION, passwords(10)))
    await wait_for_started(hasher, 1)
    hashing.pool.close()
    hasher.permits.release(10)
    with pytest.raises(asyncio.CancelledError):
        await batch


async def test_a_failing_hash_fails_only_its_own_batch(hasher: ControlledHasher) -> None:
    class FailingHasher(ControlledHasher):
        def hash(self, password: str) -> str:
            if password == "password 1":
                raise MemoryError
            return password.upper()

    hashing = hashing_with(FailingHasher(), threads=2)
    with pytest.raises(MemoryError):
        await hashing.hash_passwords(ORGANIZATION, passwords(3))
    assert await hashing.hash_passwords(ORGANIZATION, ["next"]) == [f"{SCHEME}NEXT"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority per thread")
async def test_pool_threads_have_a_lower_priority_than_the_event_loop(hasher: ControlledHasher) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    hasher.permits.release()
    await hashing_with(hasher).hash_passwords(ORGANIZATION, ["one"])
    assert hasher.niceness == min(19, before + NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a processor affinity")
@pytest.mark.parametrize(
    ("cores", "processes", "threads"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (64, 1, 63), (9, 4, 2), (4, 4, 1)]
)
def test_the_default_thread_count_leaves_one_core_free(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))
    assert default_threads(processes) == threads
