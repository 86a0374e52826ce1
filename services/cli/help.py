"""What stands below a command's options in its help: examples, and the exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.cli.exits import Exit

__all__ = ["ASKING_EXITS", "STANDARD_EXITS", "epilog"]

STANDARD_EXITS: Final[Mapping[int, str]] = {
    Exit.DONE: "done",
    Exit.FAILED: "the broker, or a service, says no",
    Exit.USAGE: "wrong usage, or DATA is no JSON",
    Exit.NO_BROKER: "no connection to a broker",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}

ASKING_EXITS: Final[Mapping[int, str]] = {**STANDARD_EXITS, Exit.EXPIRED: "no answer in time"}


def epilog(*examples: str, exits: Mapping[int, str] = STANDARD_EXITS) -> str:
    """Return the end of a command's help.

    Args:
        examples: commands as they are typed, one a line.
        exits: what each exit code means.
    """
    lines = ["Examples:", *(f"  {line}" for line in examples)]
    codes = ["Exit codes:", *(f"  {code:<3} {exits[code]}" for code in sorted(exits))]
    # The mark (a backspace) tells click to leave the lines as they are.
    return "\b\n" + "\n".join(lines) + "\n\n\b\n" + "\n".join(codes)
