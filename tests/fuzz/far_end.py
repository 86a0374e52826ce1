"""The other end of a connection to the broker in memory: says anything, and reads with care."""

from __future__ import annotations

from collections import Counter

import attrs
from msgspec import Raw

from broker.core.peer import Peer, PeerState
from broker.protocol.codec import Envelope, parse_data
from broker.protocol.frames import OpCode
from broker.protocol.json_stream import JsonStream
from broker.protocol.wire import Wire
from tests.fuzz.memory_sockets import MemorySocket

__all__ = ["Asked", "FarEnd"]


@attrs.define
class Asked:
    """A request, as the one who made it sees it.

    Attributes:
        gather: whether it goes to many.
        cancelled: whether it was given up; then it may end without a word.
        expected: how many endings there have to be; of a gather, `$expect` tells.
        endings: how many there have been.
    """

    gather: bool
    cancelled: bool = False
    expected: int = 1
    endings: int = 0


@attrs.define(eq=False)
class FarEnd:
    """A client.

    Attributes:
        honest: nothing that is no frame has been sent from here, so every request has its ending.
        asked: the requests, by their ids.
        to_answer: requests of others that came here: their ids, and who asked.
        senders: who has sent anything here, and how often.
        told_to_go: a DISCONNECT has come.
    """

    sock: MemorySocket
    wire: Wire = attrs.field(repr=False)
    peer: Peer = attrs.field(repr=lambda peer: peer.id)
    honest: bool = True
    asked: dict[str, Asked] = attrs.field(factory=dict)
    to_answer: list[tuple[str, str]] = attrs.field(factory=list)
    senders: Counter[str] = attrs.field(factory=Counter)
    told_to_go: bool = False

    @property
    def id(self) -> str:
        return self.peer.id

    @property
    def identified(self) -> bool:
        return self.peer.state is PeerState.IDENTIFIED

    def send(self, message: bytes) -> None:
        """Send one message, framed."""
        if isinstance(self.wire, JsonStream):
            self.sock.inbox += message + b"\n"
        else:
            self.sock.inbox += self.wire.frame(message)

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self.honest = False
        self.sock.inbox += data

    def read(self) -> None:
        """Read what has come: all of it is in order, and nothing comes behind a goodbye."""
        data = bytes(self.sock.sent)
        self.sock.sent.clear()
        assert not (data and self.wire.finished), "bytes behind a close frame"
        for message in self.wire.receive(data):
            assert isinstance(message, Envelope), message
            assert not self.told_to_go, f"{message} came behind a DISCONNECT"
            self._take(message)
        assert self.wire.failure is None, self.wire.failure
        # It must answer pings and the close frame, to be a client at all.
        self.sock.inbox += self.wire.take_replies()

    def _take(self, envelope: Envelope) -> None:
        match envelope.op:
            case OpCode.DISCONNECT:
                self.told_to_go = True
            case OpCode.PING:
                if self.honest:
                    self.send(b'{"op":4}')
            case OpCode.EVENT | OpCode.REPLY:
                assert envelope.source is not None
                self.senders[envelope.source.id] += 1
                self._take_routed(envelope, envelope.source.id)

    def _take_routed(self, envelope: Envelope, sender: str) -> None:
        id = envelope.id
        if envelope.op == OpCode.EVENT:
            if envelope.timeout is not None and id is not None:
                self.to_answer.append((id, sender))
            return
        asked = self.asked.get(id or "")
        if asked is None:
            return
        if envelope.event == "$expect":
            assert asked.gather
            assert isinstance(envelope.data, Raw)
            asked.expected = len(parse_data(envelope.data)["members"])
        else:
            asked.endings += 1
            assert asked.endings <= asked.expected, f"{id} has ended twice"
