"""Things that fall due: a timing wheel.

Operations of `Wheel`: `bucket` (constant time; whoever has it puts items in and takes them out as
in any dictionary), `due` (constant time an item that is due), and the attribute `next`.
`Deadlines` remembers the bucket of each item, and so has `add` and `discard`.

Adding and taking away hundreds of thousands of deadlines a second, nearly all of which never fall
due, costs a dictionary entry each and leaves nothing behind but an empty bucket. An item falls due
up to one granule late, never early.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

__all__ = ["Alarm", "Deadlines", "Wheel"]

Item = TypeVar("Item")

# How late a thing may be, in seconds: less than anybody would notice of a time-out.
_GRANULE: Final = 0.01

# What is further away than this may be a second late: so there are never more than some hundred
# thousand buckets, whatever the deadlines are.
_FAR: Final = 60.0
_COARSE_GRANULE: Final = 1.0


class Alarm:
    """When to look at some wheels again.

    Attributes:
        time: in seconds; no wheel that was given this alarm has anything due before. Wheels only
            ever bring it forward; whoever looks at them puts it back.
    """

    __slots__ = ("time",)

    def __init__(self) -> None:
        self.time = math.inf


class Wheel(Generic[Item]):
    """Buckets of items that fall due together.

    Args:
        alarm: is brought forward when an item falls due before its time.

    Attributes:
        next: when to look again, in seconds: no item falls due before. An item that was taken out
            may leave it too early, never too late. Infinite where there is nothing to wait for.
    """

    def __init__(self, alarm: Alarm) -> None:
        self.next = math.inf
        self._alarm = alarm
        self._buckets: dict[float, dict[Item, None]] = {}
        self._order: list[float] = []

    def bucket(self, when: float, now: float) -> dict[Item, None]:
        """Return the bucket for items that fall due at `when`; both in seconds."""
        granule = _GRANULE if when - now < _FAR else _COARSE_GRANULE
        end = (int(when / granule) + 1) * granule
        bucket = self._buckets.get(end)
        if bucket is None:
            bucket = self._buckets[end] = {}
            heapq.heappush(self._order, end)
            self.next = self._order[0]
            self._alarm.time = min(self._alarm.time, end)
        return bucket

    def due(self, now: float) -> Iterator[Item]:
        """Return the items that have fallen due, earliest first.

        Each has to be taken out of its bucket before the next one is asked for.
        """
        while self.next <= now:
            bucket = self._buckets[self._order[0]]
            while bucket:
                # Not `next(iter(bucket))`, which steps over all that were taken out before.
                for item in list(bucket):
                    if item in bucket:
                        yield item
            # Handling an item may have put others in: only now is the bucket done with.
            del self._buckets[heapq.heappop(self._order)]
            self.next = self._order[0] if self._order else math.inf

    def __iter__(self) -> Iterator[Item]:
        for bucket in list(self._buckets.values()):
            yield from list(bucket)


class Deadlines(Generic[Item]):
    """Items, each with the time when it falls due. An item is in at most once.

    Args:
        alarm: is brought forward when an item falls due before its time.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._wheel: Wheel[Item] = Wheel(alarm)
        self._bucket_of: dict[Item, dict[Item, None]] = {}

    @property
    def next(self) -> float:
        """When to look again, in seconds; as of `Wheel`."""
        return self._wheel.next

    def add(self, item: Item, when: float, now: float) -> None:
        """Enter an item, or move it, to fall due at `when`; both in seconds."""
        self.discard(item)
        bucket = self._bucket_of[item] = self._wheel.bucket(when, now)
        bucket[item] = None

    def discard(self, item: Item) -> None:
        """Take an item out. One that is not in is left alone."""
        bucket = self._bucket_of.pop(item, None)
        if bucket is not None:
            del bucket[item]

    def due(self, now: float) -> Iterator[Item]:
        """Take out the items that have fallen due, earliest first."""
        for item in self._wheel.due(now):
            self.discard(item)
            yield item

    def __len__(self) -> int:
        return len(self._bucket_of)

    def __contains__(self, item: object) -> bool:
        return item in self._bucket_of
