"""What is measured, and which process does which part of it."""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

__all__ = ["MOST_IN_FLIGHT_BYTES", "Figures", "Mode", "Plan", "Share", "Summary"]

# What a connection of the SDK lets wait without anybody awaiting it, with room to spare.
MOST_IN_FLIGHT_BYTES: Final = 8 * 1024 * 1024


class Mode(Enum):
    """A kind of traffic, as `make bench` has it too."""

    PUBLISH = "publish"
    """Pairs: A sends an event to B, and B answers with one of the same size."""

    REQUEST = "request"
    """Pairs: A sends a request to B, and B replies."""

    FANOUT = "fanout"
    """One sends to a group, and the next broadcast follows when all have got it."""


@attrs.frozen
class Share:
    """What one process has to do: the numbers of its pairs' ends, or of its receivers."""

    asking: tuple[int, ...] = ()
    answering: tuple[int, ...] = ()
    sends: bool = False
    receiving: tuple[int, ...] = ()


@attrs.frozen
class Plan:
    """A measurement.

    Attributes:
        mode: the kind of traffic.
        pairs: of connections, for PUBLISH and REQUEST.
        receivers: for FANOUT.
        window: messages in flight, for each pair; broadcasts in flight, for FANOUT.
        size: bytes of data in each message.
        warm_up: seconds that do not count.
        seconds: that do.
        processes: of the client's.
    """

    mode: Mode
    pairs: int = 1
    receivers: int = 100
    window: int = 512
    size: int = 128
    warm_up: float = 0.5
    seconds: float = 5.0
    processes: int = 1

    def shares(self) -> list[Share]:
        """Hand the connections out to the processes, evenly; both ends of a pair to different ones.

        A process gets nothing where there are more of them than connections.
        """
        count = self.processes
        if self.mode is Mode.FANOUT:
            return [
                Share(sends=number == 0, receiving=tuple(range(number, self.receivers, count)))
                for number in range(count)
            ]
        return [
            Share(
                asking=tuple(range(number, self.pairs, count)),
                answering=tuple(pair for pair in range(self.pairs) if (pair + 1) % count == number),
            )
            for number in range(count)
        ]

    def describe(self) -> str:
        """Say it for people."""
        if self.mode is Mode.FANOUT:
            what = f"1 to a group of {self.receivers}"
        else:
            what = f"{self.pairs} {'pair' if self.pairs == 1 else 'pairs'}"
        processes = f"{self.processes} {'process' if self.processes == 1 else 'processes'}"
        return (
            f"{self.mode.value}: {what}, {self.window} in flight, {self.size} bytes of data, "
            f"{self.seconds:g} s, {processes}"
        )


@attrs.frozen
class Figures:
    """What one process has seen.

    Attributes:
        seconds: how long it has measured.
        routed: messages that arrived at its connections.
        counts: round trips (of a fan-out: one way) by the bucket of a `Histogram`.
        cpu: its processor time, in cores' worth.
        wanted: the same, with the time that it waited for a processor; None where the system does
            not tell.
        unexpected: messages that came twice, or were never sent.
        lost: messages that never came back.
        errors: frames that the broker refused.
        first_error: the first of these, in words.
        busy: the share of its time that the broker was busy, if it tells.
    """

    seconds: float
    routed: int
    counts: dict[int, int]
    cpu: float
    wanted: float | None = None
    unexpected: int = 0
    lost: int = 0
    errors: int = 0
    first_error: str = ""
    busy: float | None = None


@attrs.frozen
class Summary:
    """All processes together; see `Figures`.

    Attributes:
        rate: messages routed a second.
        shares: of each process, the processor time that it used or wanted, in cores' worth.
    """

    seconds: float
    routed: int
    rate: float
    counts: dict[int, int]
    shares: tuple[float, ...]
    unexpected: int
    lost: int
    errors: int
    first_error: str
    busy: float | None
    cpu: float = attrs.field(kw_only=True)

    @classmethod
    def of(cls, parts: list[Figures]) -> Summary:
        """Add up."""
        counts: dict[int, int] = {}
        for part in parts:
            for bucket, count in part.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        return cls(
            seconds=max(part.seconds for part in parts),
            routed=sum(part.routed for part in parts),
            rate=sum(part.routed / part.seconds for part in parts),
            counts=counts,
            shares=tuple(part.cpu if part.wanted is None else part.wanted for part in parts),
            unexpected=sum(part.unexpected for part in parts),
            lost=sum(part.lost for part in parts),
            errors=sum(part.errors for part in parts),
            first_error=next((part.first_error for part in parts if part.first_error), ""),
            busy=next((part.busy for part in parts if part.busy is not None), None),
            cpu=sum(part.cpu for part in parts),
        )

    def complaint(self) -> str | None:
        """Say why the figures can't be trusted, if so."""
        if self.errors:
            return f"{self.errors} errors, the first: {self.first_error}"
        if self.unexpected:
            return f"{self.unexpected} messages came that were not in flight"
        if self.lost:
            return f"{self.lost} messages never arrived"
        if not self.routed:
            return "nothing was routed"
        return None
