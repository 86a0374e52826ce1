"""Faults of the broker's own.

A fault while one connection is served is a mistake in the program. It must not end all the other
connections, so it is caught, counted and logged, and that one connection ends.
"""

from __future__ import annotations

import logging
from typing import Final

from broker.core.statistics import Counters
from broker.transport.limited_log import LimitedLog, Rate

__all__ = ["Faults"]

# The same fault may come with every message.
_RATE: Final = Rate(1, period=60.0)


class Faults:
    """Counts and logs the faults.

    Args:
        counters: where they are counted.
        log: where they are told.
    """

    def __init__(self, counters: Counters, log: LimitedLog) -> None:
        self._counters = counters
        self._log = log

    def report(self, error: Exception, doing: str) -> None:
        """Take note of a fault.

        Args:
            error: with its traceback.
            doing: what the broker was about, for people.
        """
        self._counters.faults += 1
        self._log.write(
            logging.ERROR,
            "a fault in the broker: please report it",
            # There are not many places in the source.
            kind=_place(error),
            rate=_RATE,
            doing=doing,
            exc_info=error,
        )


def _place(error: Exception) -> tuple[str, int]:
    """Where it was raised."""
    traceback = error.__traceback__
    if traceback is None:
        return type(error).__name__, 0
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
