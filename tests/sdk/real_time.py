"""Runs a test on both event loops, with the real clock: for sockets, which a clock cannot skip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

BACKENDS = ["trio", "asyncio"]

AsyncTest = Callable[[], Awaitable[object]]

_HANG_SECONDS = 30


def run_guarded(test: AsyncTest, backend: str) -> None:
    async def guarded() -> None:
        with anyio.fail_after(_HANG_SECONDS):
            await test()

    anyio.run(guarded, backend=backend)


def on_both_real_loops(test: AsyncTest) -> Callable[[str], None]:
    @pytest.mark.parametrize("backend", BACKENDS)
    def run(backend: str) -> None:
        run_guarded(test, backend)

    run.__module__ = test.__module__
    run.__doc__ = test.__doc__
    return run
