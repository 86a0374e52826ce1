"""TLS while the door has a connection in hand: before the framing is known."""

from __future__ import annotations

import socket
import ssl

import trio

from broker.transport.tls import TlsChannel, TlsSocket

__all__ = ["TlsStream"]


class TlsStream:
    """The part of a `trio.SocketStream` that the door uses, with TLS on top of one.

    Args:
        stream: whatever is left of it when the door is done is to be closed by the caller.
        context: the listener's.

    Attributes:
        socket: the socket beneath.
    """

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._channel = TlsChannel(context)
        # What came with the end of the handshake; the first to receive gets it.
        self._early = b""

    async def shake_hands(self, received: bytes, size: int) -> None:
        """Do the opening handshake.

        Args:
            received: bytes that have been read already.
            size: how much to read at a time.

        Raises:
            ssl.SSLError: it has failed; `take_outgoing` has what the other side is to be told.
            trio.BrokenResourceError: the connection is gone.
        """
        done = False
        while not done:
            done = self._channel.shake_hands(received)
            await self._send_outgoing()
            if not done:
                received = bytes(await self._stream.receive_some(size))
                if not received:
                    raise trio.BrokenResourceError("the connection ended within the TLS handshake")
        self._early = self._channel.decrypt(b"")

    def take_outgoing(self) -> bytes:
        """Return what TLS itself has to send."""
        return self._channel.take_outgoing()

    async def receive_some(self, size: int) -> bytes:
        """Wait for bytes; nothing means the end. There can be somewhat more than `size`.

        Raises:
            trio.BrokenResourceError: the connection is gone, or what came is no TLS.
        """
        data, self._early = self._early, b""
        while not data and not self._channel.ended:
            received = bytes(await self._stream.receive_some(size))
            if not received:
                break
            try:
                data = self._channel.decrypt(received)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError("no TLS") from error
        return data

    async def send_all(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            trio.BrokenResourceError: the connection is gone.
        """
        await self._stream.send_all(self._channel.encrypt(data))

    async def send_eof(self) -> None:
        """Say that nothing more will come.

        Raises:
            trio.BrokenResourceError: the connection is gone.
        """
        await self._stream.send_all(self._channel.say_goodbye())
        await self._stream.send_eof()

    async def _send_outgoing(self) -> None:
        outgoing = self._channel.take_outgoing()
        if outgoing:
            await self._stream.send_all(outgoing)

    def take_over(self, sock: socket.socket) -> TlsSocket:
        """Hand the connection over. Something must have been received by then: see `_early`.

        Args:
            sock: the socket beneath; it must be non-blocking.
        """
        return TlsSocket(sock, self._channel)
