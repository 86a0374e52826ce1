"""Ctrl-C and SIGTERM: the first ends all in good order, the second by force."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio

from services.sdk.tasks import BackgroundTasks

__all__ = ["run_until_signal"]


async def run_until_signal(
    main: Callable[[], Awaitable[int]],
    on_first: Callable[[], None],
    on_second: Callable[[], None],
) -> int:
    """Run an async function until it ends, or is cancelled by the first signal.

    Args:
        main: returns an exit code. What it has to do when it is cancelled, it does in a shield.
        on_first: is called with the first signal.
        on_second: is called with each one after it.

    Returns:
        The exit code: that of `main`, or 128 and the signal's number.
    """
    code = 0
    async with BackgroundTasks() as watching:
        scope = anyio.CancelScope()

        async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            nonlocal code
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for number in signals:
                    if scope.cancel_called:
                        on_second()
                        continue
                    code = 128 + number
                    on_first()
                    scope.cancel()

        await watching.start(watch)
        with scope:
            code = await main()
    return code
