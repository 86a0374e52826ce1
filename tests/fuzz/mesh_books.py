"""What must hold between any two steps of the broker, whatever has happened: the books balance."""

from __future__ import annotations

from collections.abc import Iterable

from broker.core.peer import Peer, PeerState
from broker.transport.poller import WRITABLE
from tests.core.ledger_books import check_ledger
from tests.fuzz.mesh_world import MeshWorld

__all__ = ["check_books", "check_empty"]

# As in broker/core/backlog.py: what a piece takes beside its bytes.
_PIECE = 64
_PLACE = 16


def check_books(world: MeshWorld) -> None:
    """Compare all that is written down twice."""
    connections = list(world.reactor._connections.values())
    peers = [connection.peer for connection in connections]
    alive = {peer for peer in peers if peer.state is not PeerState.CLOSED}
    members = {peer for peer in alive if peer.state is PeerState.IDENTIFIED}
    assert world.dispatcher._peers == alive
    assert set(world.dispatcher.registry) == members
    groups = {name: set(group) for name, group in world.dispatcher.registry.groups.items()}
    assert groups == {
        group: {peer.id for peer in members if peer.source.group == group}
        for group in {peer.source.group for peer in members}
    }
    assert world.dispatcher.counters.faults == 0
    check_ledger(world.dispatcher.requests, members)
    _check_outboxes(world, peers)
    _check_stalls(world, alive)
    for connection in connections:
        waits = bool(connection.watched & WRITABLE)
        assert waits == bool(connection.peer.outbox), "an outbox that nobody will write"
        assert world.poller.watched[connection.fd] == connection.watched


def _check_outboxes(world: MeshWorld, peers: Iterable[Peer]) -> None:
    backlog = world.dispatcher.effects.backlog
    shared: dict[int, int] = {}
    counted = 0
    for peer in peers:
        size = sum(map(len, peer.outbox))
        assert peer.outbox_bytes == size - peer.partial
        assert 0 <= peer.partial < len(peer.outbox[0]) if peer.outbox else not peer.partial
        assert peer.held == bool(peer.outbox)
        assert 0 <= peer.urgent <= len(peer.outbox)
        pieces = [piece for piece in peer.outbox if type(piece) is not bytes]
        discount = sum(len(piece) + _PIECE - _PLACE for piece in pieces)
        assert peer.discount == discount
        counted += peer.counted
        shared |= {id(piece): len(piece) for piece in pieces}
        assert peer.counted == (size + _PIECE * len(peer.outbox) - discount if peer.held else 0)
        if peer.state is not PeerState.CLOSED:
            assert peer.outbox_bytes <= world.dispatcher.effects.limit
    assert backlog.bytes == counted + sum(shared.values())
    # What those who have been told to go are told is written after the budget was looked at.
    leaving = sum(peer.counted for peer in peers if peer.state is PeerState.CLOSED)
    assert backlog.bytes - leaving <= backlog.budget
    assert len(backlog) == sum(peer.held for peer in peers)


def _check_stalls(world: MeshWorld, alive: set[Peer]) -> None:
    senders = world.dispatcher.flow._senders
    assert senders.keys() == {peer for peer in alive if peer.congested}
    for peer in alive:
        assert peer.stalls == sum(peer in stalled for stalled in senders.values())


def check_empty(world: MeshWorld) -> None:
    """Nothing is left of anybody when all have gone."""
    dispatcher = world.dispatcher
    check_books(world)
    assert len(world.reactor) == 0
    assert not world.reactor._by_peer
    assert not dispatcher._peers
    assert not len(dispatcher.registry)
    assert not dispatcher.registry.groups
    assert not len(dispatcher.requests.ledger)
    assert not dispatcher.requests.waiting_bytes
    assert not dispatcher.requests._balancers
    assert not dispatcher.flow._senders
    assert not dispatcher.effects.backlog.bytes
    assert not dispatcher._service._watchers
    statistics = dispatcher.statistics()
    assert statistics.opened == sum(statistics.closed.values())
