"""Which requests have ended lately, so that a second ending is known for what it is.

Operations: `answered.add`, `forget_answered`, `add_unanswered`, `in`; all constant time. Memory is
bounded: each kind of id is kept in two sets that take turns. When the younger one has its share,
the older one is forgotten.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MOST_ANSWERED", "EndedRequests"]

# A second answer to a request comes, if at all, close behind the first one.
MOST_ANSWERED: Final = 128

# An answer to a request that expired or was given up can come at any later time. Someone who has
# given up this many since will not be surprised by it.
_MOST_UNANSWERED: Final = 4096


class EndedRequests:
    """The ids of one connection's requests that ended last.

    Attributes:
        answered: where the ledger, for the sake of speed, itself enters requests that ended with an
            answer. It calls `forget_answered` when there are more than `MOST_ANSWERED`.
    """

    __slots__ = ("_older_answered", "_older_unanswered", "_unanswered", "answered")

    def __init__(self) -> None:
        self.answered: set[str] = set()
        self._older_answered: set[str] = set()
        self._unanswered: set[str] = set()
        self._older_unanswered: set[str] = set()

    def forget_answered(self) -> None:
        """Make room in `answered`."""
        self._older_answered = self.answered
        self.answered = set()

    def add_unanswered(self, id: str) -> None:
        """Remember a request that ended without an answer, or not with all."""
        self._unanswered.add(id)
        if len(self._unanswered) > _MOST_UNANSWERED:
            self._older_unanswered = self._unanswered
            self._unanswered = set()

    def __contains__(self, id: object) -> bool:
        return (
            id in self.answered
            or id in self._unanswered
            or id in self._older_answered
            or id in self._older_unanswered
        )
