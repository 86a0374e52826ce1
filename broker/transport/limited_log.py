"""Lines of the log that could come in floods: of each kind some a second, and how many more.

Anybody who reaches a port can bring about any number of connections, each with something to be
said about it. A log that has them all would fill the disk, and hide what matters. So of each kind
only the first of a second are written, and the others are counted: the next line of that kind, or
one of its own when the flood is over, says how many were withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, NoReturn

import attrs
import structlog
import trio

__all__ = ["ORDINARY", "LimitedLog", "Rate"]


@attrs.frozen
class Rate:
    """How often lines of one kind are written.

    Attributes:
        most: the first so many of each period.
        period: in seconds; it begins with a line, and the next one with the first line after it.
    """

    most: int
    period: float = 1.0


ORDINARY: Final = Rate(10)

_WITHHELD: Final = "lines like these were withheld, since there were too many"


@attrs.define
class _Kind:
    """Lines of one kind.

    Attributes:
        end: of the period, in seconds.
    """

    level: int
    event: str
    end: float
    written: int = 0
    withheld: int = 0


class LimitedLog:
    """Writes lines, but for those that are too many.

    Args:
        clock: returns the time in seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # There are as many as there are places in the source that write.
        self._kinds: dict[Hashable, _Kind] = {}
        self._withholding = trio.Event()

    def enabled(self, level: int) -> bool:
        """Whether lines of a level of `logging` are written at all."""
        return bool(structlog.get_logger().is_enabled_for(level))

    def write(
        self,
        level: int,
        event: str,
        *,
        kind: Hashable = None,
        rate: Rate = ORDINARY,
        **fields: Any,  # noqa: ANN401 - whatever is to be said
    ) -> None:
        """Write a line, or count it.

        Args:
            level: one of `logging`.
            event: what has happened; the same for all lines of a kind.
            kind: what is counted together; the event, where it is left out.
            rate: how many of the kind are written.
            fields: the particulars.
        """
        now = self._clock()
        key = event if kind is None else kind
        known = self._kinds.get(key)
        if known is None:
            known = self._kinds[key] = _Kind(level, event, now + rate.period)
        elif now >= known.end:
            known.end = now + rate.period
            known.written = 0
        if known.written >= rate.most:
            known.withheld += 1
            self._withholding.set()
            return
        known.written += 1
        if known.withheld:
            fields["withheld"], known.withheld = known.withheld, 0
        structlog.get_logger().log(level, event, **fields)

    async def run(self) -> NoReturn:
        """Say how many lines were withheld, when no more of the kind follow. Until cancelled."""
        while True:
            await self._withholding.wait()
            ends = [kind.end for kind in self._kinds.values() if kind.withheld]
            if ends:
                await trio.sleep(max(0.0, min(ends) - self._clock()))
                self.tell_withheld(self._clock())
            else:
                self._withholding = trio.Event()

    def tell_withheld(self, now: float | None = None) -> None:
        """Write how many lines were withheld.

        Args:
            now: only of kinds whose period is over by then, in seconds; without it, of all.
        """
        for kind in self._kinds.values():
            if kind.withheld and (now is None or now >= kind.end):
                withheld, kind.withheld = kind.withheld, 0
                structlog.get_logger().log(kind.level, _WITHHELD, of=kind.event, withheld=withheld)
