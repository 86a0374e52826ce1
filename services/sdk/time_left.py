"""How long a request has: its own time, and what is left of its caller's."""

from __future__ import annotations

from typing import Final

from services.sdk.event_loop import EventLoop

__all__ = ["time_left"]

# The least that the protocol can say. Whoever has less is cancelled before the broker could answer.
_LEAST_SECONDS: Final = 0.001


def time_left(timeout: float, loop: EventLoop) -> float:
    """Return the seconds that a request made now has: `timeout`, or less if the caller has less.

    What the caller has is the deadline of its cancel scopes, so nothing has to be handed on: inside
    `anyio.fail_after(1)` no request lasts longer than a second, and a service's handler runs in a
    scope that ends when its own request does. A task that a handler starts in a task group of its
    program's is outside of that scope, and so is what it shields.
    """
    left = loop.caller_deadline() - loop.now()
    return min(timeout, max(left, _LEAST_SECONDS))
