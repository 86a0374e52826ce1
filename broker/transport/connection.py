"""A socket, the framing spoken over it, and the peer at its other end."""

from __future__ import annotations

import socket
from typing import Final

import attrs

from broker.core.peer import Peer
from broker.protocol.wire import Wire

__all__ = ["Connection"]

# A write takes this much from a long outbox at a time. Socket buffers hold less, so more would be
# copied in vain, again and again.
_WRITE_SIZE: Final = 256 * 1024


@attrs.define(eq=False)
class Connection:
    """One connection, in the reactor's hands.

    Attributes:
        fd: the socket's file number.
        watched: what the poller watches the socket for.
        partial: how much of the outbox's first message has been sent.
        closing: its goodbye is in the outbox; what still comes in is thrown away.
    """

    sock: socket.socket
    wire: Wire
    peer: Peer
    fd: int = attrs.field(init=False)
    watched: int = 0
    partial: int = 0
    closing: bool = False

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
            data = outbox[0] if len(outbox) == 1 else self._join_outbox()
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                return False
            peer.outbox_bytes -= sent
            if not peer.outbox_bytes:
                outbox.clear()
                self.partial = 0
                return True
            self._drop_sent(sent)
            if sent < len(data):
                return False
        return True

    def _join_outbox(self) -> bytes:
        """Return the outbox's bytes, or as many as make sense to write at a time."""
        outbox = self.peer.outbox
        if self.peer.outbox_bytes <= _WRITE_SIZE:
            return b"".join(outbox)
        size = count = 0
        while size < _WRITE_SIZE and count < len(outbox):
            size += len(outbox[count])
            count += 1
        return b"".join(outbox[:count])

    def _drop_sent(self, sent: int) -> None:
        """Take what was sent out of the outbox; what is left of a message stays, as its first."""
        outbox = self.peer.outbox
        count = 0
        while sent and sent >= len(outbox[count]):
            sent -= len(outbox[count])
            count += 1
        if count:
            del outbox[:count]
            self.partial = 0
        if sent:
            outbox[0] = outbox[0][sent:]
            self.partial += sent

    def say_goodbye(self) -> None:
        """Put the peer's farewell into the outbox, behind or instead of what is there."""
        peer, farewell = self.peer, self.peer.farewell
        self.closing = True
        if farewell is None:
            return
        if farewell.discard:
            # A message that has been sent in part must be finished, or what follows is garbage.
            del peer.outbox[1 if self.partial else 0 :]
        if farewell.disconnect is not None:
            peer.outbox.append(peer.frame(farewell.disconnect))
        # Where the other side's close frame came first, the answer to it is owed instead.
        goodbye = (
            self.wire.goodbye(farewell.close_code, farewell.reason) or self.wire.take_replies()
        )
        if goodbye:
            peer.outbox.append(goodbye)
        peer.outbox_bytes = sum(map(len, peer.outbox))
