"""TLS beneath the framings: the channel without I/O, and the reactor over it."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.core.peer import PeerState
from broker.core.settings import LimitSettings, TimingSettings
from broker.protocol.errors import Reason
from broker.transport.poller import READABLE
from broker.transport.tls import TlsChannel, TlsSocket, certificate_names
from tests.transport import test_reactor
from tests.transport.rig import IDENTIFY, Far, Rig, event
from tests.transport.tls_rig import Files, TlsClient, TlsRig, client_context, shake_hands

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return Files(tmp_path_factory.mktemp("tls")).context()


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


@pytest.fixture
def tls(context: ssl.SSLContext, version: ssl.TLSVersion) -> Iterator[TlsRig]:
    timing = TimingSettings(goodbye_ms=2000, stall_ms=3000)
    limits = LimitSettings(message_bytes=262_144, outbox_high_bytes=65_536, outbox_bytes=1 << 20)
    with TlsRig(context, timing, limits, version) as rig:
        yield rig


# -- The channel -----------------------------------------------------------------------------------


class Client:
    """The other end of a channel, in memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="broker.test")

    def shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return

    def encrypt(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        self.incoming.write(data)
        decrypted = b""
        while True:
            try:
                piece = self.tls.read(1 << 20)
            except ssl.SSLWantReadError:
                return decrypted
            if not piece:
                return decrypted
            decrypted += piece


@pytest.fixture
def ends(context: ssl.SSLContext, version: ssl.TLSVersion) -> tuple[TlsChannel, Client]:
    """Both ends of a channel, their handshake done a byte at a time."""
    channel, client = TlsChannel(context), Client(client_context(version))
    done = False
    while not done:
        client.shake_hands()
        for byte in client.outgoing.read():
            assert not done
            done = channel.shake_hands(bytes([byte]))
        client.incoming.write(channel.take_outgoing())
    client.shake_hands()
    assert channel.version == client.tls.version()
    return channel, client


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 32_768, 40_000, 1_000_000])
def test_what_goes_in_comes_out(ends: tuple[TlsChannel, Client], size: int) -> None:
    channel, client = ends
    data = random.Random(size).randbytes(size)
    assert client.decrypt(channel.encrypt(data)) == data
    assert channel.decrypt(client.encrypt(data)) == data, "nothing is left behind, decrypted or not"


def test_records_that_come_in_pieces(ends: tuple[TlsChannel, Client]) -> None:
    channel, client = ends
    sent = b"".join(client.encrypt(b"%d," % number) for number in range(100))
    received = b"".join(channel.decrypt(sent[at : at + 1]) for at in range(len(sent)))
    assert received == b"".join(b"%d," % number for number in range(100))


@pytest.mark.parametrize("seed", range(20))
def test_records_that_are_cut_anywhere(ends: tuple[TlsChannel, Client], seed: int) -> None:
    """Also in the middle of a slice, of a record's header, and with many records in one piece."""
    channel, client = ends
    chance = random.Random(seed)
    messages = [chance.randbytes(chance.choice([1, 100, 16_384, 60_000])) for _ in range(20)]
    sent = b"".join(map(client.encrypt, messages))
    received, at = b"", 0
    while at < len(sent):
        size = chance.choice([1, 5, 1000, 16_384, 32_768, 122_880])
        received += channel.decrypt(sent[at : at + size])
        at += size
    assert received == b"".join(messages)


def test_a_goodbye_is_the_end(ends: tuple[TlsChannel, Client]) -> None:
    channel, client = ends
    last = client.encrypt(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert channel.decrypt(last + client.outgoing.read()) == b"last"
    assert channel.ended
    assert client.decrypt(channel.encrypt(b"answer")) == b"answer", "the other way is still open"


def test_our_goodbye_is_said_once(ends: tuple[TlsChannel, Client]) -> None:
    channel, client = ends
    goodbye = channel.say_goodbye()
    assert goodbye
    assert channel.say_goodbye() == b""
    client.incoming.write(goodbye)
    assert client.tls.read() == b""


def test_what_was_tampered_with_is_refused(ends: tuple[TlsChannel, Client]) -> None:
    channel, client = ends
    sent = bytearray(client.encrypt(b"pay 10"))
    sent[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        channel.decrypt(bytes(sent))
    assert channel.take_outgoing(), "an alert says so"


def test_there_are_no_session_tickets(ends: tuple[TlsChannel, Client]) -> None:
    channel, client = ends
    client.decrypt(channel.encrypt(b"what would come behind the tickets"))
    session = client.tls.session
    assert session is None or not session.has_ticket


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, ()),
        ({}, ()),
        ({"subject": ((("commonName", "billing"),),)}, ("billing",)),
        (
            {
                "subject": ((("countryName", "NL"),), (("commonName", "a"),)),
                "subjectAltName": (
                    ("DNS", "a"),
                    ("DNS", "b.test"),
                    ("IP Address", "127.0.0.1"),
                    ("URI", "spiffe://mesh/c"),
                    ("email", "d@example.org"),
                ),
            },
            ("a", "b.test", "spiffe://mesh/c"),
        ),
    ],
)
def test_the_names_in_a_certificate(certificate: object, names: tuple[str, ...]) -> None:
    assert certificate_names(certificate) == names


