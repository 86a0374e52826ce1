"""The time, as the chat knows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["MS_PER_DAY", "Clock", "wall_clock"]

Clock: TypeAlias = Callable[[], int]
"""Returns the time in milliseconds since 1970."""

MS_PER_DAY: Final = 24 * 60 * 60 * 1000


def wall_clock() -> int:
    """The system's time."""
    return time.time_ns() // 1_000_000
