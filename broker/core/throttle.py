"""Failed authentications, by address: whoever fails too often is not listened to for a while.

Operations: `blocked_for`, `failed`; constant time. A success changes nothing: who has one good
token could otherwise go on guessing others with it in between. What is known of an address is
forgotten a minute after its first failure, or after it was turned away for a minute.

Memory is bounded by forgetting the addresses that failed least lately. So whoever has more networks
than that at hand is not held up here; but guessing is not how a token of 256 bits is found.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

__all__ = ["FailureThrottle"]

T = TypeVar("T")

# In seconds.
_MINUTE: Final = 60.0

# Networks that are remembered, of each kind: some megabytes at the most.
_NETWORKS: Final = 16_384


class FailureThrottle:
    """Counts the failures of each network.

    Args:
        most: failures in a minute; 0 for any number.

    Attributes:
        most: the same.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        # The beginning of the minute, and the failures since.
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()

    def blocked_for(self, network: str, now: float) -> float:
        """Return for how many seconds a network is not to be listened to; 0 if it is.

        Args:
            network: whose.
            now: seconds, monotonic.
        """
        until = self._blocked.get(network)
        if until is None:
            return 0.0
        if until <= now or not self.most:
            del self._blocked[network]
            return 0.0
        return until - now

    def failed(self, network: str, now: float) -> bool:
        """Enter a failure; return whether it was one too many."""
        if not self.most:
            return False
        begin, count = self._counts.pop(network, (now, 0))
        if now - begin >= _MINUTE:
            begin, count = now, 0
        if count + 1 < self.most:
            _keep(self._counts, network, (begin, count + 1))
            return False
        _keep(self._blocked, network, now + _MINUTE)
        return True

    def __len__(self) -> int:
        return len(self._counts) + len(self._blocked)


def _keep(entries: OrderedDict[str, T], network: str, value: T) -> None:
    """Enter what is known of a network, and forget the one that was entered least lately."""
    entries[network] = value
    entries.move_to_end(network)
    if len(entries) > _NETWORKS:
        entries.popitem(last=False)
