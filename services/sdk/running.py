"""A program's main loop: until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio

from services.sdk.tasks import BackgroundTasks

__all__ = ["run_until_signal"]


def run_until_signal(
    main: Callable[[], Awaitable[None]], backend: Literal["trio", "asyncio"] = "trio"
) -> None:
    """Run an async function until it ends; cancel it at the first signal.

    A second Ctrl-C or SIGTERM meets Python's own handlers. Outside the main thread there are no
    signals to receive, and on Windows only Ctrl-C, as KeyboardInterrupt.
    """
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(_run, main, backend=backend)


async def _run(main: Callable[[], Awaitable[None]]) -> None:
    with anyio.CancelScope() as scope:
        async with BackgroundTasks() as tasks:
            if threading.current_thread() is threading.main_thread():
                await tasks.start(_cancel_on_signal, scope)
            await main()


async def _cancel_on_signal(
    scope: anyio.CancelScope,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    try:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _signal in signals:
                break
        scope.cancel()
    except NotImplementedError:
        task_status.started()
