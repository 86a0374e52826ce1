"""One of a group: the member with the least to do.

Operations: `add`, `remove`, `update`, `pick` (all constant time, whatever the size of the group),
`pick_by_key` (linear in the group the first time a key is seen, then constant while the membership
holds).

Members stand in rows by their load: the requests in flight, and those that expired since the
member last answered anything. So a frozen member looks loaded rather than idle, and does not
swallow one request after the other until its heartbeat fails. `pick` takes the first of the lowest
row; a member whose load changes goes to the end of its new row, so that equals are picked in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Final

from broker.core.calls import Call
from broker.core.peer import Peer

__all__ = ["Balancer", "is_full"]

# Keys whose members are remembered, for each group: some ten thousand users, carts or documents
# that are active at a time. A key that is forgotten is found again, to the same member.
_KEYS: Final = 16_384


class Balancer:
    """The members of one group.

    Attributes:
        waiting: requests that wait for any member to be free, oldest first, each with its number in
            the order of asking.
        waiting_for: requests that wait for one certain member, likewise.
    """

    def __init__(self) -> None:
        self.waiting: dict[Call, int] = {}
        self.waiting_for: dict[Peer, dict[Call, int]] = {}
        self._members: dict[Peer, None] = {}
        self._rows: dict[int, dict[Peer, None]] = {}
        self._row_of: dict[Peer, int] = {}
        self._lowest = 0
        self._by_key: dict[str, Peer] = {}

    def __len__(self) -> int:
        return len(self._members)

    def add(self, peer: Peer) -> None:
        """Enter a member."""
        self._members[peer] = None
        self._by_key.clear()
        self.update(peer)

    def remove(self, peer: Peer) -> None:
        """Take a member out."""
        del self._members[peer]
        self._by_key = {key: member for key, member in self._by_key.items() if member is not peer}
        self._leave_row(peer)

    @property
    def sole_member(self) -> Peer | None:
        """The only member, if there is just one."""
        return next(iter(self._members)) if len(self._members) == 1 else None

    def update(self, peer: Peer) -> None:
        """Note that a member's load has changed, or that it has just been picked."""
        # Twice a request, so without a call to `_leave_row` and `is_full`.
        rows = self._rows
        before = self._row_of.pop(peer, None)
        if before is not None:
            row = rows[before]
            del row[peer]
            if not row:
                del rows[before]
        load = len(peer.working)
        if peer.concurrency is not None and load >= peer.concurrency:
            return
        load += peer.missed
        if load in rows:
            rows[load][peer] = None
        else:
            rows[load] = {peer: None}
        self._row_of[peer] = load
        if load < self._lowest or len(self._row_of) == 1:
            self._lowest = load

    def pick(self, but: Peer | None = None) -> Peer | None:
        """Return the member with the least to do that can take a request now.

        Args:
            but: a member to pass over.

        Returns:
            None where every member is at its concurrency.
        """
        if but is None and self._lowest in self._rows:
            return next(iter(self._rows[self._lowest]))
        for peer in self._by_load():
            if peer is not but:
                return peer
        return None

    def pick_by_key(self, key: str, but: Peer | None = None) -> Peer:
        """Return the member that a key belongs to, by rendezvous hashing.

        Each member has a weight for each key, and the heaviest has the key: so when a member
        leaves, only its own keys move, and when one comes, only those that it takes over do
        (Thaler and Ravishankar, 1998).
        """
        if but is not None:
            return max((peer for peer in self._members if peer is not but), key=_weigher(key))
        peer = self._by_key.get(key)
        if peer is None:
            if len(self._by_key) >= _KEYS:
                self._by_key.clear()
            peer = self._by_key[key] = max(self._members, key=_weigher(key))
        return peer

    def in_turn(self, but: Peer | None = None) -> Peer:
        """Return any member, for a frame that nobody answers: a free one if there is one."""
        peer = self.pick(but)
        if peer is None:
            peer = next(member for member in self._members if member is not but)
            del self._members[peer]
            self._members[peer] = None
        else:
            self.update(peer)
        return peer

    def queue_for(self, peer: Peer | None) -> dict[Call, int]:
        """Return where a request waits: for a certain member, or for any."""
        return self.waiting if peer is None else self.waiting_for.setdefault(peer, {})

    def taken_over_by(self, peer: Peer) -> list[Call]:
        """Return the requests that wait for others, though their keys are a new member's now."""
        return [
            call
            for owner, queue in self.waiting_for.items()
            for call in queue
            if call.waiting is not None
            and call.waiting.intent is not None
            and max(owner, peer, key=_weigher(call.waiting.intent.key or "")) is peer
        ]

    def next_for(self, peer: Peer) -> Call | None:
        """Return the request that a member with room should take next."""
        if is_full(peer):
            return None
        own = next(iter(self.waiting_for.get(peer, {}).items()), None)
        for call, number in self.waiting.items():
            if peer.echo or call.requester is not peer:
                return call if own is None or number < own[1] else own[0]
        return None if own is None else own[0]

    def _by_load(self) -> Iterator[Peer]:
        if not self._row_of:
            return
        while self._lowest not in self._rows:
            self._lowest += 1
        yield from self._rows[self._lowest]
        for row in sorted(self._rows)[1:]:
            yield from self._rows[row]

    def _leave_row(self, peer: Peer) -> None:
        load = self._row_of.pop(peer, None)
        if load is not None:
            row = self._rows[load]
            del row[peer]
            if not row:
                del self._rows[load]


def is_full(peer: Peer) -> bool:
    """Whether a member has as many requests in hand as it said it would take."""
    return peer.concurrency is not None and len(peer.working) >= peer.concurrency


def _weigher(key: str) -> Callable[[Peer], bytes]:
    start = blake2b(key.encode(), digest_size=8)

    def weigh(peer: Peer) -> bytes:
        weight = start.copy()
        weight.update(peer.id.encode())
        return weight.digest()

    return weigh
