"""A broker in memory, and a crowd that does to it whatever the input of a fuzzer says.

It is the real dispatcher behind the real reactor and the real framings; only sockets, poller and
time are the test's. Everything is scarce, so that every bound is met.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, Final, NoReturn

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.settings import LimitSettings, Settings, TimingSettings, TokenSettings
from broker.protocol.errors import Reason
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.transport.connection import Connection
from broker.transport.faults import Faults
from broker.transport.reactor import Reactor
from tests.fuzz.far_end import Asked, FarEnd
from tests.fuzz.memory_sockets import MemoryPoller, MemorySocket

__all__ = ["GROUPS", "MeshWorld"]

_TOKEN: Final = TokenSettings(hash_token("t"), "anybody")
_BOUNDED_TOKEN: Final = TokenSettings(
    hash_token("b"),
    "bounded",
    permissions=PermissionSettings(
        send_global=False,
        send_groups=("a*",),
        send_events=("E", "$cancel"),
        watch=False,
        stats=True,
        messages_per_second=3,
        bytes_per_second=1000,
    ),
)

SETTINGS: Final = Settings(
    tokens=(_TOKEN, _BOUNDED_TOKEN),
    timing=TimingSettings(ping_ms=3000, stall_ms=1000, identify_ms=2000, goodbye_ms=500),
    limits=LimitSettings(
        message_bytes=2048,
        unidentified_bytes=256,
        requests_per_connection=4,
        requests=12,
        waiting_per_group=2,
        waiting_bytes=600,
        outbox_high_bytes=1500,
        outbox_bytes=4000,
        outboxes_bytes=4000,
        nesting=20,
    ),
)
# The same for those who come later, and with one token less.
_OTHER_SETTINGS: Final = Settings(
    tokens=(_TOKEN,),
    timing=SETTINGS.timing,
    limits=LimitSettings(
        message_bytes=2048,
        unidentified_bytes=256,
        requests_per_connection=2,
        requests=6,
        waiting_per_group=0,
        waiting_bytes=0,
        outbox_high_bytes=1100,
        outbox_bytes=4000,
        outboxes_bytes=4000,
        nesting=20,
        messages_per_second=20,
    ),
)

GROUPS: Final = ("a", "ab", "b")

# No more at a time: a fuzzer gets further with a few.
_MOST: Final = 8


class _LoudFaults(Faults):
    """A fault that the reactor would contain is what the fuzzer is looking for."""

    def report(self, error: Exception, doing: str) -> NoReturn:
        raise AssertionError(f"a fault of the broker's while {doing}") from error


class MeshWorld:
    """The broker and its crowd."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sockets: dict[int, MemorySocket] = {}
        self.poller = MemoryPoller(self.sockets)
        ids = (f"id-{number}" for number in itertools.count(1))
        self.dispatcher = Dispatcher(SETTINGS, new_id=ids.__next__)
        self.reactor = Reactor(self.dispatcher, SETTINGS, lambda: self.now, self.poller)
        self.reactor.faults = _LoudFaults(self.dispatcher.counters, self.reactor.log)
        self.reactor.lives = None
        self.far_ends: list[FarEnd] = []
        self.known = {"$broker"}
        self._numbers = itertools.count(100)
        self._ids = itertools.count(1)

    # What can happen.

    def connect(self, *, websocket: bool, received: bytes = b"") -> FarEnd:
        """Have somebody come in, with bytes right behind the handshake."""
        limits = SETTINGS.limits
        bounds = limits.message_bytes, limits.unidentified_bytes, limits.nesting
        wire = WebSocketWire(Role.SERVER, *bounds) if websocket else JsonStream(*bounds)
        sock = MemorySocket(next(self._numbers))
        self.sockets[sock.fileno()] = sock
        peer = self.dispatcher.open(wire, "memory", self.now, self.now + 2)
        far = FarEnd(sock, WebSocketWire(Role.CLIENT) if websocket else JsonStream(), peer)
        if len(self.far_ends) >= _MOST:
            self.far_ends.pop(0).sock.ended = True
        self.far_ends.append(far)
        self.known.add(far.id)
        far.honest = not received
        self.reactor.adopt(Connection(sock, wire, peer), received)
        return far

    def join(self, *, websocket: bool, group: str, said: dict[str, Any]) -> FarEnd:
        """Have somebody come in who identifies itself; the broker may know better."""
        far = self.connect(websocket=websocket)
        far.send(json.dumps({"op": 1, "data": {"token": "t", "group": group, **said}}).encode())
        self.poll()
        return far

    def ask(self, far: FarEnd, intent: dict[str, Any], timeout: int, event: str, size: int) -> None:
        """Make a request, whose id nobody else can come upon."""
        id = f"{far.id}/{next(self._ids)}"
        if far.identified:
            gather = intent["target"] != "DIRECT" and intent.get("pick") != "ONE"
            far.asked[id] = Asked(gather)
        frame = {"op": 0, "id": id, "event": event, "intent": intent, "timeout": timeout}
        far.send(json.dumps({**frame, "data": "x" * size}).encode())

    def cancel(self, far: FarEnd) -> None:
        """Give up the last request."""
        if far.asked:
            id, asked = list(far.asked.items())[-1]
            asked.cancelled = True
            intent = {"target": "DIRECT", "identifier": "$broker"}
            far.send(json.dumps({"op": 0, "id": id, "event": "$cancel", "intent": intent}).encode())

    def answer(self, far: FarEnd, size: int, *, twice: bool) -> None:
        """Answer the request that came first."""
        if far.to_answer:
            id, requester = far.to_answer.pop(0)
            intent = {"target": "DIRECT", "identifier": requester}
            frame = {"op": 5, "id": id, "event": "E", "data": "y" * size, "intent": intent}
            for _ in range(1 + twice):
                far.send(json.dumps(frame).encode())

    def reload(self, *, other: bool) -> None:
        """Have the operator change the settings."""
        settings = _OTHER_SETTINGS if other else SETTINGS
        self.dispatcher.reload(settings, self.now)
        self.reactor.reload(settings)
        self.reactor.flush()

    def close(self, far: FarEnd) -> None:
        """Have the broker end a connection."""
        self.dispatcher.close(far.peer, Reason.REPLACED, "for the sake of the test")
        self.reactor.flush()

    def poll(self) -> None:
        """Let the reactor do what there is to do."""
        for _ in range(100):
            if not self.reactor.poll_once(self.now):
                break
        else:
            raise AssertionError("there is no end to it")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, as the reactor's timer task does."""
        self.now += seconds
        self.reactor.tick(self.now)
        self.reactor._arm_timer()
        assert self.dispatcher.alarm.time > self.now, "what has fallen due was not done"

    def read(self, far: FarEnd) -> None:
        """Have a client read what was sent to it."""
        far.read()
        assert far.senders.keys() <= self.known

    def forget_the_gone(self) -> None:
        """Leave those alone whom the broker has let go of."""
        self.far_ends = [far for far in self.far_ends if not far.sock.closed]

    # How it ends.

    def wind_up(self) -> None:
        """Let everybody read, and all requests end; check that they have; then all leave."""
        self._let_all_requests_end()
        for far in self.far_ends:
            if far.honest and far.identified:
                self._check_endings(far)
        for far in self.far_ends:
            far.sock.ended = True
        self.poll()
        self.pass_time(5)
        assert all(sock.closed for sock in self.sockets.values())
        assert not self.poller.watched

    def _let_all_requests_end(self) -> None:
        for far in self.far_ends:
            far.sock.room = 1 << 30
        # The longest that a request or the stall of its sender may take, and then some.
        for _ in range(8):
            for far in self.far_ends:
                if far.honest and far.identified:
                    far.send(b'{"op":3}')
            self.poll()
            for far in self.far_ends:
                self.read(far)
            self.poll()
            self.pass_time(0.5)
        for far in self.far_ends:
            self.read(far)
        self.forget_the_gone()

    @staticmethod
    def _check_endings(far: FarEnd) -> None:
        for id, asked in far.asked.items():
            if not asked.cancelled:
                assert asked.endings == asked.expected, f"{id} of {far} has not ended: {asked}"
