"""The ops port as a whole: serve, and go by other settings."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

import trio
from starlette.types import Receive, Scope, Send

from broker.core.settings import OpsSettings
from broker.ops.access import Access
from broker.ops.app import OpsApp
from broker.ops.connections import Connections, Pace
from broker.ops.feed import Feed
from broker.ops.snapshots import Snapshots
from broker.ops.source import Source

__all__ = ["OpsPort"]

# Requests and connections a second. To answer one takes about a millisecond, for which messages
# have to wait; some hundred probes and scrapers a second are more than there ever are.
_REQUESTS: Final = 100
_ACCEPTS: Final = 100


class OpsPort:
    """Serves probes, metrics and the live page.

    Args:
        sockets: that listen already.
        source: what is shown.
        settings: who may see it.
        report: is told of what should not have happened.
        hurry: called when somebody begins to wait for an answer.

    Attributes:
        addresses: where it listens, such as `http://127.0.0.1:8421`.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        source: Source,
        settings: OpsSettings,
        report: Callable[[Exception, str], None],
        hurry: Callable[[], None],
    ) -> None:
        self._sockets = sockets
        self._feed = Feed(Snapshots(source))
        self._app = OpsApp(source, self._feed, _access(settings))
        self._pace = Pace(_REQUESTS)
        self._connections = Connections(self._answer, report, Pace(_ACCEPTS), hurry)
        self.addresses = [_url_of(sock) for sock in sockets]

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._feed.run)
                for sock in self._sockets:
                    nursery.start_soon(self._connections.serve, sock)
        finally:
            self.close()
        raise AssertionError  # pragma: no cover - a loop without an end

    def close(self) -> None:
        """Stop listening. Can be called more than once."""
        for sock in self._sockets:
            sock.close()

    def reload(self, settings: OpsSettings) -> None:
        """Go by other settings of who may see it from now on."""
        self._app.access = _access(settings)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._pace.wait()
        await self._app(scope, receive, send)


def _access(settings: OpsSettings) -> Access:
    return Access(settings.token_sha256, settings.host_names)


def _url_of(sock: socket.socket) -> str:
    sock.setblocking(False)
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
