"""The real dispatcher and the real framings over memory, beside a plain model of what must arrive.

The transport here does what the reactor does, with lists in place of sockets: bytes are cut
anywhere on their way in and out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer, PeerState
from broker.core.settings import LimitSettings, Settings, TokenSettings
from broker.protocol.codec import REFUSED, Envelope, Message
from broker.protocol.errors import Reason
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire

__all__ = ["Endpoint", "Item", "ModelMesh", "cut"]

TOKEN: Final = "secret"
SETTINGS: Final = Settings(
    tokens=(TokenSettings(hash_token(TOKEN)),),
    # What is sent is read at once, so no limit is ever met.
    limits=LimitSettings(outbox_high_bytes=1 << 40, outbox_bytes=1 << 40, outboxes_bytes=1 << 40),
)

Item = tuple[str, int, str, str | None, bytes]
"""What a receiver sees of a frame: source, op, id, event, data (or the error)."""


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut bytes in pieces; none of them is empty."""
    ends = sorted({place % len(data) for place in places} - {0} | {len(data)}) if data else []
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@attrs.define(eq=False)
class Endpoint:
    """A connection, seen from both ends.

    Attributes:
        wire: the broker's framing.
        far: the client's.
        inbox: what has arrived at the client and was not compared yet.
        expected: what has to.
        framed: whether the client separates its objects, where that is up to it.
    """

    wire: Wire
    far: Wire
    peer: Peer
    group: str
    echo: bool
    separator: bytes
    inbox: list[Item] = attrs.field(factory=list)
    expected: list[Item] = attrs.field(factory=list)
    ended: bool = False

    @property
    def id(self) -> str:
        return self.peer.id

    def frame(self, message: bytes) -> bytes:
        """Frame a message as this client does."""
        if isinstance(self.far, JsonStream):
            return message + self.separator
        return self.far.frame(message)


