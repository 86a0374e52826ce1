"""Who gets in: how many connections there may be, in all, of an address, and unidentified.

Operations of `Admission`: `enter` (constant time), `make_room` (constant time); of a `Ticket`:
`identified` and `leave` (constant time).

Everybody who is let in holds a ticket until its connection is gone. Tickets of those who have not
identified themselves stand in a row, the oldest first. Where there is no room for one more, the
oldest makes room for the newcomer. The other way round, whoever holds a broker's last places with
connections that say nothing would keep all others out, again and again, for as long as the
deadline for IDENTIFY.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import attrs

from broker.core.addresses import network_of
from broker.core.settings import LimitSettings
from broker.core.statistics import Counters

__all__ = ["TAKEN_BY_OTHERS", "Admission", "Ticket"]

# Nobody has to make room before this time is over, in seconds: many a link needs it for TCP, TLS,
# an upgrade and a frame. Were it less, the newcomers of a storm at a full broker would push each
# other out, and nobody would get in. At the default limits a flood needs several seconds to push
# one out, since `accepts_per_second` bounds it.
_PATIENCE: Final = 1.0

# Connections that are told at a time that there is no room for them: each holds a file number
# until its client closes, for `goodbye_ms` at most. What there is beyond this is cut off.
_MOST_REFUSED: Final = 256

_FULL: Final = "the broker has as many connections as it may; try again later"
_FULL_ADDRESS: Final = (
    "the broker has as many connections from your address as it may; try again later"
)
_DRAINING: Final = "the broker is going down; try again later"
TAKEN_BY_OTHERS: Final = (
    "your place was needed for others before you had identified yourself; try again later"
)


def _nothing() -> None:
    """What is done to evict a ticket that nobody holds yet."""


@attrs.define(eq=False)
class Ticket:
    """One connection's place in the house.

    Attributes:
        since: when it came, on the broker's monotonic clock, in seconds.
        network: what it counts for among the addresses; None where it came over a Unix socket.
        refusal: why it has no place; it only gets to be told so.
        evict: ends the connection at once. Whoever has the connection in hand sets it.
        evicted: whether it had to make room.
    """

    since: float
    network: str | None
    refusal: str | None
    _admission: Admission = attrs.field(repr=False)
    evict: Callable[[], None] = _nothing
    evicted: bool = False

    def identified(self) -> None:
        """Note that its holder is known now, and makes room for nobody."""
        self._admission._unidentified.pop(self, None)

    def leave(self) -> None:
        """Give the place back. Can be said more than once."""
        self._admission._leave(self)


class Admission:
    """Keeps the count of who is in the house.

    Args:
        limits: how many there may be.
        counters: where it is noted who was turned away.

    Attributes:
        limits: the present ones; a reload puts others in their place. They hold for whoever comes
            from then on: nobody is sent away because a limit was lowered.
        closed: nobody is let in any more, since the broker is going down.
    """

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        self.limits = limits
        self.closed = False
        self._counters = counters
        self._of_network: Counter[str] = Counter()
        self._inside: set[Ticket] = set()
        # In the order of their coming.
        self._unidentified: dict[Ticket, None] = {}
        self._refused: dict[Ticket, None] = {}

    def __len__(self) -> int:
        """How many there are, without those who were refused and have yet to go."""
        return len(self._inside)

    @property
    def unidentified(self) -> int:
        """How many of them have yet to say who they are."""
        return len(self._unidentified)

    def of_network(self, host: str) -> int:
        """Return how many have come from an IP address, or from its /64."""
        return self._of_network[network_of(host)]

    def enter(self, host: str | None, now: float) -> Ticket:
        """Give a newcomer a place, if there is one; see `Ticket.refusal`.

        Args:
            host: the IP address that it comes from; None for a Unix socket.
            now: seconds.
        """
        network = None if host is None else network_of(host)
        if self.closed:
            return self._refuse("draining", _DRAINING, network, now)
        limits = self.limits
        if network is not None and self._of_network[network] >= limits.connections_per_address:
            return self._refuse("connections_per_address", _FULL_ADDRESS, network, now)
        unknown = len(self._unidentified)
        if unknown >= limits.unidentified_connections and not self._evict_oldest(now):
            return self._refuse("unidentified_connections", _FULL, network, now)
        if len(self._inside) >= limits.connections and not self._evict_oldest(now):
            return self._refuse("connections", _FULL, network, now)
        ticket = Ticket(now, network, None, self)
        self._inside.add(ticket)
        self._unidentified[ticket] = None
        if network is not None:
            self._of_network[network] += 1
        return ticket

    def make_room(self, now: float) -> bool:
        """End a connection that others can do best without, and so give back its file number.

        Returns:
            Whether there was one.
        """
        if self._refused:
            self._cut_off_oldest()
            return True
        return self._evict_oldest(now)

    def _evict_oldest(self, now: float) -> bool:
        oldest = next(iter(self._unidentified), None)
        if oldest is None or now - oldest.since < _PATIENCE:
            return False
        self._leave(oldest)
        oldest.evicted = True
        self._counters.turned_away["evicted"] += 1
        oldest.evict()
        return True

    def _refuse(self, limit: str, text: str, network: str | None, now: float) -> Ticket:
        self._counters.turned_away[limit] += 1
        if len(self._refused) >= _MOST_REFUSED:
            self._cut_off_oldest()
        ticket = Ticket(now, network, text, self)
        self._refused[ticket] = None
        return ticket

    def _cut_off_oldest(self) -> None:
        oldest = next(iter(self._refused))
        self._leave(oldest)
        oldest.evict()

    def _leave(self, ticket: Ticket) -> None:
        self._refused.pop(ticket, None)
        self._unidentified.pop(ticket, None)
        if ticket not in self._inside:
            return
        self._inside.discard(ticket)
        network = ticket.network
        if network is not None:
            self._of_network[network] -= 1
            if not self._of_network[network]:
                del self._of_network[network]
