"""From a URL to bytes: the socket, and for WebSocket the opening handshake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
from anyio.abc import ByteStream

from broker.protocol.errors import LocalProtocolError
from broker.protocol.handshake import HandshakeState
from broker.protocol.handshake_client import ClientHandshake
from broker.protocol.json_stream import JsonStream
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Wire
from services.sdk.errors import CannotConnect, TlsFailed
from services.sdk.sockets import connect_tcp, connect_unix
from services.sdk.urls import Address, Scheme

__all__ = ["Dial", "check_plain", "dial", "doubt", "open_wire"]

Dial: TypeAlias = Callable[[Address], Awaitable[ByteStream]]
"""Opens the bytes to a broker. Tests put a stream in memory in the place of a socket."""

# What comes from the broker was let in by the broker: it sets the bound, and this one only keeps a
# broken peer from filling the memory. An operator may allow messages larger than the default 1 MiB.
_MESSAGE_LIMIT: Final = 64 * 1024 * 1024

# Nor is what is nested deeply: the broker's operator decides how deep is too deep. This is about as
# deep as Python can read JSON at all.
_NESTING_LIMIT: Final = 1000

# An alert of TLS: what a listener that speaks TLS says to bytes that are none, if it says anything.
_TLS_ALERT: Final = b"\x15\x03"


async def dial(address: Address) -> ByteStream:
    """Open a socket to a broker.

    Raises:
        CannotConnect: nobody listens there, or the name is not known.
    """
    try:
        if address.scheme is Scheme.UNIX:
            return await connect_unix(address.path)
        return await connect_tcp(address.host, address.port)
    except (OSError, UnicodeError) as error:  # A name of a host may have no form in DNS.
        raise CannotConnect(f"cannot connect to {address.url}: {error}") from error


async def open_wire(stream: ByteStream, address: Address) -> tuple[Wire, bytes]:
    """Agree on the framing.

    Returns:
        The wire, and the first bytes for it, where some have come already.

    Raises:
        CannotConnect: whoever listens there opens no WebSocket.
        TlsFailed: it speaks TLS, and the address does not say so.
    """
    if not address.scheme.websocket:
        return JsonStream(_MESSAGE_LIMIT, nesting=_NESTING_LIMIT), b""
    try:
        handshake = ClientHandshake(address.authority, address.path)
    except LocalProtocolError as error:
        raise CannotConnect(f"{address.url}: {error}") from error
    await stream.send(handshake.request())
    while handshake.state is HandshakeState.PENDING:
        try:
            data = await stream.receive()
        except anyio.EndOfStream:
            handshake.receive_eof()
        else:
            check_plain(data, address)
            handshake.receive(data)
    if handshake.rejection is not None:
        status, text = handshake.rejection.status, handshake.rejection.text
        said = f"{text}{doubt(address)}" if status is None else _explain_status(status, text)
        raise CannotConnect(f"{address.url} opens no WebSocket: {said}")
    wire = WebSocketWire(Role.CLIENT, _MESSAGE_LIMIT, nesting=_NESTING_LIMIT)
    return wire, handshake.leftover


def _explain_status(status: int, text: str) -> str:
    said = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    if 300 <= status < 400:
        return f"{said}; a redirect is not followed: connect to the broker's own address"
    return said


def check_plain(data: bytes, address: Address) -> None:
    """Refuse an answer that is not one, but TLS.

    Raises:
        TlsFailed: it is TLS.
    """
    if data.startswith(_TLS_ALERT):
        raise TlsFailed(f"{address.url}: TLS is spoken there; with it, it is {address.other_url}")


def doubt(address: Address) -> str:
    """Say what may be wrong with an address where somebody listens, and does not answer."""
    if address.scheme is Scheme.UNIX:
        return ""
    if address.scheme.encrypted:
        return "; if it asks for a certificate of this client: tls=Tls(certificate=..., key=...)"
    return f"; if TLS is spoken there, it is {address.other_url}"
