"""What a service manager is told of the broker: systemd's `NOTIFY_SOCKET`, `Type=notify`.

It wants to know when the broker is ready, reads its settings again, or stops; and, where the unit
has `WatchdogSec=`, that it still does anything.
"""

from __future__ import annotations

import socket
import time
from collections.abc import MutableMapping
from typing import Final

import structlog
import trio

__all__ = ["ServiceManager"]

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """Whoever started the broker, if it wants to be told.

    Args:
        environ: `NOTIFY_SOCKET` and its like are taken out of it: no child is to speak for us.
        pid: this process's number.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        limit = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        # Twice as often as it has to be.
        self._interval = int(limit) / _MICROSECONDS / 2 if watched and limit.isdecimal() else 0.0

    def ready(self, status: str) -> None:
        """The broker listens, and `status` says where."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The settings are being read again; `ready` says that it is done."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The broker takes leave of its connections."""
        self._tell("STOPPING=1", "STATUS=draining")

    async def run(self) -> None:
        """Say again and again that all is well, where somebody waits for that. Until cancelled."""
        while self._interval:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._interval)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # An @ stands for the zero with which the name of an abstract socket begins.
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except (OSError, AttributeError) as error:
            # Nothing to stop for. (Where there are no Unix sockets, there is no attribute AF_UNIX.)
            structlog.get_logger().warning(
                "the service manager can't be told", what=lines[0], error=str(error)
            )
