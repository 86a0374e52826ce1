"""The data plane, batch by batch: what is read, written, paused, and let go of."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import trio

from broker.core.dispatcher import Dispatcher
from broker.core.peer import PeerState
from broker.core.settings import LimitSettings, Settings, TimingSettings
from broker.protocol.errors import Reason
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import WebSocketWire
from broker.transport.connection import Connection
from broker.transport.poller import READABLE, WRITABLE, _SelectorPoller
from broker.transport.reactor import Reactor
from tests.transport.rig import IDENTIFY, Far, Rig, event

GRANULE = 0.02


def test_a_batch_is_everything_that_is_ready(rig: Rig) -> None:
    clients = [rig.join() for _ in range(5)]
    assert not rig.poll(), "nothing to do"
    for client in clients:
        client.send(event(clients[0].id, id=client.id))
    assert rig.poll()
    assert {frame["id"] for frame in clients[0].frames()} == {client.id for client in clients}
    assert not rig.poll()


def test_what_was_read_at_the_door_is_handled_at_once(rig: Rig) -> None:
    client = rig.connect(IDENTIFY + b'{"op":3,"id":"1"}{"op":3,"id"')
    assert [frame["op"] for frame in client.frames()] == [1, 4]
    client.sock.sendall(b':"2"}')
    rig.poll()
    assert client.frames() == [{"op": 4, "id": "2"}]


def test_a_fault_that_was_read_at_the_door(rig: Rig) -> None:
    client = rig.connect(b"hello")
    (goodbye,) = client.frames()
    assert goodbye["data"] == "INVALID_PAYLOAD"
    assert client.ended
    client.sock.close()
    rig.settle()
    assert len(rig.reactor) == 0


def test_writing_goes_on_where_it_stopped(rig: Rig) -> None:
    sender, receiver = rig.join(), rig.join(buffer=4096)
    for number in range(50):
        sender.send(event(receiver.id, 10_000, str(number)))
        rig.poll()
    assert receiver.waits_to_write
    assert receiver.peer.partial
    assert not rig.poll(), "not until something is read"
    ids = []
    for _ in range(10_000):
        ids += [frame["id"] for frame in receiver.frames()]
        if not rig.poll():
            break
    ids += [frame["id"] for frame in receiver.frames()]
    assert ids == [str(number) for number in range(50)]
    assert not receiver.waits_to_write
    assert receiver.connection.watched == READABLE


def test_reading_and_writing_in_one_batch(rig: Rig) -> None:
    sender, receiver = rig.join(), rig.join(buffer=4096)
    sender.send(event(receiver.id, 100_000))
    rig.settle()
    assert receiver.waits_to_write
    receiver.receive()
    receiver.send(event(sender.id))
    assert rig.poll()
    assert len(sender.frames()) == 1
    assert receiver.receive()


def fill(sender: Far, receiver: Far, rig: Rig) -> int:
    """Send until the sender is stalled; return the number of messages."""
    count = 0
    while not sender.peer.stalls:
        sender.send(event(receiver.id, 10_000, str(count)))
        count += 1
        rig.poll()
    return count


def test_a_sender_is_paused_and_resumed(tight: Rig) -> None:
    sender, receiver, other = tight.join(), tight.join(), tight.join()
    count = fill(sender, receiver, tight)
    assert sender.connection.watched == 0
    sender.send(event(other.id))
    assert not tight.poll(), "what it sends now waits"
    other.send(event(sender.id))
    tight.poll()
    assert len(sender.frames()) == 1, "what is sent to it does not"
    ids = []
    while True:
        frames = receiver.frames()
        ids += [frame["id"] for frame in frames]
        if not tight.poll() and not frames:
            break
    assert ids == [str(number) for number in range(count)]
    assert sender.connection.watched == READABLE
    assert len(other.frames()) == 1
    assert not receiver.peer.congested


def test_a_paused_sender_that_has_something_to_read(tight: Rig) -> None:
    """Pausing takes away the interest in reading alone."""
    sender, receiver, other = tight.join(buffer=4096), tight.join(), tight.join()
    fill(sender, receiver, tight)
    other.send(event(sender.id, 50_000))
    tight.settle()
    assert sender.connection.watched == WRITABLE
    receiver.receive()
    tight.settle()
    assert sender.connection.watched == READABLE | WRITABLE
    while sender.waits_to_write:
        sender.receive()
        tight.poll()
    assert sender.connection.watched == READABLE


def test_a_receiver_that_leaves_lets_its_senders_go_on(tight: Rig) -> None:
    sender, receiver, other = tight.join(), tight.join(), tight.join()
    fill(sender, receiver, tight)
    sender.send(event(other.id))
    receiver.sock.close()
    tight.settle()
    assert len(other.frames()) == 1
    assert sender.connection.watched == READABLE


def test_a_paused_sender_that_is_closed(tight: Rig) -> None:
    """It is read again, so that its end is seen; what it says counts no more."""
    sender, receiver, other = tight.join(), tight.join(), tight.join()
    fill(sender, receiver, tight)
    tight.dispatcher.close(sender.peer, Reason.REPLACED)
    tight.reactor.flush()
    assert sender.connection.watched == READABLE
    assert [frame["data"] for frame in sender.frames()] == ["REPLACED"]
    assert sender.ended
    sender.send(event(other.id))
    tight.settle()
    assert other.frames() == []
    receiver.receive()
    tight.settle()
    sender.sock.close()
    tight.settle()
    assert len(tight.reactor) == 2


@pytest.mark.parametrize("stuck", ["limit", "time"])
def test_a_receiver_that_is_cut(tight: Rig, stuck: str) -> None:
    sender, receiver = tight.join(), tight.join(buffer=4096)
    fill(sender, receiver, tight)
    if stuck == "limit":
        second = tight.join()
        while receiver.peer.state is PeerState.IDENTIFIED:
            tight.dispatcher.flow.relieve(receiver.peer)
            tight.reactor.flush()
            second.send(event(receiver.id, 10_000))
            tight.poll()
    else:
        tight.tick(3 + GRANULE)
    assert receiver.peer.state is PeerState.CLOSED
    assert receiver.peer.outbox_bytes < 30_000, "the rest is thrown away"
    assert sender.connection.watched == READABLE
    frames = []
    while not receiver.ended:
        frames += receiver.frames()
        tight.poll()
    assert frames[-1]["data"] == "SLOW_CONSUMER"
    assert [frame["op"] for frame in frames[:-1]] == [0] * (len(frames) - 1)


def test_a_goodbye_and_the_time_after_it(tight: Rig) -> None:
    client = tight.join()
    client.send(b'{"op":7}')
    tight.poll()
    (goodbye,) = client.frames()
    assert goodbye["data"] == "UNKNOWN_OP"
    assert client.ended
    # What the client still sends is read, so that the system does not reset the connection.
    for _ in range(3):
        client.sock.sendall(b"x" * 100_000)
        tight.settle()
    tight.tick(2 - GRANULE)
    assert len(tight.reactor) == 1
    tight.tick(2 * GRANULE)
    assert len(tight.reactor) == 0
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.sock.sendall(b"x")


def test_a_client_that_closes_in_time_is_let_go_at_once(tight: Rig) -> None:
    client = tight.join()
    client.send(b'{"op":2}')
    tight.poll()
    assert client.receive() == b""
    assert client.ended
    client.sock.close()
    tight.poll()
    assert len(tight.reactor) == 0
    tight.tick(100)


@pytest.mark.parametrize("websocket", [False, True])
def test_a_client_that_does_not_read_and_leaves(tight: Rig, websocket: bool) -> None:
    """Its goodbye is behind all the rest. Its time is up nevertheless."""
    sender, receiver = tight.join(), tight.join(websocket=websocket, buffer=4096)
    fill(sender, receiver, tight)
    if websocket:
        receiver.sock.sendall(receiver.wire.goodbye(1000, ""))
    else:
        receiver.send(b'{"op":2}')
    tight.settle()
    assert receiver.peer.state is PeerState.CLOSED
    assert sender.peer.stalls == 0
    assert len(tight.reactor) == 2
    tight.tick(2 + GRANULE)
    assert len(tight.reactor) == 1


def test_a_websocket_close_is_answered(rig: Rig) -> None:
    client = rig.join(websocket=True)
    client.sock.sendall(client.wire.goodbye(1001, "going"))
    rig.poll()
    wire = client.wire
    assert isinstance(wire, WebSocketWire)
    assert wire.receive(client.receive()) == []
    assert wire.close is not None
    assert wire.close.code == 1001
    assert client.ended
    client.sock.close()
    rig.poll()
    assert len(rig.reactor) == 0


def test_an_end_of_file(rig: Rig) -> None:
    client, other = rig.join(), rig.join()
    client.send(event(other.id))
    client.send(b'{"op":3}')
    client.sock.shutdown(socket.SHUT_WR)
    rig.settle()
    assert len(other.frames()) == 1
    assert client.frames() == [{"op": 4}], "what was owed comes before the end"
    assert client.ended
    assert len(rig.reactor) == 1
    assert client.peer.state is PeerState.CLOSED
    assert rig.dispatcher.statistics().closed == {Reason.NO_REASON: 1}


def test_what_is_unsent_at_an_end_of_file_gets_a_last_chance(rig: Rig) -> None:
    """Whoever shuts down one side may still read on the other."""
    sender, receiver = rig.join(), rig.join(buffer=4096)
    sender.send(event(receiver.id, 50_000))
    rig.settle()
    assert receiver.waits_to_write
    assert receiver.receive()
    receiver.sock.shutdown(socket.SHUT_WR)
    rig.poll()
    assert len(rig.reactor) == 1
    assert receiver.receive()
    assert receiver.ended


def test_whoever_has_said_goodbye_says_nothing_more(rig: Rig) -> None:
    client = rig.join()
    client.send(b'{"op":2}')
    rig.settle()
    heard = rig.dispatcher.counters.frames_in
    client.send(b'{"op":3}')
    client.sock.sendall(b'{"op":3,"data":"')
    rig.settle()
    assert rig.dispatcher.counters.frames_in == heard
    assert isinstance(client.connection.wire, JsonStream)
    assert not client.connection.wire._partial, "nor is it kept"


def test_half_a_frame_and_an_end_of_file(rig: Rig) -> None:
    client, other = rig.join(), rig.join()
    client.sock.sendall(event(other.id) + event(other.id)[:-1])
    client.sock.close()
    rig.settle()
    assert len(other.frames()) == 1
    assert len(rig.reactor) == 1


def test_a_receiver_that_is_gone_when_it_is_written_to(rig: Rig) -> None:
    """Both are ready in the same batch; whichever comes first, the other is no trouble."""
    for _ in range(10):
        sender, receiver = rig.join(), rig.join()
        receiver.send(event(sender.id))
        receiver.sock.close()
        sender.send(event(receiver.id))
        sender.send(event(receiver.id))
        rig.settle()
        frames = sender.frames()
        assert frames[0]["op"] == 0
        assert len(rig.reactor) == 1
        sender.sock.close()
        rig.settle()
    assert len(rig.reactor) == 0


def test_a_broadcast_to_many_who_are_gone(rig: Rig) -> None:
    clients = [rig.join() for _ in range(10)]
    for client in clients[1::2]:
        client.sock.close()
    intent = b'"intent":{"target":"GROUP","identifier":"demo"}'
    clients[0].send(b'{"op":0,"id":"1","event":"E",%b}' % intent)
    rig.settle()
    for client in clients[::2]:
        assert [frame["id"] for frame in client.frames()] == ["1"]
    assert len(rig.reactor) == 5


def test_a_file_number_that_is_used_again(rig: Rig) -> None:
    """Events of a batch are for the connections that were there when it began."""
    watcher = rig.join()
    first = rig.join()
    number = first.connection.fd
    first.sock.close()
    rig.settle()
    second = rig.join()
    assert second.connection.fd == number, "the system gives the lowest number that is free"
    watcher.send(event(first.id))
    watcher.send(event(second.id, id="2"))
    rig.settle()
    assert [frame["error"]["code"] for frame in watcher.frames()] == ["NO_ROUTE"]
    assert [frame["id"] for frame in second.frames()] == ["2"]


@pytest.mark.parametrize("reused", [True, False])
def test_a_connection_that_is_dropped_earlier_in_its_batch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, reused: bool
) -> None:
    """Its number may be taken by another at once: the batch's event is not for that one."""
    first, second = rig.join(), rig.join()
    first.send(b'{"op":3}')
    second.send(b'{"op":3}')
    handle = rig.reactor._handle
    dropped: list[Connection] = []
    adopted: list[Far] = []

    def handle_and_drop(connection: Connection, data: bytes, now: float) -> None:
        handle(connection, data, now)
        if not dropped:
            (other,) = {first.connection, second.connection} - {connection}
            rig.reactor._drop(other)
            dropped.append(other)
            if reused:
                adopted.append(rig.connect())
                assert adopted[0].connection.fd == other.fd

    monkeypatch.setattr(rig.reactor, "_handle", handle_and_drop)
    rig.poll()
    assert dropped
    for replacement in adopted:
        assert replacement.peer.state is PeerState.OPENING
        replacement.send(IDENTIFY)
        rig.poll()
        assert replacement.frames()[0]["op"] == 1


