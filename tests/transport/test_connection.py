"""Writing an outbox: nothing lost, nothing twice, whatever the system takes at a time."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.peer import Effects, Farewell, Peer
from broker.protocol.codec import disconnect_message
from broker.protocol.errors import Reason
from broker.protocol.json_stream import JsonStream, frame_line
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from broker.transport.connection import Connection

# More than one write takes, and more than the socket's buffers hold.
SIZES = st.sampled_from((1, 2, 100, 4096, 65_536, 262_143, 262_144, 600_000))
READS = st.sampled_from((1, 100, 4096, 50_000, 1 << 20))


@contextlib.contextmanager
def connected(wire: Wire | None = None) -> Iterator[tuple[Connection, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire = wire or JsonStream()
        peer = Peer("id", wire.frame, wire.frame_all, "pair", 0.0)
        yield Connection(near, wire, peer), far


def receive(far: socket.socket, size: int) -> bytes:
    try:
        return far.recv(size)
    except BlockingIOError:
        return b""


def receive_all(connection: Connection, far: socket.socket) -> bytes:
    received = bytearray()
    while True:
        written = connection.write()
        data = receive(far, 1 << 20)
        if written and not data:
            return bytes(received)
        received += data


def put(peer: Peer, data: bytes) -> None:
    peer.outbox.append(data)
    peer.outbox_bytes += len(data)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), SIZES),
            st.tuples(st.just("read"), READS),
            st.tuples(st.just("write"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_what_goes_in_comes_out(steps: list[tuple[str, int]]) -> None:
    sent, received = bytearray(), bytearray()
    with connected() as (connection, far):
        peer = connection.peer
        for number, (what, size) in enumerate(steps):
            if what == "put":
                message = bytes([number % 256]) * size
                put(peer, message)
                sent += message
            elif what == "read":
                received += receive(far, size)
            else:
                assert connection.write() == (not peer.outbox)
            assert peer.outbox_bytes == sum(map(len, peer.outbox)) - peer.partial
            assert bool(peer.outbox) == bool(peer.outbox_bytes)
            assert (peer.partial > 0) <= bool(peer.outbox)
        received += receive_all(connection, far)
    assert received == sent
    assert peer.partial == 0
    assert peer.outbox == []
    assert peer.outbox_bytes == 0


@given(
    sizes=st.lists(st.sampled_from((1, 1000, 5000, 300_000)), min_size=1, max_size=8),
    reads=st.lists(READS, max_size=3),
    discard=st.booleans(),
)
def test_a_goodbye_comes_behind_whole_messages(
    sizes: list[int], reads: list[int], discard: bool
) -> None:
    """Also where the rest is thrown away while one of them is half sent."""
    messages = [json.dumps({"op": 0, "data": "x" * size}).encode() for size in sizes]
    with connected() as (connection, far):
        peer = connection.peer
        for message in messages:
            put(peer, frame_line(message))
        received = b""
        for size in reads:
            connection.write()
            received += receive(far, size)
        peer.farewell = Farewell(
            Reason.SLOW_CONSUMER,
            disconnect_message(Reason.SLOW_CONSUMER),
            Reason.SLOW_CONSUMER.close_code,
            discard=discard,
        )
        if discard:
            Effects(1 << 30).discard(peer)  # As the dispatcher does it.
        connection.say_goodbye()
        assert connection.closing
        assert peer.outbox_bytes == sum(map(len, peer.outbox)) - peer.partial
        if discard:
            assert len(peer.outbox) <= 2
        received += receive_all(connection, far)
    *before, last = received.splitlines()
    assert last == b'{"op":2,"data":"SLOW_CONSUMER"}'
    assert before == messages[: len(before)]
    if not discard:
        assert before == messages


@pytest.mark.parametrize("disconnect", [None, disconnect_message(Reason.UNKNOWN_OP, "why")])
def test_the_goodbye_of_a_websocket(disconnect: bytes | None) -> None:
    with connected(WebSocketWire(Role.SERVER)) as (connection, far):
        connection.peer.farewell = Farewell(Reason.UNKNOWN_OP, disconnect, 4001)
        connection.say_goodbye()
        assert connection.write()
        client = WebSocketWire(Role.CLIENT)
        messages = client.receive(receive(far, 4096))
        assert len(messages) == (disconnect is not None)
        assert client.close is not None
        assert (client.close.code, client.close.text) == (4001, "UNKNOWN_OP")


def test_the_goodbye_of_a_websocket_that_has_said_it_first() -> None:
    """The DISCONNECT still comes before the close frame, since nothing may come behind it."""
    client = WebSocketWire(Role.CLIENT)
    with connected(WebSocketWire(Role.SERVER)) as (connection, far):
        assert connection.wire.receive(client.goodbye(1000, "")) == []
        connection.peer.farewell = Farewell(
            Reason.UNKNOWN_OP, disconnect_message(Reason.UNKNOWN_OP), 4001
        )
        connection.say_goodbye()
        assert connection.write()
        (message,) = client.receive(receive(far, 4096))
        assert message.op == 2
        assert client.finished
        assert client.close is not None
        assert client.close.code == 1000


def test_without_a_farewell_nothing_is_added() -> None:
    with connected() as (connection, far):
        put(connection.peer, b"rest")
        connection.say_goodbye()
        assert connection.closing
        assert receive_all(connection, far) == b"rest"


def test_a_connection_that_is_gone() -> None:
    with connected() as (connection, far):
        far.close()
        put(connection.peer, b"x")
        with pytest.raises(BrokenPipeError):
            connection.write()
