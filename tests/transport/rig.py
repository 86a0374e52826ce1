"""A reactor over socket pairs, driven step by step, on a clock that stands still."""

from __future__ import annotations

import json
import socket
from typing import Any, Protocol, Self

import attrs

from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer, PeerState
from broker.core.settings import LimitSettings, Settings, TimingSettings, TokenSettings
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from broker.transport.connection import Connection
from broker.transport.poller import WRITABLE
from broker.transport.reactor import Reactor

__all__ = ["IDENTIFY", "Far", "FarSocket", "Rig", "event"]

IDENTIFY = b'{"op":1,"data":{"token":"secret","group":"demo"}}'

_RECEIVE_SIZE = 1 << 20


def event(receiver: str, size: int = 0, id: str = "1") -> bytes:
    """An EVENT for one connection."""
    return (
        b'{"op":0,"id":"%b","event":"E","data":"%b","intent":{"target":"DIRECT","identifier":"%b"}}'
        % (id.encode(), b"x" * size, receiver.encode())
    )


class FarSocket(Protocol):
    """What the other end of a connection is to the tests."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


@attrs.define(eq=False)
class Far:
    """The other end of a connection.

    Attributes:
        sock: the client's socket; it does not block either.
        connection: what the reactor has.
        received: what has come and was not taken yet.
        ended: the broker has shut its side.
    """

    sock: FarSocket
    wire: Wire
    connection: Connection
    received: bytearray = attrs.field(factory=bytearray)
    ended: bool = False

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    @property
    def id(self) -> str:
        return self.peer.id

    @property
    def waits_to_write(self) -> bool:
        return bool(self.connection.watched & WRITABLE)

    def send(self, message: bytes) -> None:
        """Send one message, framed."""
        self.sock.sendall(self.wire.frame(message))

    def receive(self) -> bytes:
        """Return all that is there to be read now."""
        before = len(self.received)
        while not self.ended:
            try:
                data = self.sock.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            self.ended = not data
            self.received += data
        return bytes(self.received[before:])

    def frames(self) -> list[dict[str, Any]]:
        """Take the whole frames that have come; of a raw stream."""
        self.receive()
        end = self.received.rfind(b"\n") + 1
        lines = bytes(self.received[:end]).splitlines()
        del self.received[:end]
        return [json.loads(line) for line in lines]


class Rig:
    """A dispatcher, a reactor, and as many connections as are asked for."""

    def __init__(
        self, timing: TimingSettings | None = None, limits: LimitSettings | None = None
    ) -> None:
        settings = Settings(
            tokens=(TokenSettings(hash_token("secret")),),
            timing=timing or TimingSettings(),
            limits=limits or LimitSettings(),
        )
        self.now = 1000.0
        self.dispatcher = Dispatcher(settings)
        self.reactor = Reactor(self.dispatcher, settings, lambda: self.now)
        self._socks: list[socket.socket] = []

    def connect(
        self, received: bytes = b"", *, websocket: bool = False, buffer: int | None = None
    ) -> Far:
        """Have the reactor adopt one end of a new socket pair.

        Args:
            received: bytes that have been read from it already.
            websocket: that, instead of a raw stream.
            buffer: about how many bytes the system takes before it says that it would block.
        """
        near, far = socket.socketpair()
        self._socks.append(far)
        near.setblocking(False)
        far.setblocking(False)
        if buffer is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        wire: Wire = WebSocketWire(Role.SERVER) if websocket else JsonStream()
        peer = self.dispatcher.open(wire, "pair", self.now, self.now + 5)
        connection, sock = self.make_ends(near, far, wire, peer)
        self.reactor.adopt(connection, received)
        return Far(sock, WebSocketWire(Role.CLIENT) if websocket else JsonStream(), connection)

    def make_ends(
        self, near: socket.socket, far: socket.socket, wire: Wire, peer: Peer
    ) -> tuple[Connection, FarSocket]:
        """Return what the reactor gets of a new connection, and what the client gets."""
        return Connection(near, wire, peer), far

    def join(self, *, websocket: bool = False, buffer: int | None = None) -> Far:
        """Connect, identify, and read the answer."""
        client = self.connect(websocket=websocket, buffer=buffer)
        client.send(IDENTIFY)
        self.poll()
        assert b'"op":1' in client.receive()
        client.received.clear()
        assert client.peer.state is PeerState.IDENTIFIED
        return client

    def poll(self) -> bool:
        """One batch."""
        return self.reactor.poll_once(self.now)

    def settle(self) -> None:
        """As many batches as there is something to do in."""
        while self.poll():
            pass

    def tick(self, seconds: float) -> None:
        """Let time pass, and do what has fallen due, as the reactor's timer task does."""
        self.now += seconds
        self.reactor.tick(self.now)
        self.reactor._arm_timer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.reactor._abandon_all()
        for sock in self._socks:
            sock.close()
