"""Times in buckets: few enough to add up, fine enough for percentiles (3 % at most beside it)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["BUCKETS", "Bar", "bars", "bucket_of", "least_of", "percentile"]

# Below this, each microsecond has a bucket; above, each doubling has half as many.
_EXACT: Final = 64
_BITS: Final = 6

# Up to 2**40 microseconds, twelve days.
BUCKETS: Final = (40 << (_BITS - 1)) + _EXACT

Bar = tuple[float, float, int]
"""From, to (in microseconds), and how many."""


def bucket_of(microseconds: int) -> int:
    """Return the bucket that a time belongs to."""
    if microseconds < _EXACT:
        return max(0, microseconds)
    shift = microseconds.bit_length() - _BITS
    return (shift << (_BITS - 1)) + (microseconds >> shift)


def least_of(bucket: int) -> int:
    """Return the shortest time of a bucket, in microseconds."""
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> (_BITS - 1)) - 1
    return (bucket - (shift << (_BITS - 1))) << shift


def percentile(counts: Mapping[int, int], part: float) -> float:
    """Return the time that `part` (0 to 1) of all do not exceed, in microseconds; 0 for none."""
    total = sum(counts.values())
    rank = max(1, round(total * part))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return (least_of(bucket) + least_of(bucket + 1) - 1) / 2
    return 0.0


def bars(counts: Mapping[int, int], most: int = 12) -> Sequence[Bar]:
    """Return a histogram of a few bars, each as wide in proportion as the next."""
    if not counts:
        return []
    low, high = max(1, least_of(min(counts))), least_of(max(counts) + 1)
    # No more bars than buckets: a bar without any bucket in it would say that there was nothing.
    number = max(1, min(most, max(counts) - min(counts) + 1))
    edges = [low * (high / low) ** (step / number) for step in range(number)]
    amounts = [0] * number
    for bucket, count in counts.items():
        amounts[bisect_right(edges, least_of(bucket)) - 1 if least_of(bucket) >= low else 0] += (
            count
        )
    return list(zip(edges, [*edges[1:], float(high)], amounts, strict=True))
