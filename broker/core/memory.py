"""Which requests have ended lately, so that a second ending is known for what it is.

Operations: `add_answered`, `add_unanswered`, `in`, all constant time. Memory is bounded: each kind
of id is kept in two sets that take turns. When the younger is full, the older is forgotten.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EndedRequests"]

# A second answer to a request comes, if at all, close behind the first one.
_ANSWERED: Final = 128

# An answer to a request that expired or was given up can come at any later time. Someone who has
# given up this many since will not be surprised by it.
_UNANSWERED: Final = 4096


class EndedRequests:
    """The ids of one connection's requests that ended last."""

    __slots__ = ("_answered", "_older_answered", "_older_unanswered", "_unanswered")

    def __init__(self) -> None:
        self._answered: set[str] = set()
        self._older_answered: set[str] = set()
        self._unanswered: set[str] = set()
        self._older_unanswered: set[str] = set()

    def add_answered(self, id: str) -> None:
        """Remember a request that ended with an answer."""
        answered = self._answered
        answered.add(id)
        if len(answered) > _ANSWERED:
            self._older_answered = answered
            self._answered = set()

    def add_unanswered(self, id: str) -> None:
        """Remember a request that ended without one, or not with all."""
        self._unanswered.add(id)
        if len(self._unanswered) > _UNANSWERED:
            self._older_unanswered = self._unanswered
            self._unanswered = set()

    def __contains__(self, id: object) -> bool:
        return (
            id in self._answered
            or id in self._unanswered
            or id in self._older_answered
            or id in self._older_unanswered
        )
