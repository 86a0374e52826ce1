"""Time that passes only when everybody waits for it, on either event loop.

On trio that is its own `MockClock`. For asyncio it is an event loop that, where it would sleep
until its next timer, puts its clock forward to it instead.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any, Literal

from trio.testing import MockClock

__all__ = ["VirtualTimeLoop", "virtual_time"]


def virtual_time(backend: Literal["trio", "asyncio"]) -> dict[str, Any]:
    """Make the `backend_options` for `anyio.run`, or for anyio's `anyio_backend` fixture.

    Fresh ones for each run: a clock is good for one.

    Example:
        >>> anyio.run(main, backend="trio", backend_options=virtual_time("trio"))
    """
    if backend == "trio":
        return {"clock": MockClock(autojump_threshold=0)}
    return {"loop_factory": VirtualTimeLoop}


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock jumps to the next timer when there is nothing else to do.

    It cannot know of threads that are at work for it: a task that awaits one beside a timer sees
    the timer fire first. With neither timers nor anything ready, it waits for sockets and threads
    in earnest.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds; it begins with 0."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Put the clock forward."""
        self._now += seconds


class _JumpingSelector(selectors.BaseSelector):
    """A selector that never waits for a time, but says that it has passed."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(None)
        ready = self._real.select(0)
        if not ready:
            self._loop.jump(timeout)
        return ready

    def register(
        self,
        fileobj: Any,  # noqa: ANN401 - as in the base class
        events: int,
        data: Any = None,  # noqa: ANN401 - likewise
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401 - likewise
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
