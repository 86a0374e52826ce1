"""One frame in, effects on peers out.

The dispatcher is where everything in the core meets. It is synchronous, does no I/O and knows no
clock: whoever calls it passes `now` (seconds, monotonic) and then carries out what stands in
`effects`. The reactor does so over sockets, a test broker over memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence

from msgspec import Raw

from broker.core.authentication import TokenTable
from broker.core.deadlines import Deadlines
from broker.core.flow import Flow
from broker.core.heartbeat import Heartbeat
from broker.core.peer import Effects, Farewell, Member, Peer, PeerState
from broker.core.registry import Registry
from broker.core.router import InvalidIntentError, Router
from broker.core.settings import Settings
from broker.core.statistics import Counters, Statistics
from broker.protocol.codec import (
    Envelope,
    EnvelopeIntent,
    EnvelopeSource,
    Message,
    Refusal,
    disconnect_message,
    encode,
)
from broker.protocol.errors import ErrorCode, Reason, RemoteProtocolError
from broker.protocol.frames import OpCode
from broker.protocol.identify import Welcome, parse_identification
from broker.protocol.wire import Framer, Wire

__all__ = ["BROKER_ID", "Dispatcher"]

BROKER_ID = "$broker"
"""The broker's own id and group, in the `source` of frames that it writes itself."""

_BROKER_SOURCE = EnvelopeSource(id=BROKER_ID, group=BROKER_ID)
_PING = encode(Envelope(op=OpCode.PING))

# Looked at for every message, so looked up once.
_EVENT, _REPLY = int(OpCode.EVENT), int(OpCode.REPLY)
_IDENTIFIED = PeerState.IDENTIFIED


