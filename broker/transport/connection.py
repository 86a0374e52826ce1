"""A socket, the framing spoken over it, and the peer at its other end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import attrs

from broker.core.backlog import discount
from broker.core.metrics import Kind
from broker.core.peer import Peer
from broker.protocol.wire import Wire

__all__ = ["ByteSocket", "Connection"]

# A write takes this much from a long outbox at a time. Socket buffers hold less, so more would be
# copied in vain, again and again.
_WRITE_SIZE: Final = 256 * 1024


class ByteSocket(Protocol):
    """What is asked of a non-blocking socket: `socket.socket`, and whatever looks like one."""

    def fileno(self) -> int:
        """The file number by which the poller knows it."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Return bytes that have come; nothing at the end.

        Raises:
            BlockingIOError: there are none yet. All that has come has been returned.
            OSError: the connection is broken.
        """
        ...

    def send(self, data: bytes, /) -> int:
        """Send as much as the system takes, and return how much that was.

        Raises:
            BlockingIOError: it takes nothing at present.
            OSError: the connection is broken.
        """
        ...

    def shutdown(self, how: int, /) -> None:
        """End one direction, or both."""
        ...

    def close(self) -> None:
        """Give it back to the system. Does not block."""
        ...


@attrs.define(eq=False)
class Connection:
    """One connection, in the reactor's hands.

    Attributes:
        fd: the socket's file number.
        watched: what the poller watches the socket for.
        closing: its goodbye is in the outbox; what still comes in is thrown away.
        on_drop: called when it is gone.
        since: when the reactor got it, on the broker's monotonic clock, in seconds.
        bytes_in: received, with the framing, without TLS.
        bytes_out: sent, likewise.
        noted_in: of `bytes_in`, what is in `Metrics.bytes_in`.
        noted_out: of `bytes_out`, what is in `Metrics.bytes_out`.
        kind: what the last of them counted as.
        broken: what the system said of it when it broke.
    """

    sock: ByteSocket
    wire: Wire
    peer: Peer
    fd: int = attrs.field(init=False)
    watched: int = 0
    closing: bool = False
    on_drop: Callable[[], None] | None = None
    since: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    noted_in: int = 0
    noted_out: int = 0
    kind: Kind = ("IDENTIFY", "NONE")
    broken: str = ""

    def __attrs_post_init__(self) -> None:
        self.fd = self.sock.fileno()

    def write(self) -> bool:
        """Send what stands in the outbox, as much as the system takes.

        Returns:
            Whether the outbox is empty now.

        Raises:
            OSError: the connection is gone.
        """
        peer = self.peer
        outbox = peer.outbox
        while outbox:
            data = outbox[0] if len(outbox) == 1 and not peer.partial else self._join_outbox()
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                return False
            peer.outbox_bytes -= sent
            self.bytes_out += sent
            if not peer.outbox_bytes:
                outbox.clear()
                peer.partial = 0
                return True
            self._drop_sent(sent)
            if sent < len(data):
                return False
        return True

    def _join_outbox(self) -> bytes:
        """Return the outbox's bytes, or as many as make sense to write at a time."""
        outbox, partial = self.peer.outbox, self.peer.partial
        if not partial and self.peer.outbox_bytes <= _WRITE_SIZE:
            return b"".join(outbox)
        # The piece itself stays whole, since it may stand in other outboxes too.
        first = outbox[0][partial : partial + _WRITE_SIZE] if partial else outbox[0]
        if partial + len(first) < len(outbox[0]):
            return first
        size, count = len(first), 1
        while size < _WRITE_SIZE and count < len(outbox):
            size += len(outbox[count])
            count += 1
        return b"".join([first, *outbox[1:count]])

    def _drop_sent(self, sent: int) -> None:
        """Take the pieces that were sent out of the outbox; one that was sent in part stays."""
        peer, outbox = self.peer, self.peer.outbox
        if sent:
            peer.taken += 1
        sent += peer.partial
        count = 0
        while sent and sent >= len(outbox[count]):
            sent -= len(outbox[count])
            count += 1
        peer.partial = sent
        if count:
            if peer.discount:
                peer.discount -= discount(outbox[:count])
            peer.urgent = max(0, peer.urgent - count)
            del outbox[:count]

    def say_goodbye(self) -> None:
        """Put the peer's farewell into the outbox, behind or instead of what is there."""
        peer, farewell = self.peer, self.peer.farewell
        self.closing = True
        if farewell is None:
            return
        if farewell.disconnect is not None:
            peer.outbox.append(peer.frame(farewell.disconnect))
        # Where the other side's close frame came first, the answer to it is owed instead.
        goodbye = (
            self.wire.goodbye(farewell.close_code, farewell.reason) or self.wire.take_replies()
        )
        if goodbye:
            peer.outbox.append(goodbye)
        peer.outbox_bytes = sum(map(len, peer.outbox)) - peer.partial