def test_after_a_pause_of_the_whole_process_the_answers_to_pings_count(rig: Rig) -> None:
    client = rig.join()
    rig.tick(30 + GRANULE)
    assert client.frames() == [{"op": 3}]
    client.send(b'{"op":4}')
    rig.tick(3600)
    assert client.peer.state is PeerState.IDENTIFIED
    assert client.frames() == []


def test_a_receiver_is_not_cut_for_what_could_be_written_to_it() -> None:
    """In one batch come more bytes than an outbox may hold; most of them the system takes at once.

    The receiver cannot be slow yet: nothing has been sent to it that it has not read.
    """
    limits = LimitSettings(message_bytes=131_072, outbox_high_bytes=65_536, outbox_bytes=262_144)
    with Rig(limits=limits) as rig:
        receiver = rig.join()
        senders = [rig.join() for _ in range(6)]
        for sender in senders:
            sender.send(event(receiver.id, 50_000, sender.id))
        received = []
        for _ in range(10_000):
            received += receiver.frames()
            if not rig.poll() and len(received) >= len(senders):
                break
        assert receiver.peer.state is PeerState.IDENTIFIED
        assert {frame["id"] for frame in received} == {sender.id for sender in senders}


def test_the_timer_knows_of_every_deadline(rig: Rig) -> None:
    """Whatever makes a deadline, the timer is set to it by the end of the batch."""

    def timer() -> float:
        return rig.reactor._timer_deadline

    assert timer() == float("inf")
    client = rig.connect()
    assert timer() <= rig.now + 5 + GRANULE
    rig.now += 1
    client.send(IDENTIFY)
    rig.poll()
    rig.tick(4 + GRANULE)
    assert 1031 <= timer() <= 1031 + GRANULE, "thirty seconds after it was last heard"
    client.send(b'{"op":9}')
    rig.poll()
    assert timer() <= rig.now + 2 + GRANULE


