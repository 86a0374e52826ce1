"""What receivers have yet to take: counted to the byte, whoever takes, leaves or shares what."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core import dispatcher
from broker.core.backlog import Backlog, SharedBytes
from broker.core.peer import Effects, PeerState
from broker.core.settings import LimitSettings, TimingSettings
from broker.protocol.json_stream import JsonStream
from broker.transport.connection import Connection
from tests.core.peers import make_peer
from tests.transport.rig import Far, Rig, event

# What a piece takes beside its bytes, and what of that a shared one takes for each outbox.
PIECE, PLACE = 64, 16

LARGE = 20_000


class NarrowSocket:
    """Takes as many bytes as it is told to."""

    def __init__(self) -> None:
        self.room = 0
        self.received = bytearray()

    def fileno(self) -> int:
        return -1

    def recv(self, size: int, /) -> bytes:
        raise BlockingIOError

    def send(self, data: bytes, /) -> int:
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.received += taken
        return len(taken)

    def shutdown(self, how: int, /) -> None:
        pass

    def close(self) -> None:
        pass


@attrs.define(eq=False)
class Receiver:
    """A connection whose far end reads at will, and what it has been sent so far."""

    effects: Effects
    sock: NarrowSocket = attrs.field(factory=NarrowSocket)
    connection: Connection = attrs.field(init=False)
    frames: int = 0
    controls: int = 0

    def __attrs_post_init__(self) -> None:
        self.connection = Connection(self.sock, JsonStream(), make_peer("a"))

    def write(self, room: int) -> None:
        """As the reactor does it."""
        self.sock.room = room
        peer, backlog = self.connection.peer, self.effects.backlog
        if self.connection.write():
            backlog.release(peer)
        else:
            backlog.hold(peer)


def flush(effects: Effects, receivers: list[Receiver], room: int = 0) -> None:
    for receiver in receivers:
        if receiver.connection.peer in effects.to_flush:
            receiver.write(room)
    effects.to_flush.clear()


class CountingEverything(RuleBasedStateMachine):
    """Messages, control frames and broadcasts for receivers that take them, slowly, or leave."""

    def __init__(self) -> None:
        super().__init__()
        self.effects = Effects(1 << 40, Backlog())
        self.receivers = [Receiver(self.effects) for _ in range(4)]

    number = st.integers(0, 3)
    room = st.sampled_from((0, 1, 10, 100, 5000, 1 << 30))

    @rule(number=number, size=st.sampled_from((0, 30, LARGE)), room=room)
    def send(self, number: int, size: int, room: int) -> None:
        receiver = self.receivers[number]
        self.effects.send(receiver.connection.peer, self.frame(receiver, size))
        flush(self.effects, self.receivers, room)

    def frame(self, receiver: Receiver, size: int) -> bytes:
        receiver.frames += 1
        return b"%d %b\n" % (receiver.frames, b"x" * size)

    @rule(number=number, room=room)
    def send_control(self, number: int, room: int) -> None:
        receiver = self.receivers[number]
        receiver.controls += 1
        self.effects.send_ahead(receiver.connection.peer, b"control %d\n" % receiver.controls)
        flush(self.effects, self.receivers, room)

    @rule(size=st.sampled_from((0, LARGE)), room=room)
    def broadcast(self, size: int, room: int) -> None:
        framed = self.effects.backlog.share(b"broadcast %b\n" % (b"x" * size), 4)
        for receiver in self.receivers:
            self.effects.send(receiver.connection.peer, framed)
        del framed
        flush(self.effects, self.receivers, room)

    @rule(number=number, room=room)
    def read(self, number: int, room: int) -> None:
        if self.receivers[number].connection.peer.outbox:
            self.receivers[number].write(room)

    @rule(number=number)
    def discard(self, number: int) -> None:
        """All but a message that is sent in part."""
        self.effects.discard(self.receivers[number].connection.peer)
        assert len(self.receivers[number].connection.peer.outbox) <= 1

    @rule(number=number)
    def leave(self, number: int) -> None:
        self.effects.backlog.release(self.receivers[number].connection.peer)
        self.receivers[number] = Receiver(self.effects)

    @invariant()
    def is_exact(self) -> None:
        own = 0
        shared: dict[int, int] = {}
        for receiver in self.receivers:
            peer = receiver.connection.peer
            assert peer.outbox_bytes == sum(map(len, peer.outbox)) - peer.partial
            assert peer.held >= bool(peer.outbox)
            for piece in peer.outbox:
                if isinstance(piece, SharedBytes):
                    shared[id(piece)] = len(piece)
                    own += PLACE
                else:
                    own += len(piece) + PIECE
        assert self.effects.backlog.bytes == own + sum(shared.values())
        assert len(self.effects.backlog) == sum(r.connection.peer.held for r in self.receivers)

    @invariant()
    def comes_whole_and_in_order(self) -> None:
        for receiver in self.receivers:
            *lines, _ = receiver.sock.received.split(b"\n")
            frames = [int(line.split()[0]) for line in lines if line[:1].isdigit()]
            controls = [int(line.split()[1]) for line in lines if line.startswith(b"control")]
            assert frames == sorted(frames)
            assert controls == sorted(controls)
            for line in lines:
                assert line.startswith(b"control ") or line.rstrip(b"x").endswith(b" ")


TestCounting: Any = CountingEverything.TestCase
TestCounting.settings = settings(stateful_step_count=40)


def held_receiver(effects: Effects, *pieces: bytes, taken: int = 0) -> Receiver:
    """Return a receiver that has taken so much of what it was sent."""
    receiver = Receiver(effects)
    for piece in pieces:
        effects.send(receiver.connection.peer, piece)
    flush(effects, [receiver], taken)
    return receiver


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (0, b"ping\none\ntwo\n"),
        (2, b"one\nping\ntwo\n"),
        (4, b"one\nping\ntwo\n"),
        (5, b"one\ntwo\nping\n"),
    ],
)
def test_a_control_frame_comes_at_the_next_boundary(taken: int, expected: bytes) -> None:
    effects = Effects(1 << 40)
    receiver = held_receiver(effects, b"one\n", b"two\n", taken=taken)
    effects.send_ahead(receiver.connection.peer, b"ping\n")
    receiver.write(1 << 30)
    assert receiver.sock.received == expected


def test_to_who_keeps_up_control_frames_come_in_their_order() -> None:
    effects = Effects(1 << 40)
    receiver = Receiver(effects)
    effects.send(receiver.connection.peer, b"one\n")
    effects.send_ahead(receiver.connection.peer, b"pong\n")
    flush(effects, [receiver], 1 << 30)
    assert receiver.sock.received == b"one\npong\n"


def test_a_broadcast_counts_once_and_until_the_last_has_taken_it() -> None:
    effects = Effects(1 << 40)
    receivers = [Receiver(effects) for _ in range(100)]
    framed = effects.backlog.share(b"x" * LARGE, 100)
    for receiver in receivers:
        effects.send(receiver.connection.peer, framed)
    del framed
    flush(effects, receivers, 10)
    assert effects.backlog.bytes == LARGE + 100 * PLACE
    for receiver in receivers[:-1]:
        receiver.write(1 << 30)
    assert effects.backlog.bytes == LARGE + PLACE
    receivers[-1].write(1 << 30)
    assert effects.backlog.bytes == 0


def test_a_large_piece_is_never_copied_for_what_is_left_of_it() -> None:
    """Thousands of receivers may each have taken another part of a broadcast."""
    effects = Effects(1 << 40)
    receiver = held_receiver(effects, b"x" * LARGE, taken=7)
    (piece,) = receiver.connection.peer.outbox
    assert len(piece) == LARGE
    receiver.write(7)
    assert receiver.connection.peer.outbox[0] is piece


# -- The budget of them all ------------------------------------------------------------------------

MESSAGE = 50_000
BUDGET = 1_000_000
LIMITS = LimitSettings(
    message_bytes=131_072, outbox_high_bytes=900_000, outbox_bytes=900_000, outboxes_bytes=BUDGET
)


def feed(rig: Rig, sender: Far, receiver: Far, messages: int) -> None:
    """Send to somebody who does not read."""
    for _ in range(messages):
        sender.send(event(receiver.id, MESSAGE))
        rig.settle()


def alive(*clients: Far) -> list[bool]:
    return [client.peer.state is PeerState.IDENTIFIED for client in clients]


def test_past_the_budget_the_largest_outbox_goes_first_and_no_more_than_it_takes() -> None:
    with Rig(limits=LIMITS) as rig:
        sender = rig.join()
        small, large, middle = [rig.join(buffer=4096) for _ in range(3)]
        feed(rig, sender, small, 3)
        feed(rig, sender, large, 11)
        feed(rig, sender, middle, 5)
        assert alive(small, large, middle) == [True] * 3
        assert rig.dispatcher.statistics().outboxes_bytes <= BUDGET
        feed(rig, sender, small, 2)
        assert alive(sender, small, large, middle) == [True, True, False, True]
        statistics = rig.dispatcher.statistics()
        assert statistics.evicted == 1
        assert statistics.closed == {"SLOW_CONSUMER": 1}
        assert statistics.outboxes_bytes < BUDGET / 2 + 2 * MESSAGE
        while not large.ended:
            frames = large.frames()
            rig.poll()
        assert frames[-1]["data"] == "SLOW_CONSUMER"
        assert "all receivers together" in frames[-1]["error"]["message"]
        for client, count in ((small, 5), (middle, 5)):
            received = 0
            while received < count:
                received += len(client.frames())
                rig.poll()
        assert rig.dispatcher.statistics().outboxes_bytes <= MESSAGE + 1000


def test_what_an_evicted_one_has_in_part_is_not_kept_for_its_goodbye() -> None:
    """Each has one large message, of which it has taken a little: to throw away the rest is all."""
    with Rig(limits=LIMITS) as rig:
        sender = rig.join()
        receivers = [rig.join(buffer=4096) for _ in range(12)]
        for receiver in receivers:
            sender.send(event(receiver.id, 100_000))
            rig.settle()
            assert rig.dispatcher.statistics().outboxes_bytes <= BUDGET
        assert sum(alive(*receivers)) == 9
        assert len(rig.reactor) == 1 + 9, "the others are gone altogether"


def test_a_broadcast_that_is_larger_than_the_budget_for_each_is_none_for_all() -> None:
    with Rig(limits=LIMITS) as rig:
        sender = rig.join()
        receivers = [rig.join(buffer=4096) for _ in range(40)]
        sender.send(event("", 100_000).replace(b'"DIRECT"', b'"GLOBAL"'))
        rig.settle()
        assert all(alive(*receivers))
        assert 100_000 < rig.dispatcher.statistics().outboxes_bytes < 120_000
        for receiver in receivers:
            while not receiver.frames():
                rig.poll()
        assert rig.dispatcher.statistics().outboxes_bytes == 0


def test_who_leaves_with_a_full_outbox_is_counted_no_more() -> None:
    with Rig(limits=LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(buffer=4096)
        feed(rig, sender, receiver, 5)
        assert rig.dispatcher.statistics().outboxes_bytes > 4 * MESSAGE
        receiver.sock.close()
        rig.settle()
        assert rig.dispatcher.statistics().outboxes_bytes == 0


# -- Control frames --------------------------------------------------------------------------------


def test_a_ping_gets_through_a_full_outbox() -> None:
    with Rig(TimingSettings(ping_ms=1000), LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(buffer=4096)
        feed(rig, sender, receiver, 10)
        rig.tick(1.02)
        ops: list[int] = []
        while 3 not in ops:
            ops += [frame["op"] for frame in receiver.frames()]
            rig.poll()
        assert len(ops) <= 3, "behind the message that it had in part, and those on their way"


def test_pongs_get_through_in_order() -> None:
    with Rig(limits=LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(buffer=4096)
        feed(rig, sender, receiver, 10)
        for number in range(5):
            receiver.send(b'{"op":3,"id":"%d"}' % number)
            rig.settle()
        frames: list[dict[str, Any]] = []
        while len(frames) < 15:
            frames += receiver.frames()
            rig.poll()
        pongs = [frame["id"] for frame in frames if frame["op"] == 4]
        assert pongs == ["0", "1", "2", "3", "4"]
        assert [frame["op"] for frame in frames[-8:]] == [0] * 8


def test_a_slow_reader_is_not_taken_for_dead() -> None:
    """It takes what waits for it, bit by bit, and has yet to come to the PING."""
    with Rig(TimingSettings(ping_ms=1000, stall_ms=10**9), LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(buffer=4096)
        feed(rig, sender, receiver, 10)
        for _ in range(30):
            sender.send(b'{"op":4}')
            receiver.sock.recv(5000)
            rig.tick(0.5)
        assert receiver.peer.state is PeerState.IDENTIFIED


def test_one_that_reads_nothing_is_taken_for_dead_though_there_is_much_for_it() -> None:
    with Rig(TimingSettings(ping_ms=1000, stall_ms=10**9), LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(buffer=4096)
        feed(rig, sender, receiver, 10)
        for _ in range(8):
            sender.send(b'{"op":4}')
            rig.tick(0.5)
        assert rig.dispatcher.statistics().closed == {"PING_TIMEOUT": 1}


def test_a_websocket_pong_gets_through_a_full_outbox() -> None:
    with Rig(limits=LIMITS) as rig:
        sender, receiver = rig.join(), rig.join(websocket=True, buffer=4096)
        feed(rig, sender, receiver, 10)
        receiver.sock.sendall(b"\x89\x84\0\0\0\0ping")
        rig.settle()
        received = b""
        while b"\x8a\x04ping" not in received:
            received += receiver.receive()
            rig.poll()
        assert len(received) < 4 * MESSAGE


def test_very_many_copies_are_written_before_the_batch_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes with one read can be thousands of events, and each may be for everybody."""
    monkeypatch.setattr(dispatcher, "_MOST_COPIES", 100)
    with Rig() as rig:
        sender, *receivers = [rig.join() for _ in range(5)]
        effects = rig.dispatcher.effects
        write, waiting = effects.write_early, []

        def write_early() -> None:
            waiting.append(max(len(receiver.peer.outbox) for receiver in receivers))
            write()
            assert not any(receiver.peer.outbox for receiver in receivers)

        effects.write_early = write_early
        for_all = b'{"op":0,"id":"%d","event":"E","intent":{"target":"GLOBAL"}}\n'
        sender.sock.sendall(b"".join(for_all % number for number in range(300)))
        rig.settle()
        assert len(waiting) >= 10
        assert max(waiting) <= 100 / 5 + 1
        for receiver in receivers:
            assert [frame["id"] for frame in receiver.frames()] == [str(n) for n in range(300)]
