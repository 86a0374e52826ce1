"""The opening handshake, the client's end, and both ends together."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from broker.protocol.errors import LocalProtocolError
from broker.protocol.handshake import HandshakeState, Rejection, ServerHandshake
from broker.protocol.handshake_client import ClientHandshake
from broker.protocol.limits import MAX_HANDSHAKE_SIZE
from tests.protocol.test_handshake import ACCEPT, HEADERS, REFUSED


def answer(client: ClientHandshake, *more: str, accept: str | None = None) -> bytes:
    """Answer as a correct server, worked out by hand."""
    head = client.request().decode()
    key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept or base64.b64encode(digest).decode()}",
        *more,
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


def test_a_request_says_all_that_is_needed_and_no_more() -> None:
    client = ClientHandshake("localhost:8080", "/mesh?a=b")
    line, *lines = client.request().decode().split("\r\n")
    assert line == "GET /mesh?a=b HTTP/1.1"
    names = [name.partition(":")[0] for name in lines if name]
    assert sorted(names) == sorted(HEADERS)
    assert "Host: localhost:8080" in lines


def test_keys_differ() -> None:
    assert ClientHandshake("x").request() != ClientHandshake("x").request()


@pytest.mark.parametrize(
    ("host", "path"), [("a..b", "/"), ("x" * 64, "/"), ("a\r\nb", "/"), ("x", "/a b"), ("x", "/é")]
)
def test_what_can_not_be_asked_for(host: str, path: str) -> None:
    with pytest.raises(LocalProtocolError, match="can not ask "):
        ClientHandshake(host, path)


def test_both_ends_agree() -> None:
    client, server = ClientHandshake("localhost"), ServerHandshake()
    server.receive(client.request())
    client.receive(server.data_to_send() + b"first frames")
    assert client.state is HandshakeState.ACCEPTED
    assert client.leftover == b"first frames"
    client.receive(b", more")
    assert client.leftover == b"first frames, more"


def test_both_ends_agree_byte_by_byte() -> None:
    client, server = ClientHandshake("localhost"), ServerHandshake()
    for byte in client.request():
        server.receive(bytes((byte,)))
    for byte in server.data_to_send() + b"frames":
        client.receive(bytes((byte,)))
    assert client.state is HandshakeState.ACCEPTED
    assert client.leftover == b"frames"


def test_a_wsproto_client_accepts_the_server() -> None:
    client, server = WSConnection(ConnectionType.CLIENT), ServerHandshake()
    server.receive(client.send(Request(host="localhost", target="/")))
    client.receive_data(server.data_to_send())
    assert isinstance(next(client.events()), AcceptConnection)


def test_the_client_accepts_a_wsproto_server() -> None:
    client, server = ClientHandshake("localhost"), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.request())
    client.receive(server.send(AcceptConnection()))
    assert client.state is HandshakeState.ACCEPTED


@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "single bytes"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_reaches_the_client(name: str, piece: int) -> None:
    data, status, text = REFUSED[name]
    client, server = ClientHandshake("localhost"), ServerHandshake()
    server.receive(data)
    response = server.data_to_send()
    for start in range(0, len(response), piece):
        client.receive(response[start : start + piece])
    assert client.state is HandshakeState.REJECTED
    assert client.rejection == Rejection(status, text)


ANSWERS: dict[str, tuple[bytes, bool, Rejection]] = {
    # name: (response, whether the connection ends then, rejection)
    "length": (
        b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy, and more",
        False,
        Rejection(503, "busy"),
    ),
    "chunks": (
        b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n",
        False,
        Rejection(503, "busy"),
    ),
    "until the end": (b"HTTP/1.1 503 No\r\n\r\nbusy", True, Rejection(503, "busy")),
    "HTTP/1.0": (b"HTTP/1.0 503 No\r\n\r\nbusy", True, Rejection(503, "busy")),
    "length cut off": (
        b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nbusy",
        True,
        Rejection(503, "busy"),
    ),
    "no body": (b"HTTP/1.1 204 No\r\n\r\n", False, Rejection(204, "")),
    "success": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", False, Rejection(200, "hi")),
    "not UTF-8": (
        b"HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\n\xff",
        False,
        Rejection(503, "\ufffd"),
    ),
    "endless body": (
        b"HTTP/1.1 503 No\r\n\r\n" + b"x" * (MAX_HANDSHAKE_SIZE + 1),
        False,
        Rejection(503, "x" * MAX_HANDSHAKE_SIZE),
    ),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n", False, Rejection(103, "")),
    "early hints, and more": (
        b"HTTP/1.1 103 Early Hints\r\n\r\nno HTTP\r\n\r\n",
        False,
        Rejection(103, ""),
    ),
    "nothing": (
        b"",
        True,
        Rejection(None, "the server closed the connection before it answered"),
    ),
    "half a head": (
        b"HTTP/1.1 101 Sw",
        True,
        Rejection(None, "the server closed the connection before it answered"),
    ),
    "JSON": (b'{"op":2}\n', False, Rejection(None, "the response is not HTTP")),
    "endless head": (
        b"HTTP/1.1 101 x\r\nX: " + b"x" * MAX_HANDSHAKE_SIZE,
        False,
        Rejection(None, f"the response has more than {MAX_HANDSHAKE_SIZE} bytes of headers"),
    ),
    "bad head": (
        b"HTTP/1.1 abc\r\n\r\n",
        False,
        Rejection(None, "the response opens no WebSocket: Bad HTTP message"),
    ),
    "bad chunk": (
        b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        False,
        Rejection(None, "the response opens no WebSocket: Bad HTTP message"),
    ),
    "bare 101": (
        b"HTTP/1.1 101 x\r\n\r\n",
        False,
        Rejection(None, "the response opens no WebSocket: Missing header, 'Connection: Upgrade'"),
    ),
}


@pytest.mark.parametrize(("data", "eof", "rejection"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_that_open_no_websocket(data: bytes, eof: bool, rejection: Rejection) -> None:
    client = ClientHandshake("localhost")
    client.receive(data)
    if eof:
        assert client.state is HandshakeState.PENDING
        client.receive_eof()
    assert client.state is HandshakeState.REJECTED
    assert client.rejection == rejection
    client.receive(b"more")
    client.receive_eof()
    assert client.rejection == rejection
    assert client.leftover == b""


@pytest.mark.parametrize(
    ("more", "accept", "text"),
    [
        ((), ACCEPT, "Bad accept token"),
        (("Sec-WebSocket-Protocol: chat",), None, "unrecognized subprotocol chat"),
        (
            ("Sec-WebSocket-Extensions: permessage-deflate",),
            None,
            "unrecognized extension permessage-deflate",
        ),
    ],
)
def test_what_was_not_asked_for(more: tuple[str, ...], accept: str | None, text: str) -> None:
    client = ClientHandshake("localhost")
    client.receive(answer(client, *more, accept=accept))
    assert client.rejection is not None
    assert client.rejection.status is None
    assert client.rejection.text.startswith(f"the response opens no WebSocket: {text}")


def test_a_header_that_is_not_ascii_opens_no_websocket() -> None:
    client = ClientHandshake("localhost")
    client.receive(answer(client, "Connection: \xff"))
    assert client.state is HandshakeState.REJECTED


def test_eof_after_the_handshake_says_nothing_about_it() -> None:
    client = ClientHandshake("localhost")
    client.receive(answer(client))
    client.receive_eof()
    assert client.state is HandshakeState.ACCEPTED


@given(st.binary(max_size=100), st.sampled_from((b"", b"HTTP/1.1 ", b"HTTP/1.1 101 x\r\n")))
def test_a_client_never_raises(data: bytes, start: bytes) -> None:
    client = ClientHandshake("localhost")
    client.receive(start + data)
    client.receive_eof()
    assert client.state is HandshakeState.REJECTED
