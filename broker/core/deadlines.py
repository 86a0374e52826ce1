"""Things that fall due: a timing wheel.

Operations: `add`, `discard` (constant time), `due` (constant time an item that is due), and the
attribute `next`.

Items are kept in buckets of `granularity` seconds, so that adding and taking away hundreds of
thousands of deadlines a second, nearly all of which never fall due, costs a dictionary entry each
and leaves nothing behind. An item falls due up to one granule late, never early.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

Item = TypeVar("Item")


class Deadlines(Generic[Item]):
    """Items, each with the time when it falls due. An item is in at most once.

    Attributes:
        next: when to look again, in seconds: no item falls due before. An item that was discarded
            may leave it too early, never too late. Infinite where there is nothing to wait for.

    Args:
        granularity: seconds.
    """

    def __init__(self, granularity: float = 0.01) -> None:
        self.next = math.inf
        self._granularity = granularity
        self._bucket_of: dict[Item, int] = {}
        self._buckets: dict[int, dict[Item, None]] = {}
        # The numbers of the buckets, smallest first; some may have become empty since.
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._bucket_of)

    def add(self, item: Item, when: float) -> None:
        """Enter an item, or move it, to fall due at `when` (seconds)."""
        self.discard(item)
        number = math.ceil(when / self._granularity)
        self._bucket_of[item] = number
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heapq.heappush(self._order, number)
            self.next = self._order[0] * self._granularity
        bucket[item] = None

    def discard(self, item: Item) -> None:
        """Take an item out. One that is not in is left alone."""
        number = self._bucket_of.pop(item, None)
        if number is not None:
            del self._buckets[number][item]

    def due(self, now: float) -> Iterator[Item]:
        """Take out the items that have fallen due, earliest first."""
        while self.next <= now:
            bucket = self._buckets[self._order[0]]
            while bucket:
                item = next(iter(bucket))
                self.discard(item)
                yield item
            # Taking an item out may have led to others being added: only now is the bucket done.
            del self._buckets[heapq.heappop(self._order)]
            self.next = self._order[0] * self._granularity if self._order else math.inf

    def __contains__(self, item: object) -> bool:
        return item in self._bucket_of