class ModelMesh:
    """A mesh, and what everybody in it has to see."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher(SETTINGS)
        self.now = 1000.0
        self.alive: dict[str, Endpoint] = {}
        self._by_peer: dict[Peer, Endpoint] = {}
        self.sent = self.delivered = 0

    # What can happen.

    def join(
        self, group: str, *, websocket: bool, echo: bool = True, separator: bytes = b""
    ) -> Endpoint:
        """Connect and identify."""
        if websocket:
            wire: Wire = WebSocketWire(Role.SERVER)
            far: Wire = WebSocketWire(Role.CLIENT)
        else:
            wire, far = JsonStream(), JsonStream()
        peer = self.dispatcher.open(wire, "memory", self.now, self.now + 5)
        endpoint = Endpoint(wire, far, peer, group, echo, separator)
        self._by_peer[peer] = endpoint
        data = b'{"token":"%b","group":"%b","echo":%b}'
        said = data % (TOKEN.encode(), group.encode(), b"true" if echo else b"false")
        self._take(endpoint, endpoint.frame(b'{"op":1,"data":%b}' % said), ())
        assert peer.state is PeerState.IDENTIFIED
        self.alive[peer.id] = endpoint
        return endpoint

    def send(
        self, sender: Endpoint, frames: Sequence[tuple[int, str, str, bytes]], places: Iterable[int]
    ) -> None:
        """Send frames in one go, cut at some places: op, target, identifier, data for each."""
        block = bytearray()
        for op, target, identifier, data in frames:
            id = f"{sender.id}/{self.sent}"
            self.sent += 1
            message = (
                b'{"op":%d,"id":"%b","event":"E","data":%b,'
                b'"intent":{"target":"%b","identifier":"%b"}}'
            ) % (op, id.encode(), data, target.encode(), identifier.encode())
            block += sender.frame(message)
            self._expect(sender, op, id, target, identifier, data)
        self._take(sender, bytes(block), places)

    def leave(self, endpoint: Endpoint, manner: str) -> None:
        """Be gone, in one of several ways."""
        del self.alive[endpoint.id]
        if manner == "DISCONNECT":
            self._take(endpoint, endpoint.frame(b'{"op":2,"data":"bye"}'), ())
        elif manner == "garbage":
            self._take(endpoint, endpoint.frame(b'{"op":9}'), ())
        elif manner == "closed by the broker":
            self.dispatcher.close(endpoint.peer, Reason.REPLACED)
        else:
            self.dispatcher.lost(endpoint.peer)
        self._carry_out(())
        assert endpoint.peer.state is PeerState.CLOSED

    def check(self) -> None:
        """Compare what has arrived with what had to."""
        for endpoint in self._by_peer.values():
            assert endpoint.inbox == endpoint.expected
            self.delivered += len(endpoint.inbox)
            endpoint.inbox.clear()
            endpoint.expected.clear()
        registry = self.dispatcher.registry
        assert list(registry.by_id) == list(self.alive)
        assert {group: set(members) for group, members in registry.groups.items()} == {
            endpoint.group: {
                other.id for other in self.alive.values() if other.group == endpoint.group
            }
            for endpoint in self.alive.values()
        }
        self._by_peer = {endpoint.peer: endpoint for endpoint in self.alive.values()}

    # The model.

    def _expect(
        self,
        sender: Endpoint,
        op: int,
        id: str,
        target: str,
        identifier: str,
        data: bytes,
    ) -> None:
        everybody = self.alive.values()
        if target == "DIRECT":
            receivers = [self.alive[identifier]] if identifier in self.alive else []
        else:
            receivers = [
                other
                for other in everybody
                if (target == "GLOBAL" or other.group == identifier)
                and (other is not sender or sender.echo)
            ]
        for receiver in receivers:
            receiver.expected.append((sender.id, op, id, "E", data))
        if not receivers and op == 0 and target != "GLOBAL":
            sender.expected.append(("$broker", 5, id, "E", b"NO_ROUTE"))

    # The transport.

    def _take(self, endpoint: Endpoint, data: bytes, places: Iterable[int]) -> None:
        for piece in cut(data, places):
            messages = endpoint.wire.receive(piece)
            if messages:
                self.dispatcher.receive(endpoint.peer, messages, self.now)
            if endpoint.wire.failure is not None:
                self.dispatcher.fail(endpoint.peer, endpoint.wire.failure)
            self._carry_out(places)

    def _carry_out(self, places: Iterable[int]) -> None:
        self.dispatcher.settle()
        effects = self.dispatcher.effects
        assert not effects.to_pause
        assert not effects.to_resume
        assert len(effects.to_flush) == len(set(effects.to_flush))
        for peer in effects.to_close:
            assert peer.farewell is not None
            if peer.farewell.disconnect is not None:
                peer.outbox.append(peer.frame(peer.farewell.disconnect))
        for peer in [*effects.to_flush, *effects.to_close]:
            if peer.outbox:
                self._arrive(self._by_peer[peer], b"".join(peer.outbox), places)
                peer.outbox.clear()
                peer.outbox_bytes = 0
        effects.to_flush.clear()
        effects.to_close.clear()

    def _arrive(self, endpoint: Endpoint, data: bytes, places: Iterable[int]) -> None:
        for piece in cut(data, places):
            for message in endpoint.far.receive(piece):
                item = _item(message)
                if item is None:
                    endpoint.ended = endpoint.ended or message.op == 2
                else:
                    assert not endpoint.ended
                    endpoint.inbox.append(item)
        assert endpoint.far.failure is None


def _item(message: Message) -> Item | None:
    assert message.op != REFUSED
    assert isinstance(message, Envelope)
    if message.op in (1, 2):
        return None
    assert message.source is not None
    assert message.id is not None
    if message.source.id == "$broker":
        error = bytes(memoryview(message.error))  # type: ignore[arg-type]
        code = error.partition(b'"code":"')[2].partition(b'"')[0]
        return "$broker", message.op, message.id, message.event, code
    data = bytes(memoryview(message.data))  # type: ignore[arg-type]
    return message.source.id, message.op, message.id, message.event, data
