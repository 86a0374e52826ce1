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
from services.sdk.errors import CannotConnect
from services.sdk.urls import Address, Scheme

__all__ = ["Dial", "dial", "open_wire"]

Dial: TypeAlias = Callable[[Address], Awaitable[ByteStream]]
"""Opens the bytes to a broker. Tests put a stream in memory in the place of a socket."""

# What comes from the broker was let in by the broker: it sets the bound, and this one only keeps a
# broken peer from filling the memory. An operator may allow messages larger than the default 1 MiB.
_MESSAGE_LIMIT: Final = 64 * 1024 * 1024


async def dial(address: Address) -> ByteStream:
    """Open a socket to a broker.

    Raises:
        CannotConnect: nobody listens there, or the name is not known.
    """
    try:
        if address.scheme is Scheme.UNIX:
            return await anyio.connect_unix(address.path)
        return await anyio.connect_tcp(address.host, address.port)
    except OSError as error:
        cause = error.__cause__ or error
        raise CannotConnect(f"cannot connect to {address.url}: {cause}") from error


async def open_wire(stream: ByteStream, address: Address) -> tuple[Wire, bytes]:
    """Agree on the framing.

    Returns:
        The wire, and the first bytes for it, where some have come already.

    Raises:
        CannotConnect: whoever listens there opens no WebSocket.
    """
    if address.scheme is not Scheme.WS:
        return JsonStream(_MESSAGE_LIMIT), b""
    try:
        handshake = ClientHandshake(address.authority, address.path)
    except LocalProtocolError as error:
        raise CannotConnect(f"{address.url}: {error}") from error
    await stream.send(handshake.request())
    while handshake.state is HandshakeState.PENDING:
        try:
            handshake.receive(await stream.receive())
        except anyio.EndOfStream:
            handshake.receive_eof()
    if handshake.rejection is not None:
        status, text = handshake.rejection.status, handshake.rejection.text
        said = text if status is None else f"HTTP {status}: {text}"
        raise CannotConnect(f"{address.url} opens no WebSocket: {said}")
    return WebSocketWire(Role.CLIENT, _MESSAGE_LIMIT), handshake.leftover
