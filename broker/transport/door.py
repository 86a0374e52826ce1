"""From an accepted socket to a connection in the reactor's hands.

The door reads as much as it takes to know the framing: one byte for a raw stream, the opening
handshake for a WebSocket. It has a deadline and a bound for it. IDENTIFY is then read by the
reactor like any other frame, since the dispatcher knows what may come before it (nothing).
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs
import trio

from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings
from broker.protocol.codec import disconnect_message
from broker.protocol.errors import Reason
from broker.protocol.handshake import HandshakeState, ServerHandshake
from broker.protocol.json_stream import JsonStream, frame_line
from broker.protocol.websocket import Role, WebSocketWire
from broker.protocol.wire import Door as Kind
from broker.protocol.wire import Wire, detect
from broker.transport.admission import TAKEN_BY_OTHERS, Admission, Ticket
from broker.transport.connection import ByteSocket, Connection
from broker.transport.limited_log import Rate
from broker.transport.reactor import Reactor
from broker.transport.tls import TlsConnection, TlsSocket
from broker.transport.tls_context import TlsEntrance
from broker.transport.tls_stream import TlsStream

__all__ = ["LAST_WORDS", "Door", "Guest"]

# Enough for any opening handshake or IDENTIFY at once.
_RECEIVE_SIZE: Final = 4096

# How long the last words to somebody who has to make room may take, in seconds. Nothing much has
# been sent to them before, so the system takes it at once.
LAST_WORDS: Final = 0.1

# What comes with 503, in seconds: by then, whoever came and said nothing has been sent away.
_RETRY_AFTER: Final = 5

# What TLS begins with: a record of the handshake.
_TLS_HANDSHAKE: Final = 0x16

# How often a failed handshake is logged: anybody can bring about any number of them.
_HANDSHAKES: Final = Rate(1)

_SPEAK_TLS: Final = "TLS is spoken here: connect with tls:// or wss://"


@attrs.define
class Guest:
    """A connection that the door is busy with.

    Attributes:
        stream: what it is spoken to through.
        ticket: its place, or why it has none.
        deadline: when it must have identified itself, in seconds.
        kind: which framing it speaks, once that is known.
        answered: it is being answered, and nothing else can be said.
        handed_over: the reactor has it.
    """

    stream: trio.SocketStream | TlsStream
    ticket: Ticket
    deadline: float
    kind: Kind | None = None
    answered: bool = False
    handed_over: bool = False

    @property
    def last_words(self) -> bytes:
        """What somebody is told who had to make room for others, where anything can be told."""
        if self.answered or not self.ticket.evicted or self.kind is not Kind.WEBSOCKET:
            return b""
        return _no_room(self.kind, TAKEN_BY_OTHERS)


class Door:
    """Takes in connections.

    Args:
        dispatcher: gets a peer for each.
        reactor: serves it from then on.
        settings: for deadlines and limits.
        admission: knows for whom there is room.
        clock: returns the time in seconds, monotonic; trio's own.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        reactor: Reactor,
        settings: Settings,
        admission: Admission,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._dispatcher = dispatcher
        self._reactor = reactor
        self._admission = admission
        self._clock = clock
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Go by other settings from now on, for those who come."""
        self._timing = settings.timing
        self._limits = self._admission.limits = settings.limits
        self._allowed_origins = frozenset(settings.allowed_origins)

    async def admit(self, stream: trio.SocketStream, tls: TlsEntrance | None = None) -> None:
        """Bring one accepted connection as far as the reactor. Nothing a client does raises.

        Args:
            stream: the connection.
            tls: its listener's, where that speaks TLS.
        """
        guest = self._enter(stream, _host_of(stream))
        self._reactor.guests += 1
        try:
            with suppress(trio.BrokenResourceError):
                with trio.CancelScope(deadline=guest.deadline) as scope:
                    guest.ticket.evict = scope.cancel
                    if tls is None or await self._open_tls(guest, stream, tls.context):
                        await self._receive_first(guest)
                if guest.last_words:
                    with trio.move_on_after(LAST_WORDS):
                        await guest.stream.send_all(guest.last_words)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end everybody
            self._reactor.faults.report(error, "letting in a connection")
        finally:
            self._reactor.guests -= 1
            self._part_with(guest)
            # A stream whose socket went to the reactor is empty by now.
            await trio.aclose_forcefully(stream)

    def _enter(self, stream: trio.SocketStream, host: str | None) -> Guest:
        now = self._clock()
        ticket = self._admission.enter(host, now)
        timing = self._timing
        time = timing.identify_ms if ticket.refusal is None else timing.goodbye_ms
        return Guest(stream, ticket, now + time / 1000)

    def _part_with(self, guest: Guest) -> None:
        if guest.handed_over:
            return
        guest.ticket.leave()
        log = self._reactor.log
        if log.enabled(logging.DEBUG):
            log.write(
                logging.DEBUG,
                "connection ended at the door",
                address=_address_of(guest.stream),
                message=_why_at_the_door(guest),
            )

    async def _open_tls(
        self, guest: Guest, stream: trio.SocketStream, context: ssl.SSLContext
    ) -> bool:
        """Do the TLS handshake, if there is one to be done; return whether to go on."""
        received = bytes(await stream.receive_some(_RECEIVE_SIZE))
        if not received or guest.ticket.refusal is not None:
            # To say in TLS that there is no room would cost as much as to let them in.
            return False
        if received[0] != _TLS_HANDSHAKE:
            self._dispatcher.counters.tls_failures += 1
            hint = _in_plain_text(received)
            if hint:
                await self._refuse(stream, hint)
            return False
        tls = TlsStream(stream, context)
        try:
            await tls.shake_hands(received, _RECEIVE_SIZE)
        except ssl.SSLError as error:
            self._dispatcher.counters.tls_failures += 1
            self._note_failed_handshake(stream, error)
            await self._refuse(stream, tls.take_outgoing())
            return False
        guest.stream = tls
        return True

    def _note_failed_handshake(self, stream: trio.SocketStream, error: ssl.SSLError) -> None:
        self._reactor.log.write(
            logging.INFO,
            "a TLS handshake failed",
            rate=_HANDSHAKES,
            address=_address_of(stream),
            reason=getattr(error, "verify_message", None) or error.reason or str(error),
        )

    async def _receive_first(self, guest: Guest) -> None:
        stream, refusal = guest.stream, guest.ticket.refusal
        received = bytes(await stream.receive_some(_RECEIVE_SIZE))
        if not received:
            return
        guest.kind = detect(received)
        if refusal is not None:
            await self._refuse(stream, _no_room(guest.kind, refusal))
        elif guest.kind is Kind.STREAM:
            limits = self._limits
            wire = JsonStream(
                limits.message_bytes,
                first_limit=limits.unidentified_bytes,
                nesting=limits.nesting,
            )
            self._hand_over(guest, wire, received)
        else:
            await self._shake_hands(guest, received)

    async def _shake_hands(self, guest: Guest, received: bytes) -> None:
        stream, limits = guest.stream, self._limits
        handshake = ServerHandshake(limits.handshake_bytes, self._allowed_origins)
        handshake.receive(received)
        while handshake.state is HandshakeState.PENDING:
            received = bytes(await stream.receive_some(_RECEIVE_SIZE))
            if not received:
                return
            handshake.receive(received)
        guest.answered = True
        if handshake.state is HandshakeState.REJECTED:
            await self._refuse(stream, handshake.data_to_send())
            return
        await stream.send_all(handshake.data_to_send())
        wire = WebSocketWire(
            Role.SERVER,
            limits.message_bytes,
            first_limit=limits.unidentified_bytes,
            nesting=limits.nesting,
        )
        self._hand_over(guest, wire, handshake.leftover)

    def _hand_over(self, guest: Guest, wire: Wire, received: bytes) -> None:
        address = _address_of(guest.stream)
        sock = socket.socket(fileno=guest.stream.socket.detach())
        sock.setblocking(False)
        stream = guest.stream
        if isinstance(stream, TlsStream):
            self._adopt(guest, stream.take_over(sock), address, wire, received)
        else:
            self._adopt(guest, sock, address, wire, received)

    def _adopt(
        self, guest: Guest, sock: ByteSocket, address: str, wire: Wire, received: bytes
    ) -> None:
        ticket = guest.ticket
        peer = self._dispatcher.open(wire, address, self._clock(), guest.deadline)
        peer.on_identified = ticket.identified
        if isinstance(sock, TlsSocket):
            peer.certificate_names = sock.certificate_names
            connection: Connection = TlsConnection(sock, wire, peer, on_drop=ticket.leave)
        else:
            connection = Connection(sock, wire, peer, on_drop=ticket.leave)
        ticket.evict = partial(
            self._reactor.evict, connection, Reason.TRY_AGAIN_LATER, TAKEN_BY_OTHERS
        )
        guest.handed_over = True
        self._reactor.adopt(connection, received)

    async def _refuse(self, stream: trio.SocketStream | TlsStream, answer: bytes) -> None:
        """Send a last answer, and see to it that it can be read.

        Closing while bytes of theirs are unread would make the system reset the connection, and the
        answer might be lost with it.
        """
        with trio.move_on_after(self._timing.goodbye_ms / 1000):
            await stream.send_all(answer)
            await stream.send_eof()
            while await stream.receive_some(_RECEIVE_SIZE):
                pass


def _why_at_the_door(guest: Guest) -> str:
    """Why somebody did not get any further."""
    if guest.ticket.refusal is not None:
        return guest.ticket.refusal
    if guest.ticket.evicted:
        return TAKEN_BY_OTHERS
    if guest.answered:
        return "the HTTP request was refused"
    return "it ended, or its time was over, before it was known what it speaks"


def _in_plain_text(received: bytes) -> bytes:
    """What is said to a client that speaks without TLS where TLS is spoken; nothing to others."""
    if detect(received) is Kind.WEBSOCKET:
        return _http_answer("400 Bad Request", _SPEAK_TLS)
    if received.lstrip()[:1] in (b"{", b""):
        return frame_line(disconnect_message(Reason.INVALID_PAYLOAD, _SPEAK_TLS))
    return b""


def _no_room(kind: Kind, text: str) -> bytes:
    """What is said to a connection that there is no room for."""
    if kind is Kind.STREAM:
        return frame_line(disconnect_message(Reason.TRY_AGAIN_LATER, text))
    return _http_answer("503 Service Unavailable", text, f"Retry-After: {_RETRY_AFTER}")


def _http_answer(status: str, text: str, *headers: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        "Connection: close",
        *headers,
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text) + 1}",
        "",
        f"{text}\n",
    )
    return "\r\n".join(lines).encode("ascii")


def _host_of(stream: trio.SocketStream) -> str | None:
    """The IP address of the other end; None where it is on a Unix socket."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "unknown"
    return str(name[0]) if isinstance(name, tuple) else None


def _address_of(stream: trio.SocketStream | TlsStream) -> str:
    """Where a connection comes from, for people."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "unknown"
    if isinstance(name, tuple):
        host, port = name[:2]
        # A socket for IPv6 that takes IPv4 as well shows it so.
        host = host.removeprefix("::ffff:") if "." in host else host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix"
