"""What the ops port shows, in one place."""

from __future__ import annotations

import attrs

from broker.core.dispatcher import Dispatcher
from broker.ops.readiness import Readiness

__all__ = ["Source"]


@attrs.frozen
class Source:
    """The broker, as the ops port sees it.

    Attributes:
        dispatcher: the broker without its sockets.
        readiness: whether it is ready.
        epoch: the wall-clock time at the zero of the monotonic clock, in seconds since 1970.
        started: when it started, in seconds since 1970.
    """

    dispatcher: Dispatcher
    readiness: Readiness
    epoch: float
    started: float
