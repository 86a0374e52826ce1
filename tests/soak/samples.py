"""What a broker has, each time that everybody has left, and what to make of a row of that."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import attrs

__all__ = ["Sample", "blocks_left", "differences", "problems", "resident_growth"]

# What must be as it was, to the last one.
_EXACT: Final = (
    *("tasks", "files", "peers", "connections", "registered", "calls", "waiting_bytes"),
    *("outboxes_bytes", "stalled"),
)

# Pieces of memory that Python has handed out, more at the end than at the beginning, for each
# connection that there was in between: a peer alone has some thirty. And what may come and go for
# other reasons, such as a cache.
_MOST_BLOCKS: Final = 0.5
_STRAY_BLOCKS: Final = 2000

# What the process may grow by from the second third of the rounds to the last one, in KiB. In the
# first one it does: the allocator of the system keeps what it has once had, until there has been a
# round with as much going on at a time as there ever is. A leak would go on and on.
_MOST_RESIDENT: Final = 4 * 1024


@attrs.frozen
class Sample:
    """What the broker has at one moment.

    Attributes:
        second: since the start.
        opened: connections that there have been so far.
        resident_kib: memory of the process.
        tasks: of trio.
        files: open files.
        peers: `Peer` objects that are anywhere in memory.
        connections: `Connection` objects, likewise.
        registered: identified peers, by the registry.
        calls: requests in flight, by the ledger.
        waiting_bytes: of requests that wait for somebody to be free.
        outboxes_bytes: what receivers have yet to take.
        stalled: receivers for whose sake others are not read.
        objects: what Python's garbage collector knows of.
        blocks: pieces of memory that Python has handed out.
        faults: of the broker itself.
    """

    second: float
    opened: int
    resident_kib: int
    tasks: int
    files: int
    peers: int
    connections: int
    registered: int
    calls: int
    waiting_bytes: int
    outboxes_bytes: int
    stalled: int
    objects: int
    blocks: int
    faults: int


def differences(before: Sample, after: Sample) -> list[str]:
    """Say which of the counts that have to be the same are not."""
    return [
        f"{name}: {getattr(before, name)} at first, {getattr(after, name)} at the end"
        for name in _EXACT
        if getattr(before, name) != getattr(after, name)
    ]


def blocks_left(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return how many pieces of memory were left behind, and by how many connections."""
    first, _, last = _thirds(samples)
    return (
        median(sample.blocks for sample in last) - median(sample.blocks for sample in first),
        median(sample.opened for sample in last) - median(sample.opened for sample in first),
    )


def resident_growth(samples: Sequence[Sample]) -> float:
    """Return by how much the process has grown once it had what it needs, in KiB."""
    _, middle, last = _thirds(samples)
    return median(sample.resident_kib for sample in last) - median(
        sample.resident_kib for sample in middle
    )


def _thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], ...]:
    third = max(1, len(samples) // 3)
    return samples[:third], samples[third:-third] or samples, samples[-third:]


def problems(samples: Sequence[Sample]) -> list[str]:
    """Say what is not as it was. The first sample is the baseline: after the warm-up."""
    baseline, last = samples[0], samples[-1]
    found = differences(baseline, last)
    if last.faults:
        found.append(f"{last.faults} faults in the broker; its log has them")
    blocks, opened = blocks_left(samples)
    if blocks > _MOST_BLOCKS * opened + _STRAY_BLOCKS:
        found.append(f"{blocks:.0f} blocks of memory left by {opened:.0f} connections")
    grown = resident_growth(samples)
    if grown > _MOST_RESIDENT:
        found.append(f"the process has grown by {grown:.0f} KiB")
    return found
