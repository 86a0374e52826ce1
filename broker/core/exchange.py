"""Brings EVENT and REPLY frames to their receivers: the hot path.

A frame for one receiver waits until all that came with it has been looked at, so that frames from
one peer to one other are encoded, framed and put into the outbox together. That halves the cost of
a frame where many come at a time, and costs nothing where they come one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET

from broker.core import notices
from broker.core.broker_service import BrokerService
from broker.core.calls import Verdict
from broker.core.chronicle import Failure
from broker.core.flow import Flow
from broker.core.metrics import Metrics, kind_of
from broker.core.peer import Effects, Peer, PeerState
from broker.core.registry import Registry
from broker.core.requests import Requests
from broker.core.router import InvalidIntentError, Router
from broker.core.statistics import Counters
from broker.protocol.codec import Envelope, EnvelopeIntent, Message, Refusal, encode
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import OpCode
from broker.protocol.wire import Framer

__all__ = ["Batch", "Exchange"]

Batch = dict[Peer, list[Envelope]]
"""Frames that wait to be delivered, by their receivers."""

# Looked at for every message, so looked up once.
_EVENT, _REPLY = int(OpCode.EVENT), int(OpCode.REPLY)
_IDENTIFIED = PeerState.IDENTIFIED


class Exchange:
    """Routes what identified peers send to each other.

    Args:
        registry: who is there.
        effects: where frames for peers are entered.
        counters: what has happened so far.
        metrics: where it is measured what goes by here.
        flow: told of receivers that cannot keep up.
        requests: told of requests and their answers.
        service: answers what is sent to the broker itself.
        new_id: makes ids for events that have none.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        effects: Effects,
        counters: Counters,
        metrics: Metrics,
        flow: Flow,
        requests: Requests,
        service: BrokerService,
        new_id: Callable[[], str],
    ) -> None:
        self._effects = effects
        self._counters = counters
        self._metrics = metrics
        self._flow = flow
        self._requests = requests
        self._service = service
        self._new_id = new_id
        self._router = Router(registry)
        # The very objects, for the hot path.
        self._ledger = requests.ledger
        self._by_id: Mapping[str | None, Peer] = registry.by_id  # type: ignore[assignment]
        self._high = flow.high

    def set_limits(self) -> None:
        """Go by the limits that the flow control has now."""
        self._high = self._flow.high

    def sole_receiver(self, peer: Peer, message: Message, now: float) -> Peer | None:
        """Return whom a frame goes to if nothing about it is out of the ordinary.

        That is: a complete EVENT or REPLY for one connection, which is there. All else is left
        untouched, for `route`.
        """
        op = message.op
        if (op != _EVENT and op != _REPLY) or peer.state is not _IDENTIFIED:
            return None
        envelope: Envelope = message  # type: ignore[assignment] # no refusal has such an op
        intent = envelope.intent
        event = envelope.event
        if intent is None or envelope.source is not None:
            return None
        if peer.permissions is not None and self._objection(peer, envelope, intent) is not None:
            return None
        if event is None or envelope.id is None:
            if op == _EVENT:
                return None
        elif event[0] == "$":
            return None
        if intent.target == "DIRECT":
            receiver = self._by_id.get(intent.identifier)
        elif op == _EVENT and intent.pick == "ONE" and intent.target == "GROUP":
            request = envelope.timeout is not None
            receiver = self._requests.pick(peer, intent, request=request)
        else:
            return None
        if receiver is None:
            return None
        if op == _EVENT:
            if envelope.timeout is not None:
                if self._ledger.open(peer, envelope, receiver, now) is None:
                    return None
                if receiver.balancer is not None:
                    receiver.balancer.update(receiver)
            if intent.pick is not None and intent.target == "GROUP":
                self._metrics.to_one_of_a_group += 1
        elif receiver.ended is None:
            self._metrics.replies += 1
        else:
            call = receiver.asked.get(envelope.id)  # type: ignore[arg-type] # None is no id
            if call is not None:
                if call.callee is not peer and call not in peer.working:
                    return None
                self._ledger.answered(call, peer)
                if envelope.error is not UNSET:
                    self._metrics.traffic.failed(receiver.party, peer.party)
                if peer.balancer is not None:
                    self._requests.released(peer)
            elif envelope.id in receiver.ended:
                return None
            self._metrics.replies += 1
        envelope.source = peer.source_json  # type: ignore[assignment] # see `Envelope`
        return receiver

    def _objection(self, peer: Peer, envelope: Envelope, intent: EnvelopeIntent) -> str | None:
        """Return what a peer's permissions say against a frame, or None.

        What is sent to the broker itself, and a REPLY about a request in the ledger, is not judged
        here: who was asked may answer.
        """
        rules = peer.permissions
        if rules is None:
            return None
        target, group = intent.target, intent.identifier
        if target == "DIRECT":
            if group == notices.BROKER_ID:
                return None
            receiver = self._by_id.get(group)
            if receiver is None:
                group = None
            else:
                if envelope.op == _REPLY:
                    verdict = self._ledger.judge(receiver, envelope.id, peer)
                    if verdict is not Verdict.UNKNOWN:
                        return None
                group = receiver.source.group
        return rules.objection(envelope.event, target, group)

    def is_answer(self, peer: Peer, envelope: Envelope) -> bool:
        """Whether a REPLY is one to a request, or would have been if it had come in time."""
        intent = envelope.intent
        if intent is None or intent.target != "DIRECT":
            return False
        receiver = self._by_id.get(intent.identifier)
        return receiver is not None and self._ledger.judge(receiver, envelope.id, peer) in (
            Verdict.ANSWER,
            Verdict.LATE,
        )

    def _ask(self, requester: Peer, envelope: Envelope, callee: Peer) -> bool:
        """Enter a request to one peer in the ledger, unless there is an objection."""
        if self._ledger.open(requester, envelope, callee, self._requests.now) is None:
            return False
        if callee.balancer is not None:
            callee.balancer.update(callee)
        return True

    def deliver(self, sender: Peer, batch: Batch, now: float) -> None:
        """Put frames into the outboxes of their receivers, and empty the batch."""
        try:
            while batch:
                receiver, envelopes = batch.popitem()
                if len(envelopes) == 1:
                    self.deliver_one(sender, receiver, envelopes[0], now)
                    continue
                self._effects.send(receiver, receiver.frame_all(envelopes))
                receiver.messages_out += len(envelopes)
                self._counters.frames_out += len(envelopes)
                if receiver.outbox_bytes > self._high:
                    self._flow.congest(sender, receiver, now)
        except Exception:
            # A fault of ours, with one receiver. The others get theirs all the same.
            self.deliver(sender, batch, now)
            raise

    def deliver_one(self, sender: Peer, receiver: Peer, envelope: Envelope, now: float) -> None:
        """Put one frame into the outbox of its receiver."""
        self._effects.send(receiver, receiver.frame(encode(envelope)))
        receiver.messages_out += 1
        self._counters.frames_out += 1
        if receiver.outbox_bytes > self._high:
            self._flow.congest(sender, receiver, now)

    def route(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """Bring one EVENT or REPLY to its receivers."""
        cancel = envelope.event == notices.CANCEL and envelope.op == _EVENT
        if cancel and envelope.source is None:
            self._on_cancel(peer, envelope)
            return
        intent = self._complete(peer, envelope)
        if intent is None:
            return
        if peer.permissions is not None:
            objection = self._objection(peer, envelope, intent)
            if objection is not None:
                self._counters.denied += 1
                self._error(peer, envelope, ErrorCode.FORBIDDEN, objection)
                return
        if intent.target == "DIRECT" and intent.identifier == notices.BROKER_ID:
            problem = self._service.handle(peer, envelope) if envelope.op == _EVENT else None
            if problem is not None:
                self._counters.denied += problem[0] is ErrorCode.FORBIDDEN
                self._error(peer, envelope, *problem)
            return
        try:
            receivers = self._router.receivers(peer, intent)
        except InvalidIntentError as error:
            self._error(peer, envelope, error.code, str(error))
            return
        if not receivers:
            self._unroutable(peer, envelope, intent)
            return
        if envelope.id is None and envelope.op == _EVENT:
            envelope.id = self._new_id()
        if envelope.op == _REPLY:
            self._route_reply(peer, envelope, intent, receivers, now)
        elif envelope.timeout is not None:
            self._route_request(peer, envelope, intent, receivers, now)
        else:
            self._broadcast(peer, self._narrow(peer, intent, receivers), envelope, now)

    def _route_reply(
        self,
        peer: Peer,
        envelope: Envelope,
        intent: EnvelopeIntent,
        receivers: Sequence[Peer],
        now: float,
    ) -> None:
        """Bring a REPLY to its receivers, unless it pretends to answer what it does not."""
        for receiver in receivers:
            verdict = self._ledger.judge(receiver, envelope.id, peer)
            if verdict is Verdict.LATE:
                self._counters.late_replies += 1
                return
            if verdict is Verdict.FOREIGN:
                self._error(
                    peer,
                    envelope,
                    ErrorCode.FORBIDDEN,
                    f"id: {envelope.id!r} is a request that you were not asked",
                )
                return
            if verdict is Verdict.ANSWER and intent.target != "DIRECT":
                self._error(
                    peer,
                    envelope,
                    ErrorCode.INVALID_INTENT,
                    f"intent: answer a request with DIRECT to its requester, {receiver.id!r}",
                )
                return
        self._broadcast(peer, self._narrow(peer, intent, receivers), envelope, now)

    def _narrow(
        self, peer: Peer, intent: EnvelopeIntent, receivers: Sequence[Peer]
    ) -> Sequence[Peer]:
        """Return the one of the receivers that is meant, if one is."""
        if intent.pick != "ONE" or intent.target != "GROUP":
            return receivers
        chosen = self._requests.pick(peer, intent, request=False)
        # There is none where all of them are draining: any of them will do.
        return receivers[:1] if chosen is None else (chosen,)

    def _route_request(
        self,
        peer: Peer,
        envelope: Envelope,
        intent: EnvelopeIntent,
        receivers: Sequence[Peer],
        now: float,
    ) -> None:
        problem = self._ledger.objection(peer, envelope)
        staying = [receiver for receiver in receivers if not receiver.draining]
        if problem is None and not staying:
            problem = ErrorCode.DRAINING, "whoever could be asked is about to leave: try again"
        if problem is None and intent.pick == "ONE" and intent.target == "GROUP":
            chosen = self._requests.pick(peer, intent, request=True)
            if chosen is None:
                envelope.source = peer.source_json  # type: ignore[assignment] # see `Envelope`
                problem = self._requests.wait(peer, envelope)
            else:
                self._ask(peer, envelope, chosen)
                self._broadcast(peer, (chosen,), envelope, now)
        elif problem is None and intent.target == "DIRECT":
            self._ask(peer, envelope, receivers[0])
            self._broadcast(peer, receivers, envelope, now)
        elif problem is None:
            self._requests.ask_all(peer, envelope, staying)
            self._broadcast(peer, staying, envelope, now)
        if problem is not None:
            self._error(peer, envelope, *problem)

    def _on_cancel(self, peer: Peer, envelope: Envelope) -> None:
        if envelope.id is None:
            self._error(peer, envelope, ErrorCode.INVALID_FRAME, "id: say which request to give up")
        else:
            self._requests.cancel(peer, envelope.id)

    def _broadcast(
        self, sender: Peer, receivers: Sequence[Peer], envelope: Envelope, now: float
    ) -> None:
        """Put a frame into many outboxes: encoded once, and framed once a kind of framing."""
        envelope.source = sender.source_json  # type: ignore[assignment] # see `Envelope`
        message = encode(envelope)
        share, count = self._effects.backlog.share, len(receivers)
        framed_by: dict[Framer, bytes] = {}
        for receiver in receivers:
            framed = framed_by.get(receiver.frame)
            if framed is None:
                framed = framed_by[receiver.frame] = share(receiver.frame(message), count)
            self._effects.send(receiver, framed)
            receiver.messages_out += 1
            if receiver.outbox_bytes > self._high:
                self._flow.congest(sender, receiver, now)
        self._counters.frames_out += count
        self._metrics.copies[kind_of(envelope)] += count
        self._effects.copies += count

    def _complete(self, peer: Peer, envelope: Envelope) -> EnvelopeIntent | None:
        """Look whether a frame has all it needs; answer with an error where it has not.

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
        return envelope.intent

    def _unroutable(self, peer: Peer, envelope: Envelope, intent: EnvelopeIntent) -> None:
        if envelope.op == _REPLY:
            # An error in answer to an answer would be of use to nobody.
            self._counters.unroutable_replies += 1
        elif intent.target != "GLOBAL" or envelope.timeout is not None:
            other = "other " if intent.identifier == peer.source.group else ""
            what = {
                "GLOBAL": "other connection",
                "GROUP": f"{other}member of group {intent.identifier!r}",
                "DIRECT": f"connection {intent.identifier!r}",
            }[intent.target]
            self._error(peer, envelope, ErrorCode.NO_ROUTE, f"there is no {what}")

    def _error(self, peer: Peer, envelope: Envelope, code: ErrorCode, message: str) -> None:
        intent = envelope.intent
        meant = None if intent is None else self._group_meant(intent)
        self.refuse(peer, Refusal(code, message, id=envelope.id, event=envelope.event), meant)

    def _group_meant(self, intent: EnvelopeIntent) -> str | None:
        if intent.target != "DIRECT":
            return intent.identifier if intent.target == "GROUP" else None
        receiver = self._by_id.get(intent.identifier)
        return None if receiver is None else receiver.source.group

    def refuse(self, peer: Peer, refusal: Refusal, meant: str | None = None) -> None:
        """Answer a frame with an error; the connection stays.

        Args:
            peer: who sent it.
            refusal: what is wrong with it.
            meant: the group that it was for, where that is known.
        """
        self._counters.refused[refusal.code] += 1
        self._metrics.chronicle.note_failure(
            Failure(
                self._requests.now,
                refusal.code,
                peer.source.group,
                meant,
                refusal.event,
                refusal.message,
            )
        )
        # With the id of a request in flight, the error would pass for the end of that request.
        taken = refusal.id in peer.asked
        details: dict[str, object] = {"id": refusal.id} if taken else {}
        if refusal.retry_after is not None:
            details["retry_after"] = refusal.retry_after
        message = notices.error(
            None if taken else refusal.id, refusal.event, refusal.code, refusal.message, details
        )
        self._effects.send(peer, peer.frame(message))
