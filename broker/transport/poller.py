"""Which sockets are ready: one file number that can itself be waited for.

On Linux this is epoll without the bookkeeping that `selectors` puts around it, which costs as much
again as the system call when few sockets are ready at a time. Elsewhere `selectors` does the work.
"""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Sequence
from typing import Final, Protocol

__all__ = ["READABLE", "WRITABLE", "Poller", "open_poller"]

READABLE: Final = 1
WRITABLE: Final = 4
# EPOLLERR and EPOLLHUP come unasked. They say that a read will tell what happened, so whatever is
# not WRITABLE counts as readable.


class Poller(Protocol):
    """The sockets that the reactor serves, by file number."""

    def fileno(self) -> int:
        """The file number that is readable while any socket is ready."""
        ...

    def register(self, fd: int, events: int) -> None:
        """Begin to watch a socket."""
        ...

    def modify(self, fd: int, events: int) -> None:
        """Change what a socket is watched for; 0 leaves errors and hang-ups alone."""
        ...

    def unregister(self, fd: int) -> None:
        """Stop watching a socket. Before it is closed: file numbers are used again at once."""
        ...

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        """Return the sockets that are ready, waiting for at most `timeout` seconds."""
        ...

    def close(self) -> None:
        """Give the file number back."""
        ...


class _SelectorPoller:
    """`selectors.DefaultSelector` behind the poller's interface: kqueue, mostly."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # A selector does not take "nothing", so a socket that is watched for nothing stands here.
        self._unwatched: set[int] = set()

    def fileno(self) -> int:
        return self._selector.fileno()

    def register(self, fd: int, events: int) -> None:
        if events:
            self._selector.register(fd, _to_selector(events))
        else:
            self._unwatched.add(fd)

    def modify(self, fd: int, events: int) -> None:
        self.unregister(fd)
        self.register(fd, events)

    def unregister(self, fd: int) -> None:
        if fd in self._unwatched:
            self._unwatched.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        return [
            (
                key.fd,
                (READABLE if events & selectors.EVENT_READ else 0)
                | (WRITABLE if events & selectors.EVENT_WRITE else 0),
            )
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        self._selector.close()


def _to_selector(events: int) -> int:
    return (selectors.EVENT_READ if events & READABLE else 0) | (
        selectors.EVENT_WRITE if events & WRITABLE else 0
    )


def open_poller() -> Poller:
    """Return the best poller of this system."""
    if sys.platform == "linux":
        return select.epoll()
    return _SelectorPoller()