class Dispatcher:
    """The broker without its sockets.

    Attributes:
        effects: what the transport has to do; see `Effects`.
        registry: the identified peers.
        counters: what has happened so far.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tokens = TokenTable(settings.tokens)
        self.effects = Effects()
        self.registry = Registry()
        self.counters = Counters()
        self._peers: set[Peer] = set()
        self._router = Router(self.registry)
        self._heartbeat = Heartbeat(settings.timing.ping_ms / 1000)
        self._opening: Deadlines[Peer] = Deadlines()
        limits = settings.limits
        self.flow = Flow(
            limits.outbox_high_bytes,
            limits.outbox_bytes,
            settings.timing.stall_ms / 1000,
            self.effects,
        )
        # For the hot path: each of these is the same object for good.
        self._by_id: Mapping[str | None, Peer] = self.registry.by_id  # type: ignore[assignment]
        self._high = self.flow.high
        self._handlers: dict[int, Callable[[Peer, Envelope, float], None]] = {
            OpCode.IDENTIFY: self._on_identify,
            OpCode.DISCONNECT: self._on_disconnect,
            OpCode.PING: self._on_ping,
            OpCode.PONG: self._on_pong,
        }

    # What a transport tells.

    def open(self, wire: Wire, address: str, now: float, deadline: float) -> Peer:
        """Take in a connection that has yet to identify itself.

        Args:
            wire: the connection's framing.
            address: where it comes from, for people.
            now: seconds.
            deadline: when it must have identified itself, in seconds.
        """
        peer = Peer(
            id=str(uuid.uuid4()),
            frame=wire.frame,
            frame_all=wire.frame_all,
            address=address,
            last_heard=now,
        )
        self._peers.add(peer)
        self._opening.add(peer, deadline)
        self.counters.opened += 1
        return peer

    def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> None:
        """Handle the messages that came from a peer, in order."""
        peer.last_heard = now
        count = 0
        batch: dict[Peer, list[Envelope]] = {}
        for message in messages:
            count += 1
            receiver = self._sole_receiver(peer, message)
            if receiver is not None:
                run = batch.get(receiver)
                if run is None:
                    batch[receiver] = [message]  # type: ignore[list-item] # no refusal either
                else:
                    run.append(message)  # type: ignore[arg-type] # likewise
            else:
                # Whatever this is, it comes after all that came before it.
                self._deliver(peer, batch, now)
                if peer.state is PeerState.CLOSED:
                    break
                self._handle(peer, message, now)
        self._deliver(peer, batch, now)
        peer.messages_in += count
        self.counters.frames_in += count

    def lost(self, peer: Peer) -> None:
        """Note that a connection is gone, whoever ended it. Can be said more than once."""
        if peer.state is not PeerState.CLOSED:
            self._leave(peer, Reason.NO_REASON)

    def close(
        self,
        peer: Peer,
        reason: Reason,
        message: str = "",
        *,
        close_code: int | None = None,
        discard: bool = False,
    ) -> None:
        """End a connection with a DISCONNECT.

        Args:
            peer: whose. One that is closed already is left alone.
            reason: what the DISCONNECT says.
            message: for people: what was wrong, and what to do.
            close_code: the WebSocket close code, where it is not the reason's own.
            discard: throw away what is unsent.
        """
        if peer.state is PeerState.CLOSED:
            return
        self._leave(peer, reason)
        peer.farewell = Farewell(
            reason,
            disconnect_message(reason, message),
            reason.close_code if close_code is None else close_code,
            message,
            discard,
        )
        self.effects.to_close.append(peer)

    def fail(self, peer: Peer, failure: RemoteProtocolError) -> None:
        """End a connection that sent bytes that are no frame."""
        self.close(peer, failure.reason, str(failure), close_code=failure.close_code)

    def close_all(self, reason: Reason, message: str = "") -> None:
        """End every connection."""
        for peer in list(self._peers):
            self.close(peer, reason, message)

    # Time.

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do, in seconds."""
        return min(self._heartbeat.next, self._opening.next, self.flow.next)

    def tick(self, now: float) -> None:
        """Do what has fallen due."""
        for peer in self._opening.due(now):
            self.close(
                peer,
                Reason.IDENTIFY_TIMEOUT,
                f"no IDENTIFY within {self._settings.timing.identify_ms} ms",
            )
        for peer, expired in self._heartbeat.tick(now):
            if expired:
                self.close(
                    peer,
                    Reason.PING_TIMEOUT,
                    f"silent for {self._settings.timing.ping_ms} ms after a PING",
                )
            else:
                self.effects.send(peer, peer.frame(_PING))
        for peer in list(self.flow.tick(now)):
            self._cut_slow(peer)

    def settle(self) -> None:
        """Cut the receivers that went past their limit. A transport calls this before it writes."""
        for peer in self.flow.take_overfull():
            self._cut_slow(peer)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counts."""
        counters = self.counters
        return Statistics(
            connections=len(self._peers),
            identified=len(self.registry),
            groups=len(self.registry.groups),
            frames_in=counters.frames_in,
            frames_out=counters.frames_out,
            opened=counters.opened,
            closed=dict(counters.closed),
            refused=dict(counters.refused),
            unroutable_replies=counters.unroutable_replies,
        )

    # EVENT and REPLY.

    # A frame for one receiver waits until all that came with it has been looked at, so that frames
    # from one peer to one other are encoded, framed and put into the outbox together. That halves
    # the cost of a frame where many come at a time, and costs nothing where they come one by one.

    def _sole_receiver(self, peer: Peer, message: Message) -> Peer | None:
        """Return whom a frame goes to if nothing about it is out of the ordinary.

        That is: a complete EVENT or REPLY for one connection, which is there. All else is left
        untouched, for `_handle`.
        """
        op = message.op
        if (op != _EVENT and op != _REPLY) or peer.state is not _IDENTIFIED:
            return None
        envelope: Envelope = message  # type: ignore[assignment] # no refusal has such an op
        intent = envelope.intent
        if intent is None or intent.target != "DIRECT":
            return None
        event = envelope.event
        if event is None or envelope.id is None:
            if op == _EVENT:
                return None
        elif event[0] == "$":
            return None
        receiver = self._by_id.get(intent.identifier)
        if receiver is None or envelope.source is not None:
            return None
        envelope.source = peer.source
        return receiver

    def _deliver(self, sender: Peer, batch: dict[Peer, list[Envelope]], now: float) -> None:
        """Put frames into the outboxes of their receivers, and empty the batch."""
        for receiver, envelopes in batch.items():
            self.effects.send(receiver, receiver.frame_all(envelopes))
            self.counters.frames_out += len(envelopes)
            if receiver.outbox_bytes > self._high:
                self.flow.congest(sender, receiver, now)
        batch.clear()

    def _handle(self, peer: Peer, message: Message, now: float) -> None:
        """Handle any message at all."""
        op = message.op
        if peer.state is PeerState.OPENING:
            self._receive_unidentified(peer, message, now)
        elif isinstance(message, Refusal):
            self._refuse(peer, message)
        elif op == _EVENT or op == _REPLY:
            self._route(peer, message, now)
        else:
            self._handlers[op](peer, message, now)

    def _route(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """Bring one EVENT or REPLY to its receivers."""
        intent = self._complete(peer, envelope)
        if intent is None:
            return
        try:
            receivers = self._router.receivers(peer, intent)
        except InvalidIntentError as error:
            self._error(peer, envelope, error.code, str(error))
            return
        if receivers:
            envelope.source = peer.source
            self._broadcast(peer, receivers, envelope, now)
        else:
            self._unroutable(peer, envelope, intent)

    def _broadcast(
        self, sender: Peer, receivers: Sequence[Peer], envelope: Envelope, now: float
    ) -> None:
        """Put a frame into many outboxes: encoded once, and framed once a kind of framing."""
        message = encode(envelope)
        framed_by: dict[Framer, bytes] = {}
        for receiver in receivers:
            framed = framed_by.get(receiver.frame)
            if framed is None:
                framed = framed_by[receiver.frame] = receiver.frame(message)
            self.effects.send(receiver, framed)
            if receiver.outbox_bytes > self._high:
                self.flow.congest(sender, receiver, now)
        self.counters.frames_out += len(receivers)

    def _complete(self, peer: Peer, envelope: Envelope) -> EnvelopeIntent | None:
        """Fill in what a frame may leave out; answer with an error where something is wrong.

        Returns:
            The frame's intent, if it can go on.
        """
        code, problem = ErrorCode.INVALID_FRAME, ""
        if envelope.source is not None:
            problem = "source: is written by the broker; leave it out"
        elif envelope.event is None and envelope.op == _EVENT:
            problem = "event: an EVENT needs a name"
        elif envelope.event is not None and envelope.event.startswith("$"):
            problem = f"event: {envelope.event!r}: names that begin with $ are the broker's own"
        elif envelope.intent is None:
            code = ErrorCode.INVALID_INTENT
            problem = "intent: say whom it is for: GLOBAL, GROUP or DIRECT"
        if problem:
            self._error(peer, envelope, code, problem)
            return None
        if envelope.id is None and envelope.op == _EVENT:
            envelope.id = str(uuid.uuid4())
        return envelope.intent

    def _unroutable(self, peer: Peer, envelope: Envelope, intent: EnvelopeIntent) -> None:
        if envelope.op == _REPLY:
            # An error in answer to an answer would be of use to nobody.
            self.counters.unroutable_replies += 1
        elif intent.target != "GLOBAL":
            what = "member of group" if intent.target == "GROUP" else "connection"
            self._error(
                peer, envelope, ErrorCode.NO_ROUTE, f"there is no {what} {intent.identifier!r}"
            )

    # The other ops.

    def _receive_unidentified(self, peer: Peer, message: Message, now: float) -> None:
        if message.op == OpCode.DISCONNECT:
            self._leave_quietly(peer)
        elif isinstance(message, Envelope) and message.op == OpCode.IDENTIFY:
            self._on_identify(peer, message, now)
        elif isinstance(message, Refusal):
            self.close(peer, Reason.INVALID_PAYLOAD, message.message)
        else:
            self.close(peer, Reason.UNAUTHORIZED, "send IDENTIFY (op 1) first")

    def _on_identify(self, peer: Peer, envelope: Envelope, now: float) -> None:
        if peer.state is PeerState.IDENTIFIED:
            self.close(peer, Reason.ALREADY_IDENTIFIED, "IDENTIFY is sent once")
            return
        try:
            group = self._admit(peer, envelope, now)
        except RemoteProtocolError as error:
            self.fail(peer, error)
            return
        self._opening.discard(peer)
        peer.enter(PeerState.IDENTIFIED)
        self.registry.add(peer)
        self._heartbeat.watch(peer)
        welcome = Welcome(
            id=peer.id,
            group=group,
            ping=self._settings.timing.ping_ms,
            message_bytes=self._settings.limits.message_bytes,
        )
        answer = Envelope(op=OpCode.IDENTIFY, id=envelope.id, data=Raw(encode(welcome)))
        self.effects.send(peer, peer.frame(encode(answer)))

    def _admit(self, peer: Peer, envelope: Envelope, now: float) -> str:
        """Authenticate; fill in what the peer said of itself; return its group."""
        said = parse_identification(envelope.data)
        if said.token is None:
            raise RemoteProtocolError(Reason.IDENTIFY_FAILED, "data.token: is missing")
        principal = self._tokens.authenticate(said.token)
        if principal is None:
            raise RemoteProtocolError(Reason.IDENTIFY_FAILED, "data.token: is not known here")
        group = said.group
        if group is None and len(principal.groups) == 1:
            (group,) = principal.groups
        if group is None:
            raise RemoteProtocolError(Reason.IDENTIFY_FAILED, "data.group: is missing")
        if not principal.may_join(group):
            raise RemoteProtocolError(
                Reason.IDENTIFY_FAILED, f"data.group: this token may not join {group!r}"
            )
        peer.source = EnvelopeSource(id=peer.id, group=group)
        peer.echo = said.echo is not False
        peer.member = Member(principal=principal, name=said.name, meta=said.meta or {}, since=now)
        return group

    def _on_disconnect(self, peer: Peer, envelope: Envelope, now: float) -> None:
        self._leave_quietly(peer)

    def _on_ping(self, peer: Peer, envelope: Envelope, now: float) -> None:
        pong = Envelope(op=OpCode.PONG, id=envelope.id)
        self.effects.send(peer, peer.frame(encode(pong)))

    def _on_pong(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """That it came is all there is to it; `receive` has noted the time."""

    # Errors and ends.

    def _error(self, peer: Peer, envelope: Envelope, code: ErrorCode, message: str) -> None:
        self._refuse(peer, Refusal(code, message, id=envelope.id, event=envelope.event))

    def _refuse(self, peer: Peer, refusal: Refusal) -> None:
        """Answer a frame with an error; the connection stays."""
        self.counters.refused[refusal.code] += 1
        answer = Envelope(
            op=OpCode.REPLY,
            id=refusal.id,
            event=refusal.event,
            source=_BROKER_SOURCE,
            error=Raw(encode({"code": refusal.code, "message": refusal.message})),
        )
        self.effects.send(peer, peer.frame(encode(answer)))

    def _cut_slow(self, peer: Peer) -> None:
        self.close(
            peer,
            Reason.SLOW_CONSUMER,
            f"{peer.outbox_bytes} bytes were waiting to be read",
            discard=True,
        )

    def _leave_quietly(self, peer: Peer) -> None:
        """End a connection that said goodbye itself: nothing is left to tell it."""
        self._leave(peer, Reason.NO_REASON)
        peer.farewell = Farewell(Reason.NO_REASON, None, Reason.NO_REASON.close_code)
        self.effects.to_close.append(peer)

    def _leave(self, peer: Peer, reason: Reason) -> None:
        """Take a peer out of everything. From here on no frame is routed to it or taken from it."""
        peer.enter(PeerState.CLOSED)
        self._peers.discard(peer)
        self._opening.discard(peer)
        self._heartbeat.forget(peer)
        self.registry.remove(peer)
        self.flow.relieve(peer)
        self.counters.closed[reason] += 1
