"""Whether the broker is ready to take traffic, and why not."""

from __future__ import annotations

from typing import Final

__all__ = ["DRAINING", "STARTING", "Readiness"]

STARTING: Final = "starting"
DRAINING: Final = "draining"


class Readiness:
    """The reasons why the broker is not ready. It begins with one: that it is starting.

    Whatever the broker needs beside itself (the Redis of a cluster, say) adds a reason of its own
    while it is gone.
    """

    def __init__(self) -> None:
        # In the order in which they came.
        self._reasons: dict[str, None] = {STARTING: None}

    @property
    def ready(self) -> bool:
        """Whether there is no reason against it."""
        return not self._reasons

    @property
    def reasons(self) -> list[str]:
        """Why it is not ready."""
        return list(self._reasons)

    def add(self, reason: str) -> None:
        """Be not ready, for a reason. Can be said more than once."""
        self._reasons[reason] = None

    def remove(self, reason: str) -> None:
        """Take a reason back. One that there is not is left alone."""
        self._reasons.pop(reason, None)
