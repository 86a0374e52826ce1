"""One frame in, effects on peers out.

The dispatcher is where everything in the core meets. It is synchronous, does no I/O and knows no
clock: whoever calls it passes `now` (seconds, monotonic) and then carries out what stands in
`effects`. The reactor does so over sockets, a test broker over memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Final

import attrs

from broker.core import notices
from broker.core.backlog import Backlog
from broker.core.broker_service import BrokerService
from broker.core.cutting import Cutter
from broker.core.deadlines import Alarm, Deadlines
from broker.core.draining import DRAINED, Drains
from broker.core.entrance import Entrance
from broker.core.exchange import Batch, Exchange
from broker.core.flow import Flow
from broker.core.heartbeat import Heartbeat
from broker.core.metrics import IGNORED, Metrics, kind_of
from broker.core.peer import Effects, Farewell, Peer, PeerState
from broker.core.registry import Registry
from broker.core.request_trace import RequestTrace
from broker.core.requests import Requests
from broker.core.settings import Settings
from broker.core.statistics import Counters, Statistics, take_statistics
from broker.protocol.codec import (
    Envelope,
    Message,
    Refusal,
    disconnect_message,
)
from broker.protocol.errors import NestingError, Reason, RemoteProtocolError
from broker.protocol.frames import OpCode
from broker.protocol.identify import Welcome
from broker.protocol.wire import Wire

__all__ = ["Dispatcher", "random_id"]


def random_id() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())


# Looked at for every message, so looked up once.
_EVENT, _REPLY = int(OpCode.EVENT), int(OpCode.REPLY)
_IDENTIFIED = PeerState.IDENTIFIED

# Copies of broadcasts that wait to be written, each of which takes a place in an outbox. Without a
# bound, what comes with one read could be some two thousand events for each of all connections.
_MOST_COPIES: Final = 262_144


class Dispatcher:
    """The broker without its sockets.

    Args:
        settings: what the operator has set.
        epoch: the wall-clock time at the zero of the clock that `now` is taken from, in seconds
            since 1970; for showing times to people.
        new_id: makes connection ids, and ids for events that have none.
        wall_clock: returns the wall-clock time, by which the times in JWTs are judged; without it,
            `epoch` and `now` tell.
        trace: is told what becomes of each request.

    Attributes:
        effects: what the transport has to do; see `Effects`.
        alarm: when the transport has to call `tick`.
        registry: the identified peers.
        counters: what has happened so far.
        metrics: what is measured beside that.
        drains: the services that are to come to their end.
    """

    def __init__(
        self,
        settings: Settings,
        epoch: float = 0.0,
        new_id: Callable[[], str] = random_id,
        wall_clock: Callable[[], float] | None = None,
        trace: RequestTrace | None = None,
    ) -> None:
        self._settings = settings
        self._new_id = new_id
        self.effects = Effects(
            settings.limits.outbox_bytes, Backlog(settings.limits.outboxes_bytes)
        )
        self.registry = Registry()
        self.counters = Counters()
        self.metrics = Metrics(enabled=settings.ops.metrics)
        self._peers: set[Peer] = set()
        ping = settings.timing.ping_ms / 1000
        self.alarm = Alarm()
        self._heartbeat = Heartbeat(ping, self.alarm)
        self._opening: Deadlines[Peer] = Deadlines(self.alarm)
        self._entrance = Entrance(
            settings,
            self.counters,
            self.alarm,
            (lambda now: epoch + now) if wall_clock is None else (lambda _now: wall_clock()),
        )
        limits = settings.limits
        self.flow = Flow(
            limits.outbox_high_bytes,
            settings.timing.stall_ms / 1000,
            self.effects,
            self.alarm,
        )
        self.requests = Requests(
            registry=self.registry,
            effects=self.effects,
            counters=self.counters,
            limits=limits,
            forgive=2 * ping,
            alarm=self.alarm,
            metrics=self.metrics,
            trace=trace,
        )
        self._cutter = Cutter(self.effects, self.counters, self.close)
        self.drains = Drains(self.registry, self.requests, self.alarm, settings.timing.drain_ms)
        self._service = BrokerService(
            self.registry,
            self.effects,
            lambda: attrs.asdict(self.statistics()),
            self.drains,
            epoch,
        )
        self._exchange = Exchange(
            registry=self.registry,
            effects=self.effects,
            counters=self.counters,
            metrics=self.metrics,
            flow=self.flow,
            requests=self.requests,
            service=self._service,
            new_id=new_id,
        )
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
            id=self._new_id(),
            frame=wire.frame,
            frame_all=wire.frame_all,
            address=address,
            last_heard=now,
        )
        self._peers.add(peer)
        self._opening.add(peer, deadline, now)
        self.counters.opened += 1
        return peer

    def receive(self, peer: Peer, messages: Sequence[Message], now: float) -> None:
        """Handle the messages that came from a peer, in order."""
        peer.last_heard = self.requests.now = now
        count = len(messages)
        before = peer.outbox_bytes
        exchange = self._exchange
        if peer.bucket is not None:
            messages = peer.bucket.limit(peer, messages, now, exchange.is_answer)
        if count == 1 and (receiver := exchange.sole_receiver(peer, messages[0], now)) is not None:
            # By far the most common case while the load is low.
            exchange.deliver_one(peer, receiver, messages[0], now)  # type: ignore[arg-type]
        else:
            self._receive_all(peer, messages, now)
        grown = peer.outbox_bytes - before
        if grown > 0 and peer.state is not PeerState.CLOSED:
            # Whoever makes the broker answer, and does not read, is a slow receiver of its own.
            # What others send to it does not count: a worker with a backlog goes on answering.
            peer.owed = min(peer.owed, before) + grown
            if peer.owed > self.flow.high:
                self.flow.congest(peer, peer, now)
        peer.messages_in += count
        self.counters.frames_in += count

    def _receive_all(self, peer: Peer, messages: Sequence[Message], now: float) -> None:
        exchange = self._exchange
        batch: Batch = {}
        rest = iter(messages)
        try:
            for message in rest:
                receiver = exchange.sole_receiver(peer, message, now)
                if receiver is not None:
                    run = batch.get(receiver)
                    if run is None:
                        batch[receiver] = [message]  # type: ignore[list-item] # no refusal
                    else:
                        run.append(message)  # type: ignore[arg-type] # likewise
                else:
                    # Whatever this is, it comes after all that came before it.
                    exchange.deliver(peer, batch, now)
                    if peer.state is PeerState.CLOSED:
                        self.metrics.handled[IGNORED] += 1 + sum(1 for _ in rest)
                        break
                    self.metrics.handled[kind_of(message)] += 1
                    self._handle(peer, message, now)
                    if peer.outbox_bytes > self.effects.limit:
                        # A small question can have a large answer, and many come at a time.
                        self._cutter.cut(peer, "outbox_bytes")
                    if self.effects.copies > _MOST_COPIES:
                        # So can an event for everybody have very many copies.
                        self.effects.copies = 0
                        self.effects.write_early()
        finally:
            # After a fault of ours too: the ledger has the answers in the batch as given, and
            # whoever asked for them would wait for ever.
            exchange.deliver(peer, batch, now)

    def lost(self, peer: Peer, now: float | None = None) -> None:
        """Note that a connection is gone, whoever ended it. Can be said more than once.

        Args:
            peer: whose.
            now: seconds; the time of the batch at hand where it is left out.
        """
        if now is not None:
            self.requests.now = now
        if peer.state is not PeerState.CLOSED:
            if peer.state is _IDENTIFIED:
                self.metrics.chronicle.note_loss(peer, self.requests.now)
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
        self.metrics.chronicle.note_end(peer, reason, message, self.requests.now)
        try:
            self._leave(peer, reason)
        finally:
            peer.farewell = Farewell(
                reason,
                disconnect_message(reason, message),
                reason.close_code if close_code is None else close_code,
                message,
                discard,
            )
            if discard:
                # At once, since others may need the memory.
                self.effects.discard(peer)
            self.effects.to_close.append(peer)

    def fail(self, peer: Peer, failure: RemoteProtocolError) -> None:
        """End a connection that sent bytes that are no frame."""
        self.counters.too_deep += isinstance(failure, NestingError)
        self.close(peer, failure.reason, str(failure), close_code=failure.close_code)

    def drain(self) -> None:
        """Take no new requests; those in flight may end."""
        self.requests.ledger.draining = True

    def end_requests(self) -> None:
        """End every request, and tell nobody any more who comes and goes."""
        self.requests.end_all()
        self._service.stop()

    def close_some(self, most: int, reason: Reason, message: str = "") -> int:
        """End some connections; return how many are left."""
        for peer in list(islice(self._peers, most)):
            self.close(peer, reason, message)
        return len(self._peers)

    def close_all(self, reason: Reason, message: str = "") -> None:
        """End every request and every connection."""
        self.end_requests()
        self.close_some(len(self._peers), reason, message)

    def reload(self, settings: Settings, now: float) -> None:
        """Go by other settings from now on.

        Who is not known any more is disconnected; what the others may do changes at once. Limits
        count from now on: nothing that is there already is ended for them. `timing.ping_ms` stays
        as it is, since every connection was told of it.

        Args:
            settings: the new ones.
            now: seconds.

        Raises:
            ValueError: the keys for JWTs are no good; nothing has changed.
        """
        leaving = self._entrance.reload(settings, list(self.registry), now)
        self.requests.now = now
        timing, limits = settings.timing, settings.limits
        timing = attrs.evolve(timing, ping_ms=self._settings.timing.ping_ms)
        self._settings = attrs.evolve(settings, timing=timing)
        self.effects.limit = limits.outbox_bytes
        self.effects.backlog.budget = limits.outboxes_bytes
        self.flow.set_limits(limits.outbox_high_bytes, timing.stall_ms / 1000)
        self.requests.set_limits(limits)
        self.drains.limit = timing.drain_ms / 1000
        self._exchange.set_limits()
        self._service.review()
        for peer, message in leaving:
            self.close(peer, Reason.UNAUTHORIZED, message)

    # Time.

    def tick(self, now: float) -> None:
        """Do what has fallen due."""
        self.requests.tick(now)
        for peer in self._opening.due(now):
            self.close(
                peer,
                Reason.IDENTIFY_TIMEOUT,
                f"no IDENTIFY within {self._settings.timing.identify_ms} ms",
            )
        for peer in self._entrance.expired(now):
            self.close(
                peer,
                Reason.UNAUTHORIZED,
                "the token that you identified yourself with has expired; come back with a new one",
            )
        for peer, expired in self._heartbeat.tick(now):
            if expired:
                self.close(
                    peer,
                    Reason.PING_TIMEOUT,
                    f"silent for {self._settings.timing.ping_ms} ms after a PING",
                )
            else:
                self.counters.pings += 1
                self.effects.send_ahead(peer, peer.frame(notices.PING))
        for peer in list(self.flow.tick(now)):
            self._cutter.cut(peer, "stall_ms")
        for peer in self.drains.tick(now):
            self.close(peer, Reason.NO_REASON, DRAINED)
        self.alarm.time = min(
            self._heartbeat.next,
            self._opening.next,
            self._entrance.next,
            self.flow.next,
            self.requests.next,
            self.drains.next,
        )

    def settle(self) -> None:
        """Cut the receivers past their limit. A transport calls this when it has written."""
        self._cutter.settle()

    def statistics(self) -> Statistics:
        """Return a snapshot of the counts."""
        return take_statistics(
            self.counters,
            connections=len(self._peers),
            identified=len(self.registry),
            groups=len(self.registry.groups),
            requests=self.requests.ledger.opened,
            requests_in_flight=len(self.requests.ledger),
            congestions=self.flow.congestions,
            outboxes_bytes=self.effects.backlog.bytes,
        )

    def _handle(self, peer: Peer, message: Message, now: float) -> None:
        """Handle any message at all."""
        op = message.op
        if peer.state is PeerState.OPENING:
            self._receive_unidentified(peer, message, now)
        elif isinstance(message, Refusal):
            self._exchange.refuse(peer, message)
        elif op == _EVENT or op == _REPLY:
            self._exchange.route(peer, message, now)
        else:
            self._handlers[op](peer, message, now)

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
            group = self._entrance.admit(peer, envelope, now)
        except RemoteProtocolError as error:
            self.fail(peer, error)
            return
        self._opening.discard(peer)
        peer.enter(PeerState.IDENTIFIED)
        if peer.on_identified is not None:
            peer.on_identified()
        peer.party = self.metrics.traffic.join(group)
        self._service.joined(peer)
        self.registry.add(peer)
        self._heartbeat.watch(peer)
        welcome = Welcome(
            id=peer.id,
            group=group,
            ping=self._settings.timing.ping_ms,
            message_bytes=self._settings.limits.message_bytes,
        )
        self.effects.send(peer, peer.frame(notices.welcome(envelope.id, welcome)))
        self.requests.joined(peer)

    def _on_disconnect(self, peer: Peer, envelope: Envelope, now: float) -> None:
        self._leave_quietly(peer)

    def _on_ping(self, peer: Peer, envelope: Envelope, now: float) -> None:
        self.effects.send_ahead(peer, peer.frame(notices.pong(envelope.id)))

    def _on_pong(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """That it came is all there is to it; `receive` has noted the time."""

    # Errors and ends.

    def _leave_quietly(self, peer: Peer) -> None:
        """End a connection that said goodbye itself: nothing is left to tell it."""
        self._leave(peer, Reason.NO_REASON)
        peer.farewell = Farewell(Reason.NO_REASON, None, Reason.NO_REASON.close_code)
        self.effects.to_close.append(peer)

    def _leave(self, peer: Peer, reason: Reason) -> None:
        """Take a peer out of everything. From here on no frame is routed to it or taken from it."""
        identified = peer.state is _IDENTIFIED
        peer.enter(PeerState.CLOSED)
        self.counters.closed[reason] += 1
        self._peers.discard(peer)
        self._opening.discard(peer)
        # Each step is taken, from the last one up, whatever becomes of the others: after a fault of
        # ours in one, nobody may be left in the registry who never answers.
        with ExitStack() as steps:
            if identified:
                steps.callback(self._service.left, peer, reason)
                steps.callback(self.requests.left, peer)
                steps.callback(self.registry.remove, peer)
                steps.callback(self._entrance.leave, peer)
                steps.callback(self._heartbeat.forget, peer)
                steps.callback(self.drains.forget, peer)
                if peer.party is not None:
                    steps.callback(self.metrics.traffic.leave, peer.party)
            steps.callback(self.flow.relieve, peer)
