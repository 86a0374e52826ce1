"""The opening handshake, the broker's end."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.handshake import MAX_HEADERS, HandshakeState, Rejection, ServerHandshake
from broker.protocol.limits import MAX_HANDSHAKE_SIZE
from broker.protocol.wire import Door, detect

# RFC 6455 section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
WELCOME = (
    "this is a Switchboard broker: open a WebSocket here, or send JSON, one object a line, over "
    "plain TCP"
)

HEADERS = {
    "Host": "localhost:8080",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(
    line: str = "GET /path?query HTTP/1.1",
    *more: str,
    without: str = "",
    end: str = "\r\n",
    **changed: str,
) -> bytes:
    """Write a request; `changed` names headers with underscores."""
    headers = {name: value for name, value in HEADERS.items() if name != without}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items()), *more, "", ""]
    return end.join(lines).encode("latin-1")


def parse_answer(answer: bytes) -> tuple[int, dict[str, str], str]:
    """Read an answer with an independent parser; return status, headers and body."""
    client = h11.Connection(h11.CLIENT)
    proposal = [("Host", "x"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    client.send(h11.Request(method="GET", target="/", headers=proposal))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    head = client.next_event()
    assert isinstance(head, h11.Response | h11.InformationalResponse)
    headers = {name.decode(): value.decode() for name, value in head.headers}
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    if isinstance(head, h11.Response):
        assert isinstance(event, h11.EndOfMessage)
        assert client.trailing_data == (b"", False)
    return head.status_code, headers, body.decode()


def test_the_example_of_the_rfc() -> None:
    handshake = ServerHandshake()
    handshake.receive(request())
    assert handshake.state is HandshakeState.ACCEPTED
    assert handshake.target == "/path?query"
    assert handshake.leftover == b""
    assert handshake.rejection is None
    status, headers, _ = parse_answer(handshake.data_to_send())
    assert status == 101
    assert headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": ACCEPT,
    }
    assert handshake.data_to_send() == b""


ACCEPTED = {
    "lower case": request(Upgrade="WebSocket", Connection="upgrade"),
    "line feeds only": request(end="\n"),
    "list of connection options": request(Connection="keep-alive, Upgrade"),
    "two connection headers": request("GET / HTTP/1.1", "Connection: keep-alive"),
    "list of upgrades": request(Upgrade="h2c, websocket"),
    "any path": request("GET //a/../b?c#d HTTP/1.1"),
    "absolute target": request("GET http://localhost/ HTTP/1.1"),
    "subprotocols and extensions": request(
        "GET / HTTP/1.1",
        "Sec-WebSocket-Protocol: chat, \xff",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ),
    "host that is no name": request(Host="\xff..\xfe"),
    "empty host": request(Host=""),
    "header that is not ASCII": request("GET / HTTP/1.1", "Connection: \xff"),
    "empty body": request("GET / HTTP/1.1", "Content-Length: 0"),
    "folded header": request("GET / HTTP/1.1", "X-Folded: a", "  b"),
    "most headers": request(
        "GET / HTTP/1.1", *(f"X-{i}: {i}" for i in range(MAX_HEADERS - len(HEADERS)))
    ),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(data: bytes) -> None:
    handshake = ServerHandshake()
    handshake.receive(data)
    assert handshake.rejection is None
    assert handshake.state is HandshakeState.ACCEPTED
    status, headers, _ = parse_answer(handshake.data_to_send())
    assert status == 101
    assert "sec-websocket-protocol" not in headers
    assert "sec-websocket-extensions" not in headers


NO_HTTP = f"not an HTTP request line; {WELCOME}"
INVALID = "not a valid HTTP/1.1 request: check the header lines, and send Host once"
BAD_KEY = "send 16 random bytes in base64 as Sec-WebSocket-Key"
NO_BODY = "send no body with the request for a WebSocket"
OTHER_VERSION = "send the header 'Sec-WebSocket-Version: 13'; no other version is spoken here"
TOO_LARGE = f"send at most {MAX_HANDSHAKE_SIZE} bytes of request line and headers"

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "plain GET": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, WELCOME),
    "other upgrade": (request(Upgrade="h2c"), 426, WELCOME),
    "no upgrade": (request(without="Upgrade"), 426, WELCOME),
    "HTTP/1.0": (request("GET / HTTP/1.0"), 400, "open a WebSocket with HTTP/1.1"),
    "HTTP/1.0 without host": (
        request("GET / HTTP/1.0", without="Host"),
        400,
        "open a WebSocket with HTTP/1.1",
    ),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, f"use GET; {WELCOME}"),
    "POST": (request("POST / HTTP/1.1"), 405, f"use GET; {WELCOME}"),
    "CONNECT": (request("CONNECT x:80 HTTP/1.1"), 405, f"use GET; {WELCOME}"),
    "no connection": (
        request(without="Connection"),
        400,
        "send the header 'Connection: Upgrade'",
    ),
    "other connection": (
        request(Connection="keep-alive"),
        400,
        "send the header 'Connection: Upgrade'",
    ),
    "no version": (
        request(without="Sec-WebSocket-Version"),
        400,
        "send one header 'Sec-WebSocket-Version: 13'; there are 0",
    ),
    "two versions": (
        request("GET / HTTP/1.1", "Sec-WebSocket-Version: 8"),
        400,
        "send one header 'Sec-WebSocket-Version: 13'; there are 2",
    ),
    "old version": (request(Sec_WebSocket_Version="8"), 426, OTHER_VERSION),
    "list of versions": (request(Sec_WebSocket_Version="13, 8"), 426, OTHER_VERSION),
    "no key": (
        request(without="Sec-WebSocket-Key"),
        400,
        "send one header Sec-WebSocket-Key; there are 0",
    ),
    "the same key twice": (
        request("GET / HTTP/1.1", f"sec-websocket-key: {KEY}"),
        400,
        "send one header Sec-WebSocket-Key; there are 2",
    ),
    "empty key": (request(Sec_WebSocket_Key=""), 400, BAD_KEY),
    "short key": (request(Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAA"), 400, BAD_KEY),
    "long key": (request(Sec_WebSocket_Key="A" * 24), 400, BAD_KEY),
    "key with bad padding": (request(Sec_WebSocket_Key=KEY[:-1]), 400, BAD_KEY),
    "key with other characters": (request(Sec_WebSocket_Key="!" + KEY), 400, BAD_KEY),
    "key that is not ASCII": (request(Sec_WebSocket_Key="\xff"), 400, BAD_KEY),
    "body": (request("GET / HTTP/1.1", "Content-Length: 5"), 400, NO_BODY),
    "chunked body": (request("GET / HTTP/1.1", "Transfer-Encoding: chunked"), 400, NO_BODY),
    "body of unknown coding": (request("GET / HTTP/1.1", "Transfer-Encoding: x"), 400, INVALID),
    "contradictory lengths": (
        request("GET / HTTP/1.1", "Content-Length: 0", "Content-Length: 5"),
        400,
        INVALID,
    ),
    "no host": (request(without="Host"), 400, INVALID),
    "two hosts": (request("GET / HTTP/1.1", "Host: y"), 400, INVALID),
    "header without colon": (request("GET / HTTP/1.1", "colon"), 400, INVALID),
    "space before colon": (request("GET / HTTP/1.1", "Name : value"), 400, INVALID),
    "header with a zero byte": (request("GET / HTTP/1.1", "Name: \0"), 400, INVALID),
    "folded from the start": (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400, INVALID),
    "no HTTP": (b"HELLO\n", 400, NO_HTTP),
    "target with a zero byte": (b"GET /\0 HTTP/1.1\r\n", 400, NO_HTTP),
    "HTTP/0.9": (b"GET /\r\n", 400, NO_HTTP),
    "nothing": (b"\r\n\r\n", 400, NO_HTTP),
    "one header too many": (
        request("GET / HTTP/1.1", *["X: x"] * (MAX_HEADERS - len(HEADERS) + 1)),
        431,
        f"send at most {MAX_HEADERS} headers",
    ),
    "large head": (
        request("GET / HTTP/1.1", "X: " + "x" * MAX_HANDSHAKE_SIZE),
        431,
        TOO_LARGE,
    ),
    "endless line": (b"G" * (MAX_HANDSHAKE_SIZE + 1), 431, TOO_LARGE),
    "origin": (
        request(Origin="https://example.org"),
        403,
        "pages of this origin may not connect; ask the operator",
    ),
    "null origin": (
        request(Origin="null"),
        403,
        "pages of this origin may not connect; ask the operator",
    ),
}


@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "single bytes"])
@pytest.mark.parametrize(("data", "status", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(data: bytes, status: int, text: str, piece: int) -> None:
    handshake = ServerHandshake()
    for start in range(0, len(data), piece):
        handshake.receive(data[start : start + piece])
    assert handshake.state is HandshakeState.REJECTED
    assert handshake.rejection == Rejection(status, text)
    assert handshake.leftover == b""
    answered, headers, body = parse_answer(handshake.data_to_send())
    assert (answered, body) == (status, f"{text}\n")
    assert "close" in headers["connection"].split(", ")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    # RFC 9110 section 15.5.22: the answer 426 names what to upgrade to.
    assert (headers.get("upgrade") == "websocket") == (status == 426)
    assert (headers.get("sec-websocket-version") == "13") == ("Version" in text)
    assert (headers.get("allow") == "GET") == (status == 405)
    handshake.receive(request())
    assert handshake.state is HandshakeState.REJECTED
    assert handshake.data_to_send() == b""


def test_an_answer_to_head_has_no_body() -> None:
    handshake = ServerHandshake()
    handshake.receive(request("HEAD / HTTP/1.1"))
    head, end, body = handshake.data_to_send().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert (end, body) == (b"\r\n\r\n", b"")


def test_what_stands_in_a_request_never_stands_in_an_answer() -> None:
    handshake = ServerHandshake()
    handshake.receive(request("POST /<script> HTTP/1.1", "X: <script>", Origin="<script>"))
    assert b"script" not in handshake.data_to_send()


@pytest.mark.parametrize(
    ("origin", "state"),
    [
        ("https://example.org", HandshakeState.ACCEPTED),
        ("https://example.org:8443", HandshakeState.REJECTED),
        ("http://example.org", HandshakeState.REJECTED),
        ("https://example.org.evil.net", HandshakeState.REJECTED),
        ("", HandshakeState.REJECTED),
    ],
)
def test_origins_are_compared_whole(origin: str, state: HandshakeState) -> None:
    handshake = ServerHandshake(allowed_origins=frozenset({"https://example.org"}))
    handshake.receive(request(Origin=origin))
    assert handshake.state is state


def test_each_of_several_origins_must_be_allowed() -> None:
    handshake = ServerHandshake(allowed_origins=frozenset({"https://a.org"}))
    handshake.receive(request("GET / HTTP/1.1", "Origin: https://b.org", Origin="https://a.org"))
    assert handshake.state is HandshakeState.REJECTED


def test_what_follows_the_request_is_left_over() -> None:
    frames = b"\x81\x85 first frame\r\n\r\n"
    handshake = ServerHandshake()
    handshake.receive(request() + frames)
    assert handshake.leftover == frames
    handshake.receive(b"more")
    assert handshake.leftover == frames + b"more"


def test_byte_by_byte_nothing_is_answered_early() -> None:
    data = request()
    handshake = ServerHandshake()
    for byte in data[:-1]:
        handshake.receive(bytes((byte,)))
        assert handshake.state is HandshakeState.PENDING
        assert handshake.data_to_send() == b""
    handshake.receive(data[-1:] + b"x")
    assert handshake.state is HandshakeState.ACCEPTED
    assert handshake.leftover == b"x"


def test_the_largest_head_is_accepted_whatever_follows() -> None:
    padding = MAX_HANDSHAKE_SIZE - len(request("GET / HTTP/1.1", "X: "))
    data = request("GET / HTTP/1.1", "X: " + "x" * padding)
    assert len(data) == MAX_HANDSHAKE_SIZE
    handshake = ServerHandshake()
    handshake.receive(data + b"y" * MAX_HANDSHAKE_SIZE)
    assert handshake.state is HandshakeState.ACCEPTED
    assert handshake.leftover == b"y" * MAX_HANDSHAKE_SIZE


def test_max_size_is_the_operators_choice() -> None:
    handshake = ServerHandshake(max_size=100)
    handshake.receive(b"GET /" + b"x" * 100)
    assert handshake.rejection == Rejection(
        431, "send at most 100 bytes of request line and headers"
    )
    roomy = ServerHandshake(max_size=1 << 17)
    roomy.receive(request("GET / HTTP/1.1", "X: " + "x" * 100_000))
    assert roomy.state is HandshakeState.ACCEPTED


@given(st.sampled_from((b"", b"GET / HTTP/1.1\r\nHost: x\r\n")), st.binary(max_size=300))
def test_any_bytes_get_an_answer_or_nothing(start: bytes, data: bytes) -> None:
    handshake = ServerHandshake()
    handshake.receive(start + data)
    assert (handshake.state is HandshakeState.PENDING) == (handshake.data_to_send() == b"")


@given(
    st.lists(
        st.tuples(st.sampled_from(list(HEADERS)), st.binary(max_size=30)), min_size=1, max_size=3
    )
)
def test_any_header_values_get_an_answer_or_nothing(headers: list[tuple[str, bytes]]) -> None:
    data = request()[:-2] + b"".join(
        name.encode() + b": " + value + b"\r\n" for name, value in headers
    )
    handshake = ServerHandshake()
    handshake.receive(data + b"\r\n")
    status, _, _ = parse_answer(handshake.data_to_send())
    assert status == 101 or 400 <= status < 500


def test_every_request_goes_through_the_right_door() -> None:
    assert detect(request()) is Door.WEBSOCKET
