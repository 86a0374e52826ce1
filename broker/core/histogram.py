"""How often something was in which range."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["BATCH_SIZES", "SECONDS", "Histogram", "quantile"]

SECONDS: Final = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Bounds of the buckets of latencies: a way through the broker takes some ten microseconds, and who
waits for longer than half a minute does not care by how much."""

BATCH_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


class Histogram:
    """How often something was in which range.

    Args:
        bounds: the upper bounds of the buckets, rising; one more bucket takes what is above.

    Attributes:
        counts: for each bucket.
        sum: of everything that was recorded.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def record(self, value: float, weight: int = 1) -> None:
        """Count a value; with a weight, as if it had come so often."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight


def quantile(share: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Return the upper bound of the range that a share of all is below, or in.

    Args:
        share: 0.99, for example.
        counts: as `Histogram.counts`, or a difference of two of them.
        bounds: as `Histogram.bounds`.

    Returns:
        None where there is nothing. For what is above all bounds, the last one.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    seen = 0
    for count, bound in zip(counts, bounds, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return bounds[-1]
