"""From an accepted socket to a connection in the reactor's hands.

The door reads as much as it takes to know the framing: one byte for a raw stream, the opening
handshake for a WebSocket. It has a deadline and a bound for it. IDENTIFY is then read by the
reactor like any other frame, since the dispatcher knows what may come before it (nothing).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.protocol.codec import disconnect_message
from broker.protocol.errors import Reason
from broker.protocol.handshake import HandshakeState, ServerHandshake
from broker.protocol.json_stream import JsonStream, frame_line
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Door as Kind
from broker.protocol.wire import Wire, detect
from broker.transport.connection import Connection
from broker.transport.reactor import Reactor

__all__ = ["Door"]

# Enough for any opening handshake or IDENTIFY at once.
_RECEIVE_SIZE: Final = 4096

# Said to a WebSocket client that is turned away before its handshake is answered.
_FULL: Final = "the broker has as many connections as it may; try again later"
_UNAVAILABLE: Final = (
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    f"Content-Length: {len(_FULL) + 1}\r\n\r\n{_FULL}\n"
).encode()


class Door:
    """Takes in connections.

    Args:
        dispatcher: gets a peer for each.
        reactor: serves it from then on.
        settings: for deadlines and limits.
        clock: returns the time in seconds, monotonic; trio's own.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        reactor: Reactor,
        settings: Settings,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._dispatcher = dispatcher
        self._reactor = reactor
        self._timing = settings.timing
        self._limits = settings.limits
        self._allowed_origins = frozenset(settings.allowed_origins)
        self._clock = clock

    async def admit(self, stream: trio.SocketStream) -> None:
        """Bring one accepted connection as far as the reactor. Nothing a client does raises."""
        deadline = self._clock() + self._timing.identify_ms / 1000
        self._reactor.guests += 1
        try:
            with suppress(trio.BrokenResourceError), trio.CancelScope(deadline=deadline):
                await self._detect(stream, deadline)
        finally:
            self._reactor.guests -= 1
            # A stream whose socket went to the reactor is empty by now.
            await trio.aclose_forcefully(stream)

    async def _detect(self, stream: trio.SocketStream, deadline: float) -> None:
        received = bytes(await stream.receive_some(_RECEIVE_SIZE))
        if not received:
            return
        full = self._reactor.guests + len(self._reactor) > self._limits.connections
        if detect(received) is Kind.STREAM:
            if full:
                await self._refuse(
                    stream, frame_line(disconnect_message(Reason.TRY_AGAIN_LATER, _FULL))
                )
                return
            limits = self._limits
            wire = JsonStream(limits.message_bytes, first_limit=limits.unidentified_bytes)
            self._hand_over(stream, wire, received, deadline)
        elif full:
            await self._refuse(stream, _UNAVAILABLE)
        else:
            await self._shake_hands(stream, received, deadline)

    async def _shake_hands(
        self, stream: trio.SocketStream, received: bytes, deadline: float
    ) -> None:
        limits = self._limits
        handshake = ServerHandshake(limits.handshake_bytes, self._allowed_origins)
        handshake.receive(received)
        while handshake.state is HandshakeState.PENDING:
            received = bytes(await stream.receive_some(_RECEIVE_SIZE))
            if not received:
                return
            handshake.receive(received)
        if handshake.state is HandshakeState.REJECTED:
            await self._refuse(stream, handshake.data_to_send())
            return
        await stream.send_all(handshake.data_to_send())
        wire = WebSocketWire(
            Role.SERVER, limits.message_bytes, first_limit=limits.unidentified_bytes
        )
        self._hand_over(stream, wire, handshake.leftover, deadline)

    def _hand_over(
        self, stream: trio.SocketStream, wire: Wire, received: bytes, deadline: float
    ) -> None:
        address = _address_of(stream)
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        peer = self._dispatcher.open(wire, address, self._clock(), deadline)
        self._reactor.adopt(Connection(sock, wire, peer), received)

    async def _refuse(self, stream: trio.SocketStream, answer: bytes) -> None:
        """Send a last answer, and see to it that it can be read.

        Closing while bytes of theirs are unread would make the system reset the connection, and the
        answer might be lost with it.
        """
        with trio.move_on_after(self._timing.goodbye_ms / 1000):
            await stream.send_all(answer)
            await stream.send_eof()
            while await stream.receive_some(_RECEIVE_SIZE):
                pass


def _address_of(stream: trio.SocketStream) -> str:
    """Where a connection comes from, for people."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "unknown"
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix"
