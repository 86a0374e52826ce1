"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["timeout_option"]

C = TypeVar("C", bound=Callable[..., Any])

_DEFAULT_SECONDS: Final = 30.0
_SHORTEST_SECONDS: Final = 0.001
_LONGEST_SECONDS: Final = 86_400


def timeout_option(text: str) -> Callable[[C], C]:
    """Return the option `--timeout`, with a help of its own."""
    return click.option(
        "-t",
        "--timeout",
        type=click.FloatRange(_SHORTEST_SECONDS, _LONGEST_SECONDS),
        default=_DEFAULT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )
