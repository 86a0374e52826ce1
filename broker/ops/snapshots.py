"""What `/events` shows: the broker as it is, and what has happened since the last look.

Operation: `take`, linear in the connections. It lets others have their turn in between, so that no
message waits for it, however many connections there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

import broker
from broker.core.chronicle import Ending, Failure
from broker.core.histogram import SECONDS, quantile
from broker.core.peer import Peer
from broker.core.traffic import Edge, Traffic
from broker.ops.source import Source

__all__ = ["Snapshots"]

# A page with more would be of use to nobody.
_MOST_GROUPS: Final = 200
_MOST_OF_A_GROUP: Final = 50
_MOST_SERVICES: Final = 1_000
_MOST_EDGES: Final = 100

# Connections that are looked at before others have their turn: less than a millisecond.
_AT_A_TIME: Final = 250

_COUNTED: Final = ("messages_in", "messages_out", "bytes_in", "bytes_out", "requests", "errors")

Latencies = Sequence[int]


class _Group:
    """What is added up of a group's members."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: list[Peer] = []
        self.draining = self.slow = self.in_flight = 0
        self.messages_in = self.messages_out = 0
        self.since = 0.0


class Snapshots:
    """Takes one snapshot after the other.

    Args:
        source: what is shown.
        clock: returns the time in seconds, monotonic.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = trio.current_time) -> None:
        self._source = source
        self._clock = clock
        self._time: float | None = None
        # As they were at the last look.
        self._peers: dict[Peer, tuple[int, int]] = {}
        self._edges: dict[tuple[str, str], tuple[int, int]] = {}
        self._group_latencies: dict[str, Latencies] = {}
        self._latencies: dict[str, Latencies] = {}
        self._totals: dict[str, float] = {}
        self._busy = 0.0

    async def take(self) -> dict[str, Any]:
        """Return a snapshot, as `/events` has it."""
        source = self._source
        metrics = source.dispatcher.metrics
        now = self._clock()
        interval = 0.0 if self._time is None else now - self._time
        groups, before = await self._look_at_peers()
        totals = self._count()
        opened = source.dispatcher.requests.ledger.opened
        edges, left_out = self._compare_edges(metrics.traffic.edges(opened), interval)
        busy, self._busy = metrics.busy - self._busy, metrics.busy
        old, self._totals = self._totals, {name: totals[name] for name in _COUNTED}
        self._time = now
        rates = {
            name: _rate(totals[name] - old.get(name, totals[name]), interval) for name in _COUNTED
        }
        rates["busy"] = min(1.0, _rate(busy, interval))
        shown, groups_left_out = self._describe_groups(groups, before, edges, interval)
        return {
            "version": broker.__version__,
            "time": source.epoch + now,
            "started": source.started,
            "interval": interval,
            "ready": source.readiness.ready,
            "reasons": source.readiness.reasons,
            "metrics": metrics.enabled,
            "totals": totals,
            "rates": rates,
            "latency": {
                "requests": self._since_last("requests", metrics.requests.counts),
                "transit": self._since_last("transit", metrics.transit.counts),
            },
            "groups": shown,
            "groups_left_out": groups_left_out,
            "edges": edges[:_MOST_EDGES],
            "edges_left_out": left_out,
            "ended": [self._ending(ending) for ending in metrics.chronicle.endings],
            "errors": [self._failure(failure) for failure in metrics.chronicle.failures],
        }

    async def _look_at_peers(self) -> tuple[list[_Group], dict[Peer, tuple[int, int]]]:
        """Return the groups by name, and what their members had sent and got the time before."""
        groups: dict[str, _Group] = {}
        before, self._peers = self._peers, {}
        for number, peer in enumerate(list(self._source.dispatcher.registry), 1):
            name = peer.source.group
            group = groups.get(name)
            if group is None:
                group = groups[name] = _Group(name)
                group.since = 0.0 if peer.member is None else peer.member.since
            counts = self._peers[peer] = peer.messages_in, peer.messages_out
            old = before.get(peer, counts)
            group.peers.append(peer)
            group.draining += peer.draining
            group.slow += _why_slow(peer) is not None
            group.in_flight += len(peer.working)
            group.messages_in += counts[0] - old[0]
            group.messages_out += counts[1] - old[1]
            if number % _AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
        return sorted(groups.values(), key=lambda group: group.name), before

    def _count(self) -> dict[str, float]:
        dispatcher = self._source.dispatcher
        statistics, metrics = dispatcher.statistics(), dispatcher.metrics
        return {
            "connections": statistics.connections,
            "identified": statistics.identified,
            "groups": statistics.groups,
            "messages_in": statistics.frames_in,
            "messages_out": statistics.frames_out,
            "bytes_in": sum(metrics.bytes_in.values()),
            "bytes_out": metrics.bytes_out,
            "requests": statistics.requests,
            "requests_in_flight": statistics.requests_in_flight,
            "waiting": dispatcher.requests.waiting,
            "errors": sum(statistics.refused.values()) + sum(statistics.failed.values()),
            "ended": sum(statistics.closed.values()),
            "evictions": sum(statistics.evictions.values()),
            "stalls": statistics.congestions,
            "stalled_now": len(dispatcher.flow),
            "auth_failures": statistics.failed_authentications,
            "outboxes_bytes": statistics.outboxes_bytes,
            "faults": statistics.faults,
        }

    def _compare_edges(
        self, edges: Sequence[Edge], interval: float
    ) -> tuple[list[dict[str, Any]], int]:
        """Return the pairs, busiest first, and how many of them are too many."""
        before, self._edges = self._edges, {}
        found: list[dict[str, Any]] = []
        for edge in edges:
            pair, counts = (edge.caller, edge.callee), (edge.requests, edge.errors)
            self._edges[pair] = counts
            old = before.get(pair, counts if not before and self._time is None else (0, 0))
            found.append(
                {
                    "caller": edge.caller,
                    "callee": edge.callee,
                    "requests": _rate(counts[0] - old[0], interval),
                    "errors": _rate(counts[1] - old[1], interval),
                    "requests_total": counts[0],
                    "errors_total": counts[1],
                }
            )
        found.sort(key=lambda edge: (-edge["requests"], -edge["requests_total"]))
        return found, max(0, len(found) - _MOST_EDGES)

    def _describe_groups(
        self,
        groups: Sequence[_Group],
        before: Mapping[Peer, tuple[int, int]],
        edges: Sequence[Mapping[str, Any]],
        interval: float,
    ) -> tuple[list[dict[str, Any]], int]:
        asked: dict[str, tuple[float, float]] = {}
        for edge in edges:
            requests, errors = asked.get(edge["callee"], (0.0, 0.0))
            asked[edge["callee"]] = requests + edge["requests"], errors + edge["errors"]
        dispatcher = self._source.dispatcher
        traffic = dispatcher.metrics.traffic
        old, self._group_latencies = self._group_latencies, {}
        shown, room = [], _MOST_SERVICES
        for group in groups[:_MOST_GROUPS]:
            services = [
                self._describe_service(peer, before, interval)
                for peer in group.peers[: min(room, _MOST_OF_A_GROUP)]
            ]
            room -= len(services)
            requests, errors = asked.get(group.name, (0.0, 0.0))
            shown.append(
                {
                    "group": group.name,
                    "members": len(group.peers),
                    "draining": group.draining,
                    "slow": group.slow,
                    "in_flight": group.in_flight,
                    "waiting": dispatcher.requests.waiting_for(group.name),
                    "since": self._source.epoch + group.since,
                    "messages_in": _rate(group.messages_in, interval),
                    "messages_out": _rate(group.messages_out, interval),
                    "requests": requests,
                    "errors": errors,
                    "latency": self._group_latency(traffic, group.name, old),
                    "services": services,
                }
            )
        return shown, max(0, len(groups) - _MOST_GROUPS)

    def _describe_service(
        self, peer: Peer, before: Mapping[Peer, tuple[int, int]], interval: float
    ) -> dict[str, Any]:
        counts = self._peers.get(peer, (0, 0))
        old = before.get(peer, counts)
        member = peer.member
        return {
            "id": peer.id,
            "name": None if member is None else member.name,
            "since": self._source.epoch + (0.0 if member is None else member.since),
            "in_flight": len(peer.working),
            "concurrency": peer.concurrency,
            "draining": peer.draining,
            "slow": _why_slow(peer),
            "outbox_bytes": peer.outbox_bytes,
            "messages_in": _rate(counts[0] - old[0], interval),
            "messages_out": _rate(counts[1] - old[1], interval),
        }

    def _since_last(self, name: str, counts: Latencies) -> dict[str, float | None]:
        old = self._latencies.get(name)
        self._latencies[name] = list(counts)
        return _percentiles(counts, old)

    def _group_latency(
        self, traffic: Traffic, name: str, old: Mapping[str, Latencies]
    ) -> dict[str, float | None]:
        party = traffic.party(name)
        if party is None or party.latency is None:
            return _percentiles((), None)
        self._group_latencies[name] = list(party.latency.counts)
        return _percentiles(party.latency.counts, old.get(name))

    def _ending(self, ending: Ending) -> dict[str, Any]:
        epoch = self._source.epoch
        return {
            "time": epoch + ending.time,
            "group": ending.group,
            "name": ending.name,
            "id": ending.id,
            "reason": ending.reason,
            "message": ending.message,
            "since": None if ending.since is None else epoch + ending.since,
            "count": ending.count,
        }

    def _failure(self, failure: Failure) -> dict[str, Any]:
        return {
            "time": self._source.epoch + failure.time,
            "code": failure.code,
            "caller": failure.caller or None,
            "callee": failure.callee,
            "event": failure.event,
            "message": failure.message,
            "count": failure.count,
        }


def _why_slow(peer: Peer) -> str | None:
    if peer.congested or (peer.held and peer.outbox_bytes):
        return "unread"
    return "expiring" if peer.missed else None


def _percentiles(counts: Latencies, old: Latencies | None) -> dict[str, float | None]:
    """What the latencies since the last look were; all of them where there was none."""
    fresh = list(counts)
    if old is not None and len(old) == len(fresh):
        fresh = [now - before for now, before in zip(fresh, old, strict=True)]
    return {
        "count": sum(fresh),
        "p50": quantile(0.5, fresh, SECONDS),
        "p90": quantile(0.9, fresh, SECONDS),
        "p99": quantile(0.99, fresh, SECONDS),
    }


def _rate(count: float, interval: float) -> float:
    return round(count / interval, 3) if interval > 0 else 0.0
