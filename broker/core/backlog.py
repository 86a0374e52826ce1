"""What receivers have yet to take: counted for all of them together, and bounded.

Only *held* outboxes are counted: those that a write has left something in. An outbox that is
emptied as soon as it is filled costs nothing here.

A broadcast's bytes stand in many outboxes and in memory once, so they are counted once: as
`SharedBytes`, which take themselves out of the count when the last outbox lets go of them. What is
counted is thus what can be had back by letting go of receivers, and a large broadcast to thousands
of healthy receivers is not taken for a thousand large messages.

Operations: `grow`, `hold`, `release` (constant time; the first `hold` is linear in what one batch
brought), `largest_first` (sorts the held outboxes).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from broker.core.peer import Peer

__all__ = ["Backlog", "SharedBytes", "discount"]

# What a piece in an outbox takes beside its bytes: its place in the list, its header as a Python
# object, and what the allocator rounds up. Without it, a million PONGs would weigh nothing.
_PIECE: Final = 64

# Of that, what a shared piece takes for each outbox that it stands in.
_PLACE: Final = 16

# A broadcast of less than this in all is not worth the half microsecond of being counted once.
_WORTH_SHARING: Final = 16 * 1024


class SharedBytes(bytes):
    """Bytes that stand in many outboxes, and count once. Made by `Backlog.share`."""

    __slots__ = ()

    backlog: ClassVar[Backlog]

    def __del__(self) -> None:
        """The last outbox has let go of them."""
        self.backlog.bytes -= len(self)


class Backlog:
    """The held outboxes of all peers.

    Args:
        budget: past so many bytes, the largest outboxes have to go.

    Attributes:
        budget: see above.
        bytes: what the held outboxes take, in bytes of memory.
    """

    def __init__(self, budget: int = sys.maxsize) -> None:
        self.budget = budget
        self.bytes = 0
        self._held: dict[Peer, None] = {}
        # Instances of bytes have no room for a reference of their own.
        self._shared: type[SharedBytes] = type(
            "SharedBytes", (SharedBytes,), {"__slots__": (), "backlog": self}
        )

    def __len__(self) -> int:
        """How many outboxes are held."""
        return len(self._held)

    def share(self, framed: bytes, receivers: int) -> bytes:
        """Return the bytes of a broadcast in the form in which they count once."""
        if len(framed) * receivers < _WORTH_SHARING or receivers == 1:
            return framed
        self.bytes += len(framed)
        return self._shared(framed)

    def grow(self, peer: Peer, framed: bytes) -> None:
        """Count a piece that was put into a held outbox."""
        size = len(framed) + _PIECE
        if type(framed) is not bytes:
            peer.discount += size - _PLACE
            size = _PLACE
        peer.counted += size
        self.bytes += size

    def hold(self, peer: Peer) -> None:
        """Count an outbox that a write, or the end of its peer, has left something in."""
        outbox = peer.outbox
        if not peer.held:
            peer.held = True
            peer.discount = discount(outbox)
            self._held[peer] = None
        # Of a message that is sent in part, the whole is still in memory.
        size = peer.outbox_bytes + peer.partial + _PIECE * len(outbox) - peer.discount
        self.bytes += size - peer.counted
        peer.counted = size

    def release(self, peer: Peer) -> None:
        """Stop counting an outbox: it is empty, or its connection is gone."""
        if peer.held:
            del self._held[peer]
            self.bytes -= peer.counted
            peer.held = False
            peer.counted = peer.discount = peer.urgent = 0
            peer.taken += 1
            # Where the connection is gone: the peer itself may be known to others for a while.
            peer.outbox.clear()

    @property
    def exceeded(self) -> bool:
        """Whether the budget is spent."""
        return self.bytes > self.budget

    def largest_first(self) -> list[Peer]:
        """Return the peers whose outboxes are held."""
        return sorted(self._held, key=lambda peer: peer.outbox_bytes, reverse=True)


def discount(pieces: Iterable[bytes]) -> int:
    """What of some pieces is not to be counted where they stand, since it is counted as shared."""
    return sum([len(piece) + _PIECE - _PLACE for piece in pieces if type(piece) is not bytes])
