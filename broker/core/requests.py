"""What happens to requests: who is asked, who waits, and how each of them ends.

A request is an EVENT with `timeout`. For DIRECT and for one of a group, its requester gets exactly
one terminal frame: the callee's REPLY, or a REPLY with `error` from here, whichever comes first.
For a broadcast (a gather) it gets `$expect` with the members asked, and then exactly one REPLY or
error a member. A request that its requester gives up ends without a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from broker.core import notices
from broker.core.balancer import Balancer, is_full
from broker.core.calls import Call, CallLedger
from broker.core.chronicle import Failure
from broker.core.deadlines import Alarm, Deadlines
from broker.core.metrics import EVENT_GROUP, Metrics
from broker.core.peer import Effects, Peer
from broker.core.registry import Registry
from broker.core.request_trace import CANCELLED, RequestTrace, TracedLedger
from broker.core.settings import LimitSettings
from broker.core.statistics import Counters
from broker.protocol.codec import Envelope, EnvelopeIntent, encode
from broker.protocol.errors import ErrorCode

__all__ = ["Requests"]


class Requests:
    """The requests of the whole mesh.

    Args:
        registry: who can be asked.
        effects: where frames for peers are entered.
        counters: what has happened so far.
        limits: how many requests there may be.
        forgive: seconds after which a member that let a request expire is taken for as good as any
            other. By then its heartbeat has told whether it lives.
        alarm: when to call `tick`.
        metrics: where it is measured what becomes of requests.
        trace: is told what becomes of each.

    Attributes:
        ledger: the requests in flight.
        now: the time of the batch at hand, in seconds; set by the dispatcher.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        effects: Effects,
        counters: Counters,
        limits: LimitSettings,
        forgive: float,
        alarm: Alarm,
        metrics: Metrics,
        trace: RequestTrace | None = None,
    ) -> None:
        bounds = (limits.requests, limits.requests_per_connection)
        self.ledger = (
            CallLedger(*bounds, alarm, metrics)
            if trace is None
            else TracedLedger(*bounds, alarm, metrics, trace=trace, clock=lambda: self.now)
        )
        self._metrics = metrics
        self.now = 0.0
        self._trace = trace
        self._registry = registry
        self._effects = effects
        self._counters = counters
        self._limits = limits
        self._forgive = forgive
        self._balancers: dict[str, Balancer] = {}
        self._unforgiven: Deadlines[Peer] = Deadlines(alarm)
        self.waiting_bytes = 0

    @property
    def next(self) -> float:
        """When to look again, in seconds."""
        return min(self.ledger.wheel.next, self._unforgiven.next)

    @property
    def waiting(self) -> int:
        """How many requests wait for a free member."""
        return sum(map(_queued, self._balancers.values()))

    def waiting_for(self, group: str) -> int:
        """How many of them wait for one of a group."""
        balancer = self._balancers.get(group)
        return 0 if balancer is None else _queued(balancer)

    def set_limits(self, limits: LimitSettings) -> None:
        """Go by other limits from now on. What is in flight, or waits already, stays."""
        self._limits = limits
        self.ledger.set_limits(limits.requests, limits.requests_per_connection)

    # Asking.

    def ask_all(self, requester: Peer, envelope: Envelope, callees: Sequence[Peer]) -> None:
        """Enter a gather, and tell its requester whom to expect. Delivering is up to the caller."""
        call = self.ledger.open(requester, envelope, None, self.now)
        if call is None:
            return
        self.ledger.ask_all(call, callees)
        for callee in callees:
            if callee.balancer is not None:
                callee.balancer.update(callee)
        self._tell(requester, notices.expect(call.id, callees))

    def pick(self, sender: Peer, intent: EnvelopeIntent, *, request: bool) -> Peer | None:
        """Return the one member of a group that a frame goes to.

        Args:
            sender: passed over if it wants no copies of its own.
            intent: GROUP, with `pick` ONE.
            request: whether an answer is awaited: then `concurrency` counts.

        Returns:
            None where there is no member, or none that can take a request now.
        """
        balancer = self._balancer(intent.identifier or "")
        if balancer is None:
            return None
        but = _but(sender, balancer)
        if len(balancer) == (but is not None):
            return None
        if intent.key is not None:
            peer = balancer.pick_by_key(intent.key, but)
            return None if request and is_full(peer) else peer
        return balancer.pick(but) if request else balancer.in_turn(but)

    def wait(self, requester: Peer, envelope: Envelope) -> tuple[ErrorCode, str] | None:
        """Let a request for one of a group wait until a member is free.

        Returns:
            Why it cannot wait, or None.
        """
        intent = envelope.intent
        balancer = None if intent is None else self._balancer(intent.identifier or "")
        if intent is None or balancer is None or not len(balancer):
            return _no_route(intent)
        but = _but(requester, balancer)
        if len(balancer) == (but is not None):
            return _no_route(intent)
        size = _size(envelope)
        waiting = _queued(balancer)
        full = waiting >= self._limits.waiting_per_group
        if full or self.waiting_bytes + size > self._limits.waiting_bytes:
            return (
                ErrorCode.OVERLOADED,
                f"group {intent.identifier!r} is at its concurrency, and {waiting} requests wait",
            )
        # What waits must not keep the whole block alive that it came in.
        if isinstance(envelope.data, Raw):
            envelope.data = envelope.data.copy()
        if isinstance(envelope.error, Raw):
            envelope.error = envelope.error.copy()
        call = self.ledger.open(requester, envelope, None, self.now)
        if call is None:
            return self.ledger.objection(requester, envelope)
        call.waiting = envelope
        chosen = None if intent.key is None else balancer.pick_by_key(intent.key, but)
        _move(call, balancer.queue_for(chosen), self.ledger.opened)
        self.waiting_bytes += size
        if self._trace is not None:
            self._trace.asked(call, ())
        return None

    # Ending.

    def released(self, callee: Peer) -> None:
        """Note that a callee has one request less in hand."""
        balancer = callee.balancer
        if balancer is not None:
            balancer.update(callee)
            if balancer.waiting or balancer.waiting_for:
                self._serve(callee, balancer)

    def cancel(self, requester: Peer, id: str) -> None:
        """End a request that its requester gives up. One that has ended already is left alone."""
        call = requester.asked.get(id)
        if call is not None:
            self._give_up(call)

    def left(self, peer: Peer) -> None:
        """End what a peer that has gone was asked for, and what it asked for."""
        self._unforgiven.discard(peer)
        # First of all, so that nothing is handed to it while its own affairs are wound up.
        balancer, peer.balancer = peer.balancer, None
        if balancer is not None:
            balancer.remove(peer)
        # Those that wait come first, lest they are handed out in the places of the others.
        for call in sorted(peer.asked.values(), key=lambda call: call.waiting is None):
            self._give_up(call)
        for call in list(peer.working):
            self.ledger.lose(call, peer)
            self._fail(call, ErrorCode.PEER_GONE, "left before it answered", peer)
        if balancer is not None:
            self._find_new_places(peer, balancer)

    def retire(self, peer: Peer) -> None:
        """Give a member no new requests. Those that it has in hand it may answer."""
        balancer, peer.balancer = peer.balancer, None
        if balancer is not None:
            balancer.remove(peer)
            self._find_new_places(peer, balancer)

    def joined(self, peer: Peer) -> None:
        """Take a new member of a group into account."""
        balancer = self._balancers.get(peer.source.group)
        if balancer is not None:
            peer.balancer = balancer
            balancer.add(peer)
            for call in balancer.taken_over_by(peer):
                _move(call, balancer.queue_for(peer))
            self._serve(peer, balancer)

    def tick(self, now: float) -> None:
        """End the requests whose time is over."""
        self.now = now
        for peer in self._unforgiven.due(now):
            peer.missed = 0
            if peer.balancer is not None:
                peer.balancer.update(peer)
        for call in self.ledger.due(now):
            self._expire(call)

    def end_all(self) -> None:
        """End every request, since the broker is going down."""
        for call in list(self.ledger):
            callees = self._end(call)
            for callee in callees or (None,):
                self._fail(call, ErrorCode.DRAINING, "the broker is going down", callee)

    # How it is done.

    def _end(self, call: Call) -> Sequence[Peer]:
        if call.waiting is not None:
            self.waiting_bytes -= _size(call.waiting)
        return self.ledger.end(call)

    def _expire(self, call: Call) -> None:
        if call.waiting is not None:
            self._end(call)
            self._fail(call, ErrorCode.EXPIRED, "no member was free in time")
            return
        for callee in self._end(call):
            callee.missed += 1
            self._unforgiven.add(callee, self.now + self._forgive, self.now)
            self._fail(call, ErrorCode.EXPIRED, "did not answer in time", callee)
            self.released(callee)

    def _give_up(self, call: Call) -> None:
        self._counters.cancelled += 1
        if self._trace is not None:
            self._trace.ended(call, None, CANCELLED, self.now - call.since)
        for callee in self._end(call):
            self._tell(callee, notices.cancel(call.id, call.requester.source))
            self.released(callee)

    def _fail(self, call: Call, code: ErrorCode, message: str, member: Peer | None = None) -> None:
        """Tell a requester that it will get no answer, or none from one member."""
        self._counters.failed[code] += 1
        self._note_failure(call, code, message, member)
        if self._trace is not None:
            self._trace.ended(call, member, code.value, self.now - call.since)
        details = None
        if member is not None:
            details = {"member": member.id}
            if code is not ErrorCode.DRAINING:
                message = f"{member.source.group} {member.id} {message}"
        self._tell(call.requester, notices.error(call.id, call.event, code, message, details))

    def _note_failure(self, call: Call, code: ErrorCode, message: str, member: Peer | None) -> None:
        """Count the error for the two groups, and write it down for people to look at."""
        requester = call.requester
        callee: str | None = None
        if member is not None:
            callee = member.source.group
            self._metrics.traffic.failed(requester.party, member.party)
        elif call.waiting is not None and call.waiting.intent is not None:
            callee = call.waiting.intent.identifier
        self._metrics.chronicle.note_failure(
            Failure(self.now, code, requester.source.group, callee, call.event, message)
        )

    def _tell(self, peer: Peer, message: bytes) -> None:
        self._effects.send(peer, peer.frame(message))

    def _balancer(self, group: str) -> Balancer | None:
        """Return a group's balancer. It is made when the group is first asked for one member."""
        balancer = self._balancers.get(group)
        if balancer is None:
            members = [peer for peer in self._registry.members(group).values() if not peer.draining]
            if members:
                balancer = self._balancers[group] = Balancer()
                for peer in members:
                    peer.balancer = balancer
                    balancer.add(peer)
        return balancer

    def _find_new_places(self, gone: Peer, balancer: Balancer) -> None:
        """See to the requests that waited for a member that has gone, or that wait in vain now."""
        orphans = list(balancer.waiting_for.pop(gone, ()))
        if not len(balancer):
            del self._balancers[gone.source.group]
            orphans += balancer.waiting
        elif (sole := balancer.sole_member) is not None:
            orphans += [call for call in balancer.waiting if _but(call.requester, balancer) is sole]
        for call in orphans:
            self._requeue(call, balancer)

    def _requeue(self, call: Call, balancer: Balancer) -> None:
        """Find another place for a request whose member, or whose whole group, has gone."""
        envelope = call.waiting
        intent = None if envelope is None else envelope.intent
        but = _but(call.requester, balancer)
        if intent is None or intent.key is None or len(balancer) == (but is not None):
            self._end(call)
            self._fail(call, *_no_route(intent))
            return
        chosen = balancer.pick_by_key(intent.key, but)
        _move(call, balancer.queue_for(chosen))
        self._serve(chosen, balancer)

    def _serve(self, callee: Peer, balancer: Balancer) -> None:
        """Hand waiting requests to a member for as long as it can take any."""
        while (call := balancer.next_for(callee)) is not None:
            envelope = call.waiting
            if envelope is None:
                return
            if call.deadline <= self.now:
                self._expire(call)
                continue
            self.waiting_bytes -= _size(envelope)
            # Waiting has used up some of the time.
            envelope.timeout = max(1, round((call.deadline - self.now) * 1000))
            self.ledger.assign(call, callee)
            balancer.update(callee)
            self._counters.frames_out += 1
            self._metrics.copies[EVENT_GROUP] += 1
            callee.messages_out += 1
            self._tell(callee, encode(envelope))


def _but(sender: Peer, balancer: Balancer) -> Peer | None:
    """Return the member to pass over: a sender that wants no copies of its own."""
    return sender if not sender.echo and sender.balancer is balancer else None


def _move(call: Call, queue: dict[Call, int], number: int = 0) -> None:
    """Let a request wait in a queue, at its end.

    Args:
        call: the request.
        queue: where it waits from now on.
        number: its place in the order of asking; one that waited elsewhere brings its own.
    """
    if call.queue is not None:
        number = call.queue.pop(call)
    call.queue = queue
    queue[call] = number


def _queued(balancer: Balancer) -> int:
    return len(balancer.waiting) + sum(map(len, balancer.waiting_for.values()))


def _no_route(intent: EnvelopeIntent | None) -> tuple[ErrorCode, str]:
    name = None if intent is None else intent.identifier
    return ErrorCode.NO_ROUTE, f"there is no member of group {name!r}"


def _size(envelope: Envelope) -> int:
    return memoryview(envelope.data).nbytes if isinstance(envelope.data, Raw) else 0
