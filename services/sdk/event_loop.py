"""The running event loop, for what is asked of it with every message.

anyio's functions find out at each call which loop is running, which costs several times what they
then do (on asyncio, two system calls). A mesh lives in one loop, so it finds out once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
from anyio.lowlevel import current_token

__all__ = ["EventLoop", "Signal"]


class Signal(Protocol):
    """An event of the loop's own, which comes to pass once."""

    def set(self) -> None:
        """Let it come to pass."""
        ...

    def is_set(self) -> bool:
        """Tell whether it has."""
        ...

    def wait(self) -> Awaitable[object]:
        """Wait until it has."""
        ...


@attrs.frozen
class EventLoop:
    """What the SDK asks of the event loop.

    Attributes:
        now: reads its clock.
        caller_deadline: returns until when, on that clock, the running task has time, by the cancel
            scopes that it is in; minus infinity where it is cancelled.
        new_signal: makes an event.
        checkpoint_if_cancelled: lets a cancelled task end; else it is no task switch.
    """

    now: Callable[[], float]
    caller_deadline: Callable[[], float]
    new_signal: Callable[[], Signal]
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]

    @classmethod
    def running(cls) -> EventLoop:
        """Return the one that is running.

        Raises:
            anyio.NoEventLoopError: none is.
        """
        token = current_token()
        loop, backend = token.native_token, token.backend_class
        if isinstance(loop, asyncio.AbstractEventLoop):
            # Cancel scopes are anyio's own there.
            return cls(
                loop.time,
                backend.current_effective_deadline,
                asyncio.Event,
                backend.checkpoint_if_cancelled,
            )
        import trio  # noqa: PLC0415 - it takes a while, and programs on asyncio do not need it

        return cls(
            trio.current_time,
            trio.current_effective_deadline,
            trio.Event,
            trio.lowlevel.checkpoint_if_cancelled,
        )
