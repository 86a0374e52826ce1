"""One connection's state, and its outbox.

A peer knows nothing of sockets. What it is to be sent is appended to `outbox`, already framed; a
transport takes it from there. A peer whose outbox is not empty either stands in
`Effects.to_flush`, or its transport waits until it can write on.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import attrs
from msgspec import Raw

from broker.core.backlog import Backlog, discount
from broker.core.memory import EndedRequests
from broker.core.permissions import SendingRules
from broker.core.principal import Principal
from broker.protocol.codec import EnvelopeSource, encode
from broker.protocol.errors import LocalProtocolError, Reason
from broker.protocol.wire import EnvelopeFramer, Framer

if TYPE_CHECKING:
    # Each of these has peers in it; only their types are needed here.
    from broker.core.balancer import Balancer
    from broker.core.calls import Call
    from broker.core.rates import Bucket
    from broker.core.traffic import Party

__all__ = ["Effects", "Farewell", "Member", "Peer", "PeerState"]


class PeerState(Enum):
    """Where a connection stands in its life."""

    OPENING = "opening"
    IDENTIFIED = "identified"
    CLOSED = "closed"


# An absent entry is an error. A peer is closed once, whoever begins.
_TRANSITIONS: Final = frozenset(
    {
        (PeerState.OPENING, PeerState.IDENTIFIED),
        (PeerState.OPENING, PeerState.CLOSED),
        (PeerState.IDENTIFIED, PeerState.CLOSED),
    }
)


@attrs.frozen
class Member:
    """What an identified connection said of itself, as others may see it.

    Attributes:
        since: when it identified itself, on the broker's monotonic clock, in seconds.
    """

    principal: Principal
    name: str | None
    meta: dict[str, Any]
    since: float


@attrs.frozen
class Farewell:
    """How a connection ends, as its transport has to say it.

    Attributes:
        disconnect: the DISCONNECT to send, not yet framed; None where the other side said goodbye.
        close_code: for the WebSocket's close frame.
        message: for people.
        discard: what is still unsent is not worth sending: the receiver does not take it.
    """

    reason: Reason
    disconnect: bytes | None
    close_code: int
    message: str = ""
    discard: bool = False


@attrs.define(eq=False)
class Peer:
    """One connection.

    Attributes:
        id: the connection id, a UUID.
        frame: puts a message into the connection's framing.
        frame_all: encodes envelopes and puts them all into the framing.
        source: what the broker writes into the frames that it forwards from here.
        source_json: the same as JSON, written once, for every frame to come.
        permissions: what it may send; None for everything.
        echo: whether it gets its own broadcasts.
        outbox: framed messages not handed to the system yet; of the first, a part may be.
        outbox_bytes: their length in all.
        partial: how much of the outbox's first piece has been sent; `outbox_bytes` has it no more.
        urgent: of a held outbox, how many pieces at its front the next control frame comes behind.
        held: a write has left something in the outbox. While not, the next two are 0.
        counted: what the outbox takes of the memory, as the backlog has it.
        discount: of `outbox_bytes` and the like, what is not counted here, since others share it.
        taken: how often a held outbox has become smaller: its receiver reads, if slowly.
        owed: of the outbox, at most so much is in answer to what came from the peer itself.
        bucket: what it may still send at present; None for anything.
        congested: its outbox is past the high mark, and senders are held up for its sake.
        stalls: how many congested receivers this one is held up for; while any, it is not read.
        last_heard: when a frame last came from it, on the broker's monotonic clock, in seconds.
        messages_in: frames received.
        messages_out: copies of EVENT and REPLY frames that were put into the outbox.
        requests: requests that it made.
        answers: requests that it answered.
        party: its group, as `Traffic` has it; None where nothing is measured.
        draining: it is about to be sent away, and gets no new requests.
        concurrency: how many requests it takes at a time; None for any number.
        asked: its requests in flight, by their ids.
        working: the requests that it has yet to answer.
        missed: requests that expired since it last answered any.
        ended: its requests that ended lately; None until it makes its first one, and while that is
            so, no REPLY to it can be an answer.
        balancer: its group's, once the group has been asked for one of its members.
        certificate_names: the names that TLS has found in the client's certificate, and verified:
            its common name, its DNS and URI names. Empty where there is no certificate.
        on_identified: called when it has identified itself; for whoever keeps count at the door.
    """

    id: str
    frame: Framer
    frame_all: EnvelopeFramer
    address: str
    last_heard: float
    state: PeerState = PeerState.OPENING
    source: EnvelopeSource = attrs.field(init=False)
    source_json: Raw = attrs.field(init=False, repr=False)
    member: Member | None = None
    permissions: SendingRules | None = attrs.field(default=None, repr=False)
    echo: bool = True
    outbox: list[bytes] = attrs.field(factory=list, repr=False)
    outbox_bytes: int = 0
    partial: int = 0
    urgent: int = 0
    held: bool = False
    counted: int = 0
    discount: int = 0
    taken: int = 0
    owed: int = 0
    bucket: Bucket | None = attrs.field(default=None, repr=False)
    congested: bool = False
    stalls: int = 0
    messages_in: int = 0
    messages_out: int = 0
    requests: int = 0
    answers: int = 0
    party: Party | None = attrs.field(default=None, repr=False)
    draining: bool = False
    concurrency: int | None = None
    # Each of these leads to other peers, and from them back here.
    asked: dict[str, Call] = attrs.field(factory=dict, repr=False)
    working: dict[Call, None] = attrs.field(factory=dict, repr=False)
    missed: int = 0
    ended: EndedRequests | None = None
    balancer: Balancer | None = attrs.field(default=None, repr=False)
    farewell: Farewell | None = None
    certificate_names: tuple[str, ...] = ()
    on_identified: Callable[[], None] | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.set_group("")

    def set_group(self, group: str) -> None:
        """Enter the group that the peer has joined."""
        self.source = EnvelopeSource(id=self.id, group=group)
        self.source_json = Raw(encode(self.source))

    def enter(self, state: PeerState) -> None:
        """Change state.

        Raises:
            LocalProtocolError: there is no way from the present state to that one.
        """
        if (self.state, state) not in _TRANSITIONS:
            raise LocalProtocolError(f"a peer cannot go from {self.state.value} to {state.value}")
        self.state = state


def _nothing() -> None:
    """In memory there is nothing to write early."""


@attrs.define
class Effects:
    """What a transport has to do after a batch: filled by the core, emptied by the transport.

    Attributes:
        limit: bytes unsent, past which a receiver has to be cut.
        overfull: receivers that are past it.
        to_flush: peers whose outbox was empty and is not any more.
        to_close: peers that were closed; each has its `farewell`.
        to_drop: of these, peers whose connection has to go at once, without it.
        to_pause: peers that are not to be read for now.
        to_resume: peers that may be read again.
        backlog: what all receivers together have yet to take.
        copies: how many copies of broadcasts have been entered since `write_early` was called.
        write_early: writes in the midst of a batch, where it brings very many copies about.
    """

    limit: int
    backlog: Backlog = attrs.field(factory=Backlog)
    copies: int = 0
    write_early: Callable[[], None] = attrs.field(default=_nothing)
    overfull: dict[Peer, None] = attrs.field(factory=dict)
    to_flush: list[Peer] = attrs.field(factory=list)
    to_close: list[Peer] = attrs.field(factory=list)
    to_drop: list[Peer] = attrs.field(factory=list)
    to_pause: list[Peer] = attrs.field(factory=list)
    to_resume: list[Peer] = attrs.field(factory=list)

    def send(self, peer: Peer, framed: bytes) -> None:
        """Append framed bytes to a peer's outbox, and see to it that they are written."""
        if not peer.outbox:
            self.to_flush.append(peer)
        elif peer.held:
            self.backlog.grow(peer, framed)
        peer.outbox.append(framed)
        peer.outbox_bytes += len(framed)
        if peer.outbox_bytes > self.limit:
            self.overfull[peer] = None

    def send_ahead(self, peer: Peer, framed: bytes) -> None:
        """Put a control frame in front of what a slow receiver has yet to take.

        It comes behind the message that is being sent, if one is, and behind the control frames
        that came before it. Where the receiver keeps up, it has its place in the order of all.
        """
        if not (peer.held and peer.outbox):
            self.send(peer, framed)
            return
        place = max(peer.urgent, 1 if peer.partial else 0)
        peer.urgent = place + 1
        self.backlog.grow(peer, framed)
        peer.outbox.insert(place, framed)
        peer.outbox_bytes += len(framed)
        if peer.outbox_bytes > self.limit:
            self.overfull[peer] = None

    def discard(self, peer: Peer) -> None:
        """Throw away what a peer has not been sent, but for a message that it has in part.

        That one must be finished, or what follows would be garbage.
        """
        outbox = peer.outbox
        del outbox[1 if peer.partial else 0 :]
        peer.outbox_bytes = sum(map(len, outbox)) - peer.partial
        peer.urgent = 0
        if peer.held:
            peer.discount = discount(outbox)
            self.backlog.hold(peer)
