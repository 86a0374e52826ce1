"""The opening handshake of a WebSocket, the broker's end (RFC 6455 section 4.2). Sans-IO.

Operations: `receive` bytes; look at `state`; send `data_to_send()`; when accepted, feed `leftover`
to the wire. The client's end is `broker.protocol.handshake_client`.

Goals: an answer to every request, and one that tells its reader what to do; nothing that arrives
behind the handshake is lost; memory is bounded by `max_size` and one piece of input.

How: h11 reads the request, and the rules stand here. wsproto leaves some of them unchecked (the
HTTP version, doubled or malformed keys, a body), refuses what is allowed (lists of upgrades,
several Connection headers), and some bytes make it raise UnicodeError; so all that is left for it
is the accept token.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import Enum
from http import HTTPStatus
from typing import Final

import attrs
import h11
from wsproto.utilities import generate_accept_token

from broker.protocol.http_head import HeadBuffer, HeadTooLargeError
from broker.protocol.limits import MAX_HANDSHAKE_SIZE

__all__ = ["MAX_HEADERS", "HandshakeState", "Rejection", "ServerHandshake"]

# Browsers send about 15, proxies add some; servers in the field stop at about 100.
MAX_HEADERS: Final = 128

# Section 4.2.1: the only version there is.
_VERSION: Final = b"13"

_REQUEST_LINE: Final = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]\.[0-9]\r?")

_WELCOME: Final = (
    "this is a Switchboard broker: open a WebSocket here, or send JSON, one object a line, over "
    "plain TCP"
)
_VERSION_HEADER: Final = ("Sec-WebSocket-Version", _VERSION.decode())
_UPGRADE_HEADER: Final = ("Upgrade", "websocket")


class HandshakeState(Enum):
    """How far a handshake is."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@attrs.frozen
class Rejection:
    """Why there will be no WebSocket.

    Attributes:
        status: the HTTP status; None where the other side's answer is no valid one.
        text: for people.
    """

    status: int | None
    text: str


class _RefusedError(Exception):
    """Carries the answer to a request that is refused."""

    def __init__(self, status: HTTPStatus, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


class ServerHandshake:
    """Answers a request for a WebSocket.

    Any path is accepted; no subprotocol or extension is ever chosen.

    Args:
        max_size: the largest head of a request, in bytes.
        allowed_origins: the values of Origin that are let in, as browsers write them
            ("https://example.org"). Programs other than browsers send none, and are let in.

    Attributes:
        state: ACCEPTED and REJECTED are final.
        rejection: set when REJECTED.
        leftover: what came behind the request, when ACCEPTED.
        target: the path and query that were asked for, when ACCEPTED.
    """

    def __init__(
        self,
        max_size: int = MAX_HANDSHAKE_SIZE,
        allowed_origins: frozenset[str] = frozenset(),
    ) -> None:
        self.state = HandshakeState.PENDING
        self.rejection: Rejection | None = None
        self.leftover = b""
        self.target = ""
        self._allowed_origins = allowed_origins
        self._max_size = max_size
        self._head = HeadBuffer(max_size)
        self._answer = b""

    def receive(self, data: bytes) -> None:
        """Take bytes in. Never raises."""
        if self.state is not HandshakeState.PENDING:
            if self.state is HandshakeState.ACCEPTED:
                self.leftover += data
            return
        try:
            self._receive(data)
        except _RefusedError as refused:
            self.state = HandshakeState.REJECTED
            self.rejection = Rejection(refused.status.value, refused.text)
            # RFC 9110 section 9.3.2: an answer to HEAD has no body.
            has_body = not self._head.begins_like(b"HEAD ")
            self._answer = _refusal(refused, has_body=has_body)

    def data_to_send(self) -> bytes:
        """Return the answer, once there is one, and forget it."""
        answer, self._answer = self._answer, b""
        return answer

    def _receive(self, data: bytes) -> None:
        line_was_whole = self._head.first_line is not None
        try:
            parts = self._head.receive(data)
        except HeadTooLargeError:
            raise _RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"send at most {self._max_size} bytes of request line and headers",
            ) from None
        # Somebody at a keyboard should not have to wait for the blank line to learn this.
        line = self._head.first_line
        if line is not None and not line_was_whole and not _REQUEST_LINE.fullmatch(line):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"not an HTTP request line; {_WELCOME}")
        if parts is None:
            return
        head, rest = parts
        request = _parse_request(head)
        key = _check_request(request)
        self._check_origin(request)
        self.state = HandshakeState.ACCEPTED
        self.target = request.target.decode("ascii")
        self.leftover = rest
        self._answer = _acceptance(key)

    def _check_origin(self, request: h11.Request) -> None:
        """Section 10.2: a page of a foreign site must not speak through its visitor's browser."""
        for origin in _values(request, b"origin"):
            if origin.decode("latin-1") not in self._allowed_origins:
                raise _RefusedError(
                    HTTPStatus.FORBIDDEN, "pages of this origin may not connect; ask the operator"
                )


