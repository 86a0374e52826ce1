"""The real dispatcher over memory, on a clock that stands still until it is moved."""

from __future__ import annotations

import itertools
import json
from typing import Any

import attrs

from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer, PeerState
from broker.core.settings import Settings, TokenSettings
from broker.protocol.json_stream import JsonStream

TOKEN = "let-me-in"
TOKENS = (TokenSettings(hash_token(TOKEN)),)


@attrs.define(eq=False)
class Client:
    """One connection's end."""

    mesh: MemoryMesh = attrs.field(repr=False)
    wire: JsonStream = attrs.field(repr=False)
    peer: Peer = attrs.field(repr=lambda peer: peer.id)

    @property
    def id(self) -> str:
        return self.peer.id

    @property
    def gone(self) -> bool:
        return self.peer.state is PeerState.CLOSED

    def send(self, **frame: Any) -> None:
        self.send_bytes(json.dumps(frame).encode() + b"\n")

    def identify(self, group: str, **said: Any) -> None:
        self.send(op=1, data={"token": TOKEN, "group": group, **said})

    def send_bytes(self, data: bytes) -> None:
        dispatcher = self.mesh.dispatcher
        dispatcher.receive(self.peer, self.wire.receive(data), self.mesh.now)
        if self.wire.failure is not None:
            dispatcher.fail(self.peer, self.wire.failure)
        dispatcher.settle()

    def take(self) -> list[dict[str, Any]]:
        """Return the frames that have come since the last time."""
        lines = b"".join(self.peer.outbox).splitlines()
        self.peer.outbox.clear()
        self.peer.outbox_bytes = 0
        if self.peer.farewell is not None and self.peer.farewell.disconnect is not None:
            lines.append(self.peer.farewell.disconnect)
            self.peer.farewell = None
        return [json.loads(line) for line in lines]

    def leave(self) -> None:
        """Be gone, as by a broken connection."""
        self.mesh.dispatcher.lost(self.peer)


class MemoryMesh:
    """A broker without sockets."""

    def __init__(self, settings: Settings | None = None) -> None:
        ids = (f"id-{number}" for number in itertools.count(1))
        self.dispatcher = Dispatcher(settings or Settings(tokens=TOKENS), new_id=ids.__next__)
        self.now = 1000.0

    def connect(self, address: str = "memory", certificate_names: tuple[str, ...] = ()) -> Client:
        wire = JsonStream()
        peer = self.dispatcher.open(wire, address, self.now, self.now + 5)
        peer.certificate_names = certificate_names
        return Client(self, wire, peer)

    def join(self, group: str, **said: Any) -> Client:
        """Connect, and identify."""
        client = self.connect()
        client.identify(group, **said)
        (welcome,) = client.take()
        assert welcome["data"]["id"] == client.id
        return client

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.dispatcher.tick(self.now)
