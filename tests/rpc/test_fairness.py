"""Fair sharing of slots and queues among keys."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from postroomd.domain.errors import TooManyRequests
from postroomd.fair_queue import FairQueue
from postroomd.rpc.fairness import FairSlots

KEYS = ("a", "b", "c")
SLOTS, MAX_WAITING = 4, 5

pushes = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), max_size=40)


def filled(items: list[tuple[str, int]]) -> FairQueue[int]:
    """A queue whose items are the numbers of their arrival."""
    queue: FairQueue[int] = FairQueue()
    for number, (key, order) in enumerate(items):
        queue.push(key, number, order)
    return queue


@given(pushes)
def test_keys_take_turns_while_their_items_last(items: list[tuple[str, int]]) -> None:
    queue = filled(items)
    waiting, served = Counter(key for key, _ in items), Counter[str]()
    while len(queue):
        key, _ = queue.pop()
        assert all(served[key] <= served[other] for other, count in waiting.items() if count)
        served[key] += 1
        waiting[key] -= 1
    assert served == Counter(key for key, _ in items)


@given(pushes)
def test_items_of_one_key_are_served_by_order_then_arrival(items: list[tuple[str, int]]) -> None:
    queue = filled(items)
    served: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}
    while len(queue):
        key, number = queue.pop()
        assert items[number][0] == key
        served[key].append((items[number][1], number))
    assert all(numbers == sorted(numbers) for numbers in served.values())


@given(pushes, st.sampled_from(KEYS), st.integers(0, 3), st.integers(1, 5))
def test_the_number_ahead_is_what_is_served_before_the_last(
    items: list[tuple[str, int]], key: str, order: int, count: int
) -> None:
    queue = filled(items)
    predicted = queue.ahead_of(key, order, count)
    for number in range(count):
        queue.push(key, -number - 1, order)
    last, served = -count, 0
    while queue.pop()[1] != last:
        served += 1
    # The last turn of each other key comes before or after the last item, depending on where the round began.
    assert predicted - len(KEYS) <= served - (count - 1) <= predicted


@given(pushes, st.sampled_from(KEYS))
def test_discarding_removes_the_items_of_one_key(items: list[tuple[str, int]], key: str) -> None:
    queue = filled(items)
    queue.discard(key, lambda number: number % 2 == 0)
    expected = {number for number, (other, _) in enumerate(items) if other != key or number % 2}
    assert len(queue) == len(expected)
    assert {queue.pop()[1] for _ in expected} == expected


class Slots(RuleBasedStateMachine):
    """Callers that take, await, cancel and release slots in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.slots = FairSlots(SLOTS, MAX_WAITING)
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []
        self.held: list[str] = []

    def step(self) -> None:
        """Run what is ready, and sort callers by what became of them."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        for key, task in [entry for entry in self.waiting if entry[1].done()]:
            self.waiting.remove((key, task))
            with suppress(TooManyRequests, asyncio.CancelledError):
                task.result()
                self.held.append(key)

    @rule(key=st.sampled_from(KEYS))
    def acquire(self, key: str) -> None:
        weights = Counter(self.held) + Counter(waiting for waiting, _ in self.waiting)
        queued = {waiting for waiting, _ in self.waiting}
        is_heaviest = all(weights[key] >= weights[other] - 1 for other in queued)
        task = self.loop.create_task(self.slots.acquire(key))
        self.waiting.append((key, task))
        self.step()
        if task.done() and task.exception():
            assert is_heaviest  # others are displaced first

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if not self.held:
            return
        key = data.draw(st.sampled_from(self.held))
        self.held.remove(key)
        held, queued = Counter(self.held), {waiting for waiting, _ in self.waiting}
        self.slots.release(key)
        self.step()
        granted = Counter(self.held) - held
        assert granted.total() == bool(queued)
        for winner in granted:
            assert all(held[winner] <= held[other] for other in queued)

    @rule(data=st.data(), releases=st.booleans())
    def cancel(self, data: st.DataObject, releases: bool) -> None:
        """Cancel a caller, with `releases` in the same iteration of the event loop as a slot is released."""
        if not self.waiting:
            return
        if releases and self.held:
            self.slots.release(self.held.pop())
        data.draw(st.sampled_from(self.waiting))[1].cancel()
        self.step()

    @invariant()
    def every_slot_is_free_or_held(self) -> None:
        assert self.slots.free == SLOTS - len(self.held)

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        assert not self.slots.free or not self.waiting

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.slots.waiting == len(self.waiting) <= MAX_WAITING

    def teardown(self) -> None:
        for _, task in self.waiting:
            task.cancel()
        self.step()
        for key in self.held:
            self.slots.release(key)
        assert (self.slots.free, self.slots.waiting) == (SLOTS, 0)
        self.loop.close()


test_slots = Slots.TestCase


async def test_one_key_may_hold_every_slot() -> None:
    slots = FairSlots(SLOTS, 0)
    assert [slots.try_acquire("a") for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]
    with pytest.raises(TooManyRequests):
        await slots.acquire("a")


async def test_a_newcomer_gets_the_next_slot_and_displaces_a_flood() -> None:
    slots = FairSlots(2, 3)
    flood = [asyncio.create_task(slots.acquire("a")) for _ in range(5)]
    await asyncio.sleep(0)
    newcomer = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [isinstance(task.exception(), TooManyRequests) for task in flood if task.done()] == [False, False, True]
    slots.release("a")
    await newcomer
    for task in flood[2:4]:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_slot_is_held_during_the_block() -> None:
    slots = FairSlots(1, 0)

    async def fail() -> None:
        async with slots.slot("a"):
            assert slots.free == 0
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert slots.free == 1