def _parse_request(head: bytes) -> h11.Request:
    # Two line feeds end the request line and the head; with obsolete line folding, a header may
    # have more than one.
    if head.count(b"\n") - 2 > MAX_HEADERS:
        raise _RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"send at most {MAX_HEADERS} headers"
        )
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError:
        request = None
    if not isinstance(request, h11.Request):
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            "not a valid HTTP/1.1 request: check the header lines, and send Host once",
        )
    return request


def _check_request(request: h11.Request) -> bytes:
    """Check a request against section 4.2.1; return its key.

    Raises:
        _RefusedError: it opens no WebSocket.
    """
    # Section 4.2.1 item 1: GET, and HTTP/1.1. What is higher has other ways to open a WebSocket.
    if request.method != b"GET":
        raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"use GET; {_WELCOME}", ("Allow", "GET"))
    if request.http_version != b"1.1":
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "open a WebSocket with HTTP/1.1")
    # Items 3 and 4.
    if b"websocket" not in _tokens(request, b"upgrade"):
        raise _RefusedError(HTTPStatus.UPGRADE_REQUIRED, _WELCOME, _UPGRADE_HEADER)
    if b"upgrade" not in _tokens(request, b"connection"):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "send the header 'Connection: Upgrade'")
    # Item 6, and section 4.4 on versions.
    versions = _values(request, b"sec-websocket-version")
    if len(versions) != 1:
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"send one header 'Sec-WebSocket-Version: 13'; there are {len(versions)}",
            _VERSION_HEADER,
        )
    if versions[0] != _VERSION:
        raise _RefusedError(
            HTTPStatus.UPGRADE_REQUIRED,
            "send the header 'Sec-WebSocket-Version: 13'; no other version is spoken here",
            _UPGRADE_HEADER,
            _VERSION_HEADER,
        )
    # Bytes of a body could pass for frames.
    if _values(request, b"transfer-encoding") or set(_values(request, b"content-length")) - {b"0"}:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "send no body with the request for a WebSocket")
    # Item 5.
    keys = _values(request, b"sec-websocket-key")
    if len(keys) != 1:
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            f"send one header Sec-WebSocket-Key; there are {len(keys)}",
        )
    if not _is_key(keys[0]):
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST, "send 16 random bytes in base64 as Sec-WebSocket-Key"
        )
    return keys[0]


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _values(request: h11.Request, name: bytes) -> list[bytes]:
    return [value for header, value in request.headers if header == name]


def _tokens(request: h11.Request, name: bytes) -> set[bytes]:
    """Return a header's values as a set of lower-case tokens: lists and doubles make no difference.

    RFC 9110 section 5.3.
    """
    return {
        token.strip().lower() for value in _values(request, name) for token in value.split(b",")
    }


def _acceptance(key: bytes) -> bytes:
    """Section 4.2.2 item 5."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + generate_accept_token(key) + b"\r\n\r\n"
    )


def _refusal(refused: _RefusedError, *, has_body: bool) -> bytes:
    body = f"{refused.text}\n"
    # RFC 9110 section 7.8: who sends Upgrade names it in Connection too.
    connection = "close, upgrade" if _UPGRADE_HEADER in refused.headers else "close"
    lines = (
        f"HTTP/1.1 {refused.status.value} {refused.status.phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Connection: {connection}",
        *(f"{name}: {value}" for name, value in refused.headers),
        "",
        body if has_body else "",
    )
    return "\r\n".join(lines).encode("ascii")
