"""Runs a test on both event loops.

On trio with a clock of its own that jumps to the next deadline when all tasks wait, so a test of
half a minute's silence takes no time, and a test that would hang ends in the SDK's own deadlines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from trio.testing import MockClock

AsyncTest = Callable[[], Awaitable[object]]


def run_on_trio(test: AsyncTest) -> None:
    options = {"clock": MockClock(autojump_threshold=0)}
    anyio.run(test, backend="trio", backend_options=options)


def on_both_loops(test: AsyncTest) -> Callable[[str], None]:
    @pytest.mark.parametrize("backend", ["trio", "asyncio"])
    def run(backend: str) -> None:
        if backend == "trio":
            run_on_trio(test)
        else:
            anyio.run(test, backend=backend)

    run.__module__ = test.__module__
    return run


def on_trio(test: AsyncTest) -> Callable[[], None]:
    """For a test of what happens after a time: the clock is virtual."""

    def run() -> None:
        run_on_trio(test)

    run.__module__ = test.__module__
    return run