@pytest.mark.parametrize("websocket", [False, True])
def test_the_other_poller(monkeypatch: pytest.MonkeyPatch, websocket: bool) -> None:
    """The reactor over the portable poller: the cases that touch what is watched."""
    monkeypatch.setattr("broker.transport.reactor.open_poller", _SelectorPoller)
    cases: list[Callable[[Rig], None]] = [
        test_a_sender_is_paused_and_resumed,
        test_a_paused_sender_that_has_something_to_read,
        test_a_receiver_that_leaves_lets_its_senders_go_on,
        test_a_paused_sender_that_is_closed,
        test_a_goodbye_and_the_time_after_it,
        test_reading_and_writing_in_one_batch,
        test_a_broadcast_to_many_who_are_gone,
        test_a_file_number_that_is_used_again,
        lambda rig: test_a_client_that_does_not_read_and_leaves(rig, websocket),
    ]
    for case in cases:
        with Rig(
            TimingSettings(goodbye_ms=2000, stall_ms=3000),
            LimitSettings(outbox_high_bytes=65_536, outbox_bytes=2 << 20),
        ) as rig:
            assert isinstance(rig.reactor._poller, _SelectorPoller)
            case(rig)


# -- In a trio program -----------------------------------------------------------------------------


@pytest.fixture
def pair() -> tuple[Connection, socket.socket, Dispatcher]:
    near, far = socket.socketpair()
    near.setblocking(False)
    dispatcher = Dispatcher(Settings())
    wire = JsonStream()
    peer = dispatcher.open(wire, "pair", 0.0, 5.0)
    return Connection(near, wire, peer), far, dispatcher


async def test_running_and_stopping(
    pair: tuple[Connection, socket.socket, Dispatcher], autojump_clock: trio.testing.MockClock
) -> None:
    connection, far, dispatcher = pair
    reactor = Reactor(dispatcher, Settings())
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            reactor.adopt(connection, b"")
            assert len(reactor) == 1
            # Nobody identifies; the timer runs, first for that and then for the goodbye.
            await reactor.wait_empty()
            assert 7 <= trio.current_time() <= 7.1
            assert b"IDENTIFY_TIMEOUT" in far.recv(4096)
            await reactor.wait_empty()  # At once, since nobody is left.
            nursery.cancel_scope.cancel()


async def test_stopping_lets_go_of_everything(
    pair: tuple[Connection, socket.socket, Dispatcher], mock_clock: trio.testing.MockClock
) -> None:
    connection, far, dispatcher = pair
    reactor = Reactor(dispatcher, Settings())
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            reactor.adopt(connection, b"")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert far.recv(4096) == b""
    assert connection.sock.fileno() == -1
    assert connection.peer.state is PeerState.CLOSED
    assert len(reactor) == 0
