"""TLS beneath the framings: a channel without I/O, and what reads and writes through it.

OpenSSL never sees the socket. Bytes go to and from it through memory, which is as fast as a socket
of Python's `ssl` (one system call takes in many records, where that makes two for each), and does
away with what makes TLS on a non-blocking socket hard: a write always finds room, so none has to be
repeated with the same bytes; a read takes out all there is, so nothing lies decrypted where no
poller sees it; and what TLS itself has to send stands in line before the next message.

`TlsSocket` looks to the reactor like any other socket.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any, Final

import attrs

from broker.transport.connection import Connection

__all__ = ["TlsChannel", "TlsConnection", "TlsSocket", "certificate_names"]

# The most that one record holds. Asked for less, OpenSSL would keep the rest.
_RECORD: Final = 16 * 1024

# What is put into OpenSSL's memory buffers at a time. They keep the size that they once had, for
# each connection, so it must not be that of the largest message.
_SLICE: Final = 32 * 1024

# What is encrypted before the system is asked to take it. What it does not take waits, encrypted,
# and no bound of an outbox counts it.
_SEND_SIZE: Final = 64 * 1024


class TlsChannel:
    """One connection's TLS, the server's side, without I/O.

    Args:
        context: the listener's.

    Attributes:
        ended: the other side has said that nothing more will come.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.ended = False

    def shake_hands(self, received: bytes) -> bool:
        """Go on with the handshake. Whether or not it raises, `take_outgoing` has what to send.

        Returns:
            Whether it is done. Bytes that came behind it are had by `decrypt(b"")`.

        Raises:
            ssl.SSLError: this is no TLS, or not what the listener asks for.
        """
        self._incoming.write(received)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, received: bytes) -> bytes:
        """Take bytes in; return all that they complete.

        Raises:
            ssl.SSLError: what came was tampered with, or is no TLS.
        """
        pieces: list[bytes] = []
        if len(received) <= _SLICE:
            self._decrypt_slice(received, pieces)
        else:
            for start in range(0, len(received), _SLICE):
                self._decrypt_slice(received[start : start + _SLICE], pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _decrypt_slice(self, received: bytes, pieces: list[bytes]) -> None:
        incoming, read = self._incoming, self._tls.read
        incoming.write(received)
        # OpenSSL takes in no more than the record at hand, so an empty buffer means that there is
        # nothing to be read: to be told so by an exception would take as long as a small record.
        while incoming.pending and not self.ended:
            try:
                piece = read(_RECORD)
            except ssl.SSLWantReadError:
                return
            if piece:
                pieces.append(piece)
            else:
                self.ended = True

    def encrypt(self, data: bytes) -> bytes:
        """Return the records that carry `data`, behind whatever TLS itself has to send.

        Raises:
            ssl.SSLError: the connection is of no use any more.
        """
        if len(data) <= _SLICE:
            self._tls.write(data)
            return self._outgoing.read()
        records: list[bytes] = []
        for start in range(0, len(data), _SLICE):
            self._tls.write(data[start : start + _SLICE])
            records.append(self._outgoing.read())
        return b"".join(records)

    def say_goodbye(self) -> bytes:
        """Return the record that says that nothing more will come; nothing where it was said."""
        # It asks for the other side's goodbye too, which is not waited for; or the connection has
        # failed, and there is nothing to say.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()

    def take_outgoing(self) -> bytes:
        """Return what TLS itself has to send: handshakes and alerts."""
        return self._outgoing.read()

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names in the client's certificate, once the handshake is done."""
        return certificate_names(self._tls.getpeercert())

    @property
    def version(self) -> str | None:
        """Which TLS is spoken, such as "TLSv1.3"."""
        return self._tls.version()


def certificate_names(certificate: Any) -> tuple[str, ...]:  # noqa: ANN401 - of `ssl`, so typed
    """Return the common name and the DNS and URI names of a certificate, each once.

    Args:
        certificate: as `ssl.SSLObject.getpeercert` returns it: None where there is none.
    """
    if not certificate:
        return ()
    subject = (pair for group in certificate.get("subject", ()) for pair in group)
    names = [value for name, value in subject if name == "commonName"]
    names += [
        value
        for kind, value in certificate.get("subjectAltName", ())
        if kind == "DNS" or kind == "URI"
    ]
    return tuple(dict.fromkeys(names))


class TlsSocket:
    """The part of a non-blocking `socket.socket` that the reactor uses, with TLS on top of one.

    Args:
        sock: must be non-blocking.
        channel: its handshake is done, and all that has come so far is taken out of it.
    """

    def __init__(self, sock: socket.socket, channel: TlsChannel) -> None:
        self._sock = sock
        self._channel = channel
        # Encrypted, and not yet taken by the system.
        self._unsent = b""
        self._leaving = False
        if channel.ended:
            self._stop_reading()

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """The names in the client's certificate."""
        return self._channel.certificate_names

    def fileno(self) -> int:
        """The file number of the socket beneath."""
        return self._sock.fileno()

    def recv(self, size: int) -> bytes:
        """Return all that can be decrypted of up to `size` bytes; nothing means the end.

        An end of the connection without TLS's own goodbye is one too: the framings know by
        themselves whether a message is whole.

        Raises:
            BlockingIOError: there is nothing yet.
            OSError: the connection is broken, or what came is no TLS.
        """
        received = self._sock.recv(size)
        if not received or self._channel.ended:
            return b""
        if self._leaving:
            # Whatever it is, nobody reads it; and after our goodbye a fault in it must not matter.
            raise BlockingIOError
        try:
            data = self._channel.decrypt(received)
        except ssl.SSLError:
            # The other side is told why.
            self._unsent += self._channel.take_outgoing()
            self.flush()
            raise
        if self._channel.ended:
            self._stop_reading()
        elif not data:
            raise BlockingIOError
        return data

    def _stop_reading(self) -> None:
        # The other side may keep its connection open until it is closed here. With this the poller
        # reports the end at once, as it would that of a plain connection.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def send(self, data: bytes) -> int:
        """Encrypt and send, as much as the system takes; return how much of `data` that was.

        Of what counts as sent, up to 64 KiB may wait here for `flush`.

        Raises:
            BlockingIOError: the system takes nothing at present.
            OSError: the connection is broken.
        """
        if not self.flush():
            raise BlockingIOError
        encrypted = 0
        while encrypted < len(data):
            piece = data[encrypted : encrypted + _SEND_SIZE] if len(data) > _SEND_SIZE else data
            self._unsent = self._channel.encrypt(piece)
            encrypted += len(piece)
            if not self.flush():
                break
        return encrypted

    def flush(self) -> bool:
        """Send what is encrypted already.

        Returns:
            Whether nothing of it is left.

        Raises:
            OSError: the connection is broken.
        """
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return False
            self._unsent = self._unsent[sent:]
        return True

    def say_goodbye(self) -> None:
        """Put TLS's goodbye behind what is unsent. From now on, what comes in is thrown away."""
        self._leaving = True
        self._unsent += self._channel.say_goodbye()

    def shutdown(self, how: int) -> None:
        """End one direction, or both, of the connection beneath."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the connection, with a goodbye if there is room for it."""
        with suppress(OSError):
            self.say_goodbye()
            self.flush()
        self._sock.close()


@attrs.define(eq=False)
class TlsConnection(Connection):
    """A connection whose socket may hold back what counts as sent."""

    def write(self) -> bool:
        """Send what stands in the outbox, and behind the last message TLS's goodbye.

        Returns:
            Whether all of it is in the system's hands.

        Raises:
            OSError: the connection is gone.
        """
        if not super().write():
            return False
        sock: TlsSocket = self.sock  # type: ignore[assignment] # no other comes here
        if self.closing:
            sock.say_goodbye()
        return sock.flush()
