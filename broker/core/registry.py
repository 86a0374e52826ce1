"""The identified peers, by id and by group.

Operations: `add` and `remove` (constant time), look-up by id, the members of a group, all peers.
Each keeps the order in which the peers came.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from broker.core.peer import Peer

__all__ = ["Registry"]

_NOBODY: Final[MappingProxyType[str, Peer]] = MappingProxyType({})


class Registry:
    """Who is connected.

    Attributes:
        by_id: every identified peer. Read it freely; only the registry changes it.
        groups: the members of each group by their ids. No group is ever empty.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, Peer] = {}
        self.groups: dict[str, dict[str, Peer]] = {}

    def add(self, peer: Peer) -> None:
        """Enter an identified peer under its id and its group."""
        self.by_id[peer.id] = peer
        self.groups.setdefault(peer.source.group, {})[peer.id] = peer

    def remove(self, peer: Peer) -> None:
        """Take a peer out. One that is not in is left alone."""
        if self.by_id.pop(peer.id, None) is None:
            return
        members = self.groups[peer.source.group]
        del members[peer.id]
        if not members:
            del self.groups[peer.source.group]

    def members(self, group: str) -> MappingProxyType[str, Peer]:
        """The members of a group; nobody where there is no such group."""
        members = self.groups.get(group)
        return _NOBODY if members is None else MappingProxyType(members)

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.by_id.values())
