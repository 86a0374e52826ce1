"""Who to ping, who has expired.

A connection idle for `ping` gets a PING; one that stays silent for another `ping` has expired. Any
frame of the protocol is life. Hearing from a peer costs the store of a time and nothing more: where
a peer stands is looked at when its deadline falls due, and then a new one is set.

Two kinds of peers are silent through no fault of theirs: one that is not read at present, since it
feeds a slow receiver; and one that is slow itself, to which the PING is on its way behind what its
connection holds already. As long as the second one takes what waits for it, it is given time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from broker.core.deadlines import Alarm, Deadlines
from broker.core.peer import Peer

__all__ = ["Heartbeat"]


class Heartbeat:
    """Watches over the identified peers.

    Args:
        ping: seconds.
        alarm: when to call `tick`.
    """

    def __init__(self, ping: float, alarm: Alarm) -> None:
        self._ping = ping
        self._deadlines: Deadlines[Peer] = Deadlines(alarm)
        # When, and how often it had taken something out of its outbox by then.
        self._pinged: dict[Peer, tuple[float, int]] = {}

    @property
    def next(self) -> float:
        """When to look again, in seconds."""
        return self._deadlines.next

    def watch(self, peer: Peer) -> None:
        """Begin to watch a peer."""
        self._deadlines.add(peer, peer.last_heard + self._ping, peer.last_heard)

    def forget(self, peer: Peer) -> None:
        """Stop watching a peer."""
        self._deadlines.discard(peer)
        self._pinged.pop(peer, None)

    def tick(self, now: float) -> Iterator[tuple[Peer, bool]]:
        """Return the peers that are due: with True, the peer has expired; with False, ping it.

        An expired peer is forgotten.
        """
        for peer in self._deadlines.due(now):
            pinged_at, taken = self._pinged.pop(peer, (-math.inf, 0))
            if peer.stalls:
                # It is not read for now, so it cannot be heard. It is not to blame for that.
                peer.last_heard = now
            if peer.last_heard < pinged_at:
                if peer.taken == taken:
                    yield peer, True
                else:
                    self._pinged[peer] = pinged_at, peer.taken
                    self._deadlines.add(peer, now + self._ping, now)
            elif peer.last_heard + self._ping > now:
                self._deadlines.add(peer, peer.last_heard + self._ping, now)
            else:
                self._pinged[peer] = now, peer.taken
                self._deadlines.add(peer, now + self._ping, now)
                yield peer, False
