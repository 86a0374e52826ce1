"""Take connections out of the kernel's backlog: at a bounded rate, and through every shortage.

When a broker comes back, every service of the mesh knocks within the same second. Each has to be
let in, and that is work which those who are in already have to wait for. So no more than
`accepts_per_second` are taken in; the others wait in the backlog, where they cost the broker
nothing, and their deadline for IDENTIFY has not begun.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog
import trio

from broker.core.statistics import Counters
from broker.transport.admission import Admission

__all__ = ["Acceptor"]

# As many as are taken in one after another, before the reactor and the door have their turn: at
# most some milliseconds. With one at a time a busy reactor, whose turn takes 5 ms, would let in no
# more than 200 a second.
_BATCH: Final = 8

# What may be taken in at once after a quiet time, in seconds of the rate.
_BURST: Final = 0.1

# What the process or the system has run out of. The connection stays in the backlog.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

# The listening socket itself is of no use any more. Every other error is one of the connection
# that was to be taken (accept(2) passes them on), and is gone with it.
_BROKEN: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})

# How long to leave a shortage alone, in seconds.
_BACK_OFF: Final = 0.1

# A shortage is over, for the log, when nothing was short for so long, in seconds.
_OVER: Final = 5.0


class Acceptor:
    """Accepts for all listeners together.

    Args:
        admission: for the limits, and to make room where the system has none.
        counters: where shortages and pauses are noted.
        clock: returns the time in seconds, monotonic; trio's own.
    """

    def __init__(
        self,
        admission: Admission,
        counters: Counters,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._admission = admission
        self._counters = counters
        self._clock = clock
        # When the next one may be taken in; up to `_BURST` in the past.
        self._due = -math.inf
        self._short_until: float | None = None

    async def serve(
        self, listening: socket.socket, admit: Callable[[trio.SocketStream], Awaitable[None]]
    ) -> NoReturn:
        """Accept until cancelled.

        Args:
            listening: must be non-blocking.
            admit: called as a task of its own for each connection. Must not raise.

        Raises:
            OSError: the socket can't be listened on any more.
        """
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listening)
                wait = self._wait()
                if wait > 0:
                    self._counters.accept_pauses += 1
                    await trio.sleep(wait)
                await self._accept_some(listening, admit, nursery)
        raise AssertionError  # pragma: no cover - a loop without an end

    async def _accept_some(
        self,
        listening: socket.socket,
        admit: Callable[[trio.SocketStream], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        for _ in range(_BATCH):
            if self._wait() > 0:
                return
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _BROKEN:
                    raise
                if error.errno in _SHORTAGES:
                    await self._get_over(error)
                    return
            else:
                self._note_success()
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                nursery.start_soon(admit, stream)
            self._due += 1 / self._admission.limits.accepts_per_second

    def _wait(self) -> float:
        """Seconds until the next one may be taken in; 0 or less where it may be now."""
        now = self._clock()
        self._due = max(self._due, now - _BURST)
        return self._due - now

    async def _get_over(self, error: OSError) -> None:
        """Wait for file numbers or memory, or see to it that some become free."""
        now = self._clock()
        self._counters.accept_failures += 1
        if self._short_until is None:
            structlog.get_logger().warning(
                "connections have to wait: the system has no means for more",
                error=error.strerror,
                connections=len(self._admission),
                hint="raise the limit of open files (ulimit -n), or lower limits.connections",
            )
        self._short_until = now + _OVER
        if not self._admission.make_room(now):
            await trio.sleep(_BACK_OFF)

    def _note_success(self) -> None:
        if self._short_until is not None and self._clock() >= self._short_until:
            self._short_until = None
            structlog.get_logger().info("connections are let in again without delay")
