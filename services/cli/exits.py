"""How commands end.

The exit codes are the same for all client commands but `check`, whose codes are those of a probe.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "Exit"]


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_BROKER = 3
    EXPIRED = 4
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""
    OUTPUT_CLOSED = 141
    """128 + SIGPIPE: whoever read the output has gone, as after `| head`."""
    TERMINATED = 143
    """128 + SIGTERM."""


class CommandError(Exception):
    """A command can't do what it was asked to.

    Attributes:
        exit: the exit code.
    """

    def __init__(self, text: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(text)
        self.exit = code
