"""Fair order of waiting items by keys, such as organizations or client addresses.

The next turn goes to the waiting key with the fewest items in service; ties are broken by round robin. A key may
therefore use the whole capacity while it is alone. Once others wait, it gets nothing more until they hold as much as it
does (max-min fairness).
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class _Entry(NamedTuple, Generic[Item]):
    """A waiting item. Items of one key are served by `order`, then as they came."""

    order: float
    number: int
    item: Item


class FairQueue(Generic[Item]):
    """Waiting items by key, and the number of items in service by key."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[_Entry[Item]]] = {}  # a heap by key; the keys in the order of their turns
        self._in_service: dict[str, int] = {}
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        """Return the number of waiting items."""
        return self._length

    def in_service(self, key: str) -> int:
        """Return the number of items of a key in service."""
        return self._in_service.get(key, 0)

    def start(self, key: str) -> None:
        """Count one more item of a key as in service."""
        self._in_service[key] = self._in_service.get(key, 0) + 1

    def finish(self, key: str) -> None:
        """Count one item of a key as no longer in service."""
        remaining = self._in_service[key] - 1
        if remaining:
            self._in_service[key] = remaining
        else:
            del self._in_service[key]

    def push(self, key: str, item: Item, order: float = 0.0) -> None:
        """Add an item. Of one key, items with a lower order are served first."""
        heappush(self._waiting.setdefault(key, []), _Entry(order, next(self._numbers), item))
        self._length += 1

    def pop(self) -> tuple[str, Item]:
        """Remove the next item, and count it as in service. Raises ValueError if none waits."""
        key = min(self._waiting, key=self.in_service)  # the first of several, whose last turn was the longest ago
        entries = self._waiting.pop(key)
        item = heappop(entries).item
        self._length -= 1
        if entries:
            self._waiting[key] = entries  # at the end of the turns
        self.start(key)
        return key, item

    def pop_last_of_heaviest(self, key: str) -> Item:
        """Remove the last item of the key that waits and is served the most, `key` among equals."""
        heaviest = max(self._waiting, key=lambda each: (self._weight(each), each == key))
        last = max(self._waiting[heaviest])
        self.discard(heaviest, lambda item: item is last.item)
        return last.item

    def discard(self, key: str, discarded: Callable[[Item], bool]) -> None:
        """Remove the items of a key for which `discarded` is true."""
        entries = self._waiting.get(key, [])
        kept = [entry for entry in entries if not discarded(entry.item)]
        self._length -= len(entries) - len(kept)
        if kept:
            heapify(kept)
            self._waiting[key] = kept
        else:
            self._waiting.pop(key, None)

    def ahead_of(self, key: str, order: float, items: int) -> int:
        """Return how many waiting items are served before the last of `items` new ones of a key, besides themselves.

        These are the key's own up to that order and, of each other key, as many as get a turn meanwhile.
        """
        own = sum(entry.order <= order for entry in self._waiting.get(key, ()))
        turns = own + items
        return own + sum(min(len(entries), turns) for other, entries in self._waiting.items() if other != key)

    def clear(self) -> list[Item]:
        """Remove the waiting items, and return them."""
        items = [entry.item for entries in self._waiting.values() for entry in entries]
        self._waiting.clear()
        self._length = 0
        return items

    def _weight(self, key: str) -> int:
        return len(self._waiting[key]) + self.in_service(key)
