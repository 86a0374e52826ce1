"""One snapshot a second for everybody who looks on.

It is taken and encoded once, however many look on, and not at all while nobody does. Whoever is
slow skips what it missed; whoever does not read at all is cut by the connection's own time limit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, NoReturn

import msgspec
import trio

from broker.ops.snapshots import Snapshots

__all__ = ["MOST_VIEWERS", "Feed"]

MOST_VIEWERS: Final = 16
"""Who can look on at a time: each takes a snapshot's bytes a second."""

_INTERVAL: Final = 1.0

# How soon a browser tries again, in milliseconds.
_RETRY: Final = b"retry: 1000\n\n"


class Feed:
    """Takes snapshots while anybody looks on.

    Args:
        snapshots: what is shown.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._viewers = 0
        self._wanted = trio.Event()
        self._changed = trio.Event()
        self._number = 0
        self._latest = b""
        self._taken = -_INTERVAL

    @property
    def full(self) -> bool:
        """Whether nobody else can look on."""
        return self._viewers >= MOST_VIEWERS

    async def run(self) -> NoReturn:
        """Take snapshots until cancelled."""
        while True:
            await self._wanted.wait()
            begun = trio.current_time()
            snapshot = await self._snapshots.take()
            self._number += 1
            line = msgspec.json.encode(snapshot)
            self._latest = b"event: snapshot\nid: %d\ndata: %s\n\n" % (self._number, line)
            self._taken = begun
            changed, self._changed = self._changed, trio.Event()
            changed.set()
            await trio.sleep_until(begun + _INTERVAL)
            if not self._viewers:
                self._wanted = trio.Event()

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Yield the events, as they are sent, until the viewer goes; nothing where it is full."""
        if self.full:
            # Several may have been let through the look at `full` before the first of them came.
            return
        self._viewers += 1
        self._wanted.set()
        try:
            yield _RETRY
            if trio.current_time() - self._taken < _INTERVAL:
                yield self._latest
            while True:
                await self._changed.wait()
                yield self._latest
        finally:
            self._viewers -= 1