# -- The socket ------------------------------------------------------------------------------------


@pytest.fixture
def pair(context: ssl.SSLContext) -> Iterator[tuple[TlsSocket, socket.socket, TlsClient]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    channel, client = shake_hands(near, far, context, client_context())
    sock = TlsSocket(near, channel)
    yield sock, near, client
    sock.close()
    client.close()


def test_a_socket_with_nothing_to_read(pair: tuple[TlsSocket, socket.socket, TlsClient]) -> None:
    sock, _, client = pair
    with pytest.raises(BlockingIOError):
        sock.recv(4096)
    client.sendall(b"x" * 20_000)
    with pytest.raises(BlockingIOError):
        sock.recv(100)  # Less than a record.
    assert len(sock.recv(65_536)) == 20_000


def test_what_the_system_does_not_take_waits(
    pair: tuple[TlsSocket, socket.socket, TlsClient],
) -> None:
    sock, _, client = pair
    data = random.Random(0).randbytes(1_000_000)
    sent = received = 0
    got = bytearray()
    blocked = 0
    while received < len(data):
        if sent < len(data):
            try:
                sent += sock.send(data[sent:])
            except BlockingIOError:
                blocked += 1
        else:
            sock.flush()
        try:
            got += client.recv(1 << 20)
        except BlockingIOError:
            continue
        received = len(got)
    assert got == data
    assert blocked
    assert sock.flush()


def test_a_goodbye_without_the_end_of_the_connection_is_an_end(
    pair: tuple[TlsSocket, socket.socket, TlsClient],
) -> None:
    sock, near, client = pair
    client.sendall(b"last")
    client.say_goodbye()
    assert sock.recv(4096) == b"last"
    assert near.recv(1) == b"", "readable, so the poller tells"
    assert sock.recv(4096) == b""


def test_an_end_without_a_goodbye_is_an_end(
    pair: tuple[TlsSocket, socket.socket, TlsClient],
) -> None:
    sock, _, client = pair
    client.tls.shutdown(socket.SHUT_WR)
    assert sock.recv(4096) == b""


def test_garbage_is_answered_with_an_alert(
    pair: tuple[TlsSocket, socket.socket, TlsClient],
) -> None:
    sock, _, client = pair
    socket.socket.send(client.tls, b"this is no record")
    with pytest.raises(ssl.SSLError):
        sock.recv(4096)
    with pytest.raises(ssl.SSLError, match="alert"):
        client.tls.recv(1)


def test_after_our_goodbye_nothing_matters(
    pair: tuple[TlsSocket, socket.socket, TlsClient],
) -> None:
    sock, _, client = pair
    sock.say_goodbye()
    assert sock.flush()
    socket.socket.send(client.tls, b"this is no record")
    with pytest.raises(BlockingIOError):
        sock.recv(4096)
    assert client.recv(1) == b""


def test_closing_says_goodbye(pair: tuple[TlsSocket, socket.socket, TlsClient]) -> None:
    sock, _, client = pair
    sock.close()
    assert client.recv_strictly() == b""


# -- The reactor -----------------------------------------------------------------------------------

CASES: list[Callable[[Rig], None]] = [
    test_reactor.test_a_batch_is_everything_that_is_ready,
    test_reactor.test_a_sender_is_paused_and_resumed,
    test_reactor.test_a_paused_sender_that_has_something_to_read,
    test_reactor.test_a_receiver_that_leaves_lets_its_senders_go_on,
    test_reactor.test_a_paused_sender_that_is_closed,
    test_reactor.test_a_goodbye_and_the_time_after_it,
    test_reactor.test_a_broadcast_to_many_who_are_gone,
    test_reactor.test_a_file_number_that_is_used_again,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_holds_without_tls_holds_with_it(tls: TlsRig, case: Callable[[Rig], None]) -> None:
    case(tls)


@pytest.mark.parametrize("websocket", [False, True])
def test_a_client_that_does_not_read_and_leaves(tls: TlsRig, websocket: bool) -> None:
    test_reactor.test_a_client_that_does_not_read_and_leaves(tls, websocket)


@pytest.mark.parametrize("websocket", [False, True])
def test_many_messages_in_one_record_and_one_in_many(tls: TlsRig, websocket: bool) -> None:
    sender, receiver = tls.join(websocket=websocket), tls.join()
    sender.sock.sendall(
        b"".join(sender.wire.frame(event(receiver.id, id=str(number))) for number in range(100))
    )
    tls.settle()
    assert [frame["id"] for frame in receiver.frames()] == [str(number) for number in range(100)]
    large = event(receiver.id, 100_000, "large")
    sender.send(large)
    tls.settle()
    (frame,) = receiver.frames()
    assert len(frame["data"]) == 100_000


def test_large_messages_through_a_small_buffer(tls: TlsRig) -> None:
    """The same with the outbox past its high mark, and both directions at once."""
    first, second = tls.join(buffer=4096), tls.join(buffer=4096)
    count = 30
    unsent = {
        sender: [event(receiver.id, 40_000, str(number)) for number in range(count)]
        for sender, receiver in ((first, second), (second, first))
    }
    received: dict[Far, list[str]] = {first: [], second: []}
    for _ in range(100_000):
        for client in (first, second):
            while unsent[client] and not client.peer.stalls:
                client.send(unsent[client].pop(0))
                tls.poll()
            received[client] += [frame["id"] for frame in client.frames()]
        if not tls.poll() and all(len(ids) == count for ids in received.values()):
            break
    assert list(received.values()) == [[str(number) for number in range(count)]] * 2
    assert first.connection.watched == second.connection.watched == READABLE


def test_what_is_encrypted_already_is_written_when_there_is_room(tls: TlsRig) -> None:
    """The outbox is empty by then; nothing else than the poller would bring it on its way."""
    sender, receiver = tls.join(), tls.join(buffer=4096)
    sender.send(event(receiver.id, 50_000))
    tls.settle()
    assert not receiver.peer.outbox
    assert receiver.waits_to_write
    receiver.receive()
    while tls.poll():
        receiver.receive()
    assert [frame["op"] for frame in receiver.frames()] == [0]
    assert receiver.connection.watched == READABLE


def test_a_slow_receiver_is_cut_at_a_message(tls: TlsRig) -> None:
    """What TLS has encrypted cannot be taken back: of that message, all is still sent."""
    sender, receiver = tls.join(), tls.join(buffer=4096)
    while receiver.peer.state is PeerState.IDENTIFIED:
        if not sender.peer.stalls:
            sender.send(event(receiver.id, 100_000))
        if not tls.poll():
            tls.tick(1)
    frames = []
    while not receiver.ended:
        frames += receiver.frames()
        tls.poll()
    frames += receiver.frames()
    assert {frame["op"] for frame in frames[:-1]} == {0}
    assert frames[-1]["data"] == Reason.SLOW_CONSUMER.value


def test_the_goodbye_comes_behind_the_disconnect(tls: TlsRig) -> None:
    client = tls.join()
    far = tls.clients[-1]
    tls.dispatcher.close(client.peer, Reason.REPLACED)
    tls.reactor.flush()
    assert b"REPLACED" in far.recv_strictly()
    assert far.recv_strictly() == b"", "close_notify, and not just the end"


def test_a_client_that_says_goodbye_and_waits_for_ours(tls: TlsRig) -> None:
    client = tls.join()
    client.send(b'{"op":3,"id":"last"}')
    tls.clients[-1].say_goodbye()
    tls.settle()
    assert len(tls.reactor) == 0
    assert client.frames() == [{"op": 4, "id": "last"}]
    assert client.ended


def test_a_connection_that_turns_to_garbage(tls: TlsRig) -> None:
    client, other = tls.join(), tls.join()
    socket.socket.send(tls.clients[0].tls, b"\x17\x03\x03\x00\x20" + bytes(32))
    tls.settle()
    assert client.peer.state is PeerState.CLOSED
    assert len(tls.reactor) == 1
    other.send(b'{"op":3}')
    tls.settle()
    assert other.frames() == [{"op": 4}]


def test_what_came_with_the_end_of_the_handshake(context: ssl.SSLContext, tmp_path: Path) -> None:
    """TLS 1.3 lets a client send in the same breath as the end of its handshake."""
    channel, client = TlsChannel(context), Client(client_context())
    client.shake_hands()
    channel.shake_hands(client.outgoing.read())
    client.incoming.write(channel.take_outgoing())
    client.shake_hands()
    assert channel.shake_hands(client.encrypt(IDENTIFY))
    assert channel.decrypt(b"") == IDENTIFY
