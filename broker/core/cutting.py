"""Cutting receivers that leave too much unread: each past its own limit, and the largest of all.

Operations: `cut` (constant time), `settle` (linear in the receivers past their limit; where all
together are past theirs, it sorts those that have anything unread).
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.core.peer import Effects, Peer, PeerState
from broker.core.statistics import Counters
from broker.protocol.errors import Reason

__all__ = ["Cutter"]

# What may be left of the outbox of a receiver that is cut for the sake of the whole: of larger
# messages that it has in part, the rest is not kept for the time that it has for its goodbye.
_REST: Final = 64 * 1024


class _Close(Protocol):
    """As `Dispatcher.close`."""

    def __call__(self, peer: Peer, reason: Reason, message: str, *, discard: bool) -> None: ...


class Cutter:
    """Cuts receivers.

    Args:
        effects: who is past which limit.
        counters: what has happened so far.
        close: ends a connection.
    """

    def __init__(self, effects: Effects, counters: Counters, close: _Close) -> None:
        self._effects = effects
        self._counters = counters
        self._close = close

    def cut(self, peer: Peer, limit: str, why: str = "") -> None:
        """Cut a receiver.

        Args:
            peer: which. One that is closed already is left alone.
            limit: the name of the limit or the time that says so, for the counts.
            why: what is said beside how much it left unread.
        """
        if peer.state is PeerState.CLOSED:
            return
        self._counters.evictions[limit] += 1
        self._close(
            peer,
            Reason.SLOW_CONSUMER,
            f"{peer.outbox_bytes} bytes were waiting to be read{why}",
            discard=True,
        )

    def settle(self) -> None:
        """Cut the receivers past their limit."""
        overfull = self._effects.overfull
        while overfull:
            peer, _ = overfull.popitem()
            if peer.outbox_bytes > self._effects.limit:
                self.cut(peer, "outbox_bytes")
        if self._effects.backlog.exceeded:
            self._evict()

    def _evict(self) -> None:
        """Cut the largest outboxes until all together are within the budget."""
        backlog = self._effects.backlog
        for peer in backlog.largest_first():
            if not backlog.exceeded:
                return
            if peer.state is not PeerState.CLOSED:
                self._counters.evicted += 1
                self.cut(
                    peer, "outboxes_bytes", ", and all receivers together left too much unread"
                )
            if peer.counted > _REST:
                # It would keep the memory until the message that it has in part is finished.
                backlog.release(peer)
                self._effects.to_drop.append(peer)
