"""The opening handshake of a WebSocket, the client's end, over wsproto (RFC 6455 section 4.1).

Operations: send `request()`; `receive` bytes, or `receive_eof`; look at `state`; when accepted,
feed `leftover` to the wire. Sans-IO.
"""

from __future__ import annotations

from typing import Final

import h11
import wsproto
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.handshake import H11Handshake

from broker.protocol.errors import LocalProtocolError
from broker.protocol.handshake import HandshakeState, Rejection
from broker.protocol.http_head import HeadBuffer, HeadTooLargeError
from broker.protocol.limits import MAX_HANDSHAKE_SIZE

__all__ = ["ClientHandshake"]

_RESPONSE_START: Final = b"HTTP/"


class ClientHandshake:
    """Asks a server for a WebSocket.

    Args:
        host: what the Host header says: the name or address, with the port if it is not 80 (443).
        path: path and query.
        max_size: the largest head of a response, and the largest part of a refusal's body that is
            read, in bytes.

    Attributes:
        state: ACCEPTED and REJECTED are final. After a refusal it stays PENDING until the body has
            come, so that `rejection` can tell what the server had to say.
        rejection: set when REJECTED.
        leftover: what came behind the response, when ACCEPTED.

    Raises:
        LocalProtocolError: no Host header or request line can be made of `host` and `path`.
    """

    def __init__(self, host: str, path: str = "/", max_size: int = MAX_HANDSHAKE_SIZE) -> None:
        self.state = HandshakeState.PENDING
        self.rejection: Rejection | None = None
        self.leftover = b""
        self._handshake = H11Handshake(wsproto.ConnectionType.CLIENT)
        try:
            self._request = self._handshake.send(Request(host=host, target=path))
        except (h11.LocalProtocolError, UnicodeError) as error:
            raise LocalProtocolError(f"can not ask {host!r} for {path!r}: {error}") from error
        self._max_size = max_size
        self._head: HeadBuffer | None = HeadBuffer(max_size)
        self._status: int | None = None
        self._body = bytearray()

    def request(self) -> bytes:
        """Return what has to be sent to begin with."""
        return self._request

    def receive(self, data: bytes) -> None:
        """Take bytes in. Never raises."""
        if self.state is HandshakeState.ACCEPTED:
            self.leftover += data
        elif self.state is HandshakeState.PENDING:
            try:
                self._receive(data)
            except HeadTooLargeError:
                self._reject(f"the response has more than {self._max_size} bytes of headers")
            except (wsproto.utilities.RemoteProtocolError, UnicodeError) as error:
                self._status = None
                self._reject(f"the response opens no WebSocket: {error}")

    def receive_eof(self) -> None:
        """Take note that the server has closed the connection. Never raises."""
        if self.state is not HandshakeState.PENDING:
            return
        if self._status is None:
            self._reject("the server closed the connection before it answered")
        else:
            self._reject_with_body()

    def _receive(self, data: bytes) -> None:
        if self._head is None:
            self._feed(data)
            return
        parts = self._head.receive(data)
        if not self._head.begins_like(_RESPONSE_START):
            self._reject("the response is not HTTP")
        elif parts is not None:
            self._head = None
            head, rest = parts
            self._feed(head)
            if self.state is HandshakeState.ACCEPTED:
                self.leftover = rest
            elif self.state is HandshakeState.PENDING and rest:
                self._feed(rest)

    def _feed(self, data: bytes) -> None:
        self._handshake.receive_data(data)
        for event in self._handshake.events():
            if isinstance(event, AcceptConnection):
                self.state = HandshakeState.ACCEPTED
            elif isinstance(event, RejectConnection):
                self._status = event.status_code
                if not event.has_body:
                    self._reject_with_body()
            elif isinstance(event, RejectData):
                self._body += event.data
                if event.body_finished or len(self._body) >= self._max_size:
                    self._reject_with_body()

    def _reject_with_body(self) -> None:
        self._reject(self._body[: self._max_size].decode(errors="replace").strip())

    def _reject(self, text: str) -> None:
        self.state = HandshakeState.REJECTED
        self.rejection = Rejection(self._status, text)
