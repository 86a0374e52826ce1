"""Who asks whom: requests and errors, from group to group.

Operations: `join`, `leave`, `turn`, `add`, `failed` (constant time, but for making room once a
group has left), `edges` and `by_label` (linear in the pairs).

The names of groups are the clients'. So the pairs are bounded, and so are the names that a metrics
system ever gets to see: those that come too late for that are "(other)".

Requests are not counted one by one: the ledger numbers them, and between two requests of different
pairs there is only one pair that they can belong to.
"""

from __future__ import annotations

from typing import Final

from broker.core.histogram import SECONDS, Histogram

__all__ = ["MOST_LABELS", "MOST_PAIRS", "OTHER", "Edge", "Party", "Traffic"]

OTHER: Final = "(other)"
"""Stands for the groups and the pairs that there is no room for. A group may well be called that;
its counts are then among these."""

MOST_PAIRS: Final = 1_024
"""Pairs of groups that are counted by themselves."""

MOST_LABELS: Final = 32
"""Names of groups that are shown to a metrics system, for as long as the broker runs."""


class Party:
    """A group, as somebody who asks and is asked.

    Attributes:
        name: the group's.
        label: what it is called where the names have to be bounded for good.
        members: how many connections there are of it now.
        latency: how long its answers took, in seconds, once it has given one that was timed.
    """

    __slots__ = ("label", "latency", "members", "name")

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.label = label
        self.members = 0
        self.latency: Histogram | None = None

    def answered(self, took: float, weight: int) -> None:
        """Record how long an answer took, in seconds."""
        if self.latency is None:
            self.latency = Histogram(SECONDS)
        self.latency.record(took, weight)


class Edge:
    """The requests from one group to another.

    Attributes:
        caller: the name of the group that asks.
        callee: the name of the group that is asked.
        labels: both, as they are called where the names have to be bounded for good.
        requests: that were handed to the callee.
        errors: of these, those that ended with an error, the broker's or the callee's.
    """

    __slots__ = ("callee", "caller", "errors", "labels", "requests")

    def __init__(self, caller: Party, callee: Party) -> None:
        self.caller = caller.name
        self.callee = callee.name
        self.labels = caller.label, callee.label
        self.requests = 0
        self.errors = 0


class Traffic:
    """The requests of the whole mesh, by pairs of groups."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._parties: dict[str, Party] = {}
        self._labels: set[str] = set()
        self._edges: dict[tuple[str, str], Edge] = {}
        other = Party(OTHER, OTHER)
        self._other = Edge(other, other)
        # What went by pairs that are not counted by themselves any more, by their labels.
        self._retired: dict[tuple[str, str], tuple[int, int]] = {}
        self._current: Edge | None = None
        self._begun = 0
        # Somebody has left since room was last made: there may be some again.
        self._emptied = False

    def party(self, group: str) -> Party | None:
        """Return a group that has members now."""
        return self._parties.get(group)

    def join(self, group: str) -> Party | None:
        """Count a member in; return its group, or None where nothing is measured."""
        if not self._enabled:
            return None
        party = self._parties.get(group)
        if party is None:
            party = self._parties[group] = Party(group, self._label(group))
        party.members += 1
        return party

    def leave(self, party: Party) -> None:
        """Count a member out."""
        party.members -= 1
        if not party.members:
            self._parties.pop(party.name, None)
            self._emptied = True

    def turn(self, caller: Party | None, callee: Party | None, opened: int) -> None:
        """Note that the requests from here on are another pair's.

        Args:
            caller: who asks; None where that is not to be counted.
            callee: who is asked.
            opened: how many requests there have been before.
        """
        if self._current is not None:
            self._current.requests += opened - self._begun
        self._begun = opened
        self._current = None if caller is None or callee is None else self._edge(caller, callee)

    def add(self, caller: Party | None, callee: Party | None) -> None:
        """Count a request that was handed to a callee in another way."""
        if caller is not None and callee is not None:
            self._edge(caller, callee).requests += 1

    def failed(self, caller: Party | None, callee: Party | None) -> None:
        """Count a request that ended with an error."""
        if caller is not None and callee is not None:
            self._edge(caller, callee).errors += 1

    def edges(self, opened: int) -> list[Edge]:
        """Return all pairs.

        Args:
            opened: how many requests there have been.
        """
        if self._current is not None:
            self._current.requests += opened - self._begun
            self._begun = opened
        other = [self._other] if self._other.requests or self._other.errors else []
        return [*self._edges.values(), *other]

    def by_label(self, opened: int) -> dict[tuple[str, str], tuple[int, int]]:
        """Return requests and errors by the labels of caller and callee. They never fall."""
        found = dict(self._retired)
        for edge in self.edges(opened):
            _count(found, edge)
        return found

    def _label(self, group: str) -> str:
        if group not in self._labels and len(self._labels) < MOST_LABELS:
            self._labels.add(group)
        return group if group in self._labels else OTHER

    def _edge(self, caller: Party, callee: Party) -> Edge:
        pair = caller.name, callee.name
        edge = self._edges.get(pair)
        if edge is None:
            if len(self._edges) >= MOST_PAIRS and self._emptied:
                self._make_room()
            if len(self._edges) >= MOST_PAIRS:
                return self._other
            edge = self._edges[pair] = Edge(caller, callee)
        return edge

    def _make_room(self) -> None:
        """Let go of the pairs of which one side has left."""
        self._emptied = False
        for pair, edge in list(self._edges.items()):
            here = edge.caller in self._parties and edge.callee in self._parties
            if not here and edge is not self._current:
                del self._edges[pair]
                _count(self._retired, edge)


def _count(found: dict[tuple[str, str], tuple[int, int]], edge: Edge) -> None:
    requests, errors = found.get(edge.labels, (0, 0))
    found[edge.labels] = requests + edge.requests, errors + edge.errors
