"""A connection's states, and its outbox."""

from __future__ import annotations

import itertools

import pytest

from broker.core.peer import Effects, PeerState
from broker.protocol.errors import LocalProtocolError
from tests.core.peers import make_peer

OPENING, IDENTIFIED, CLOSED = PeerState.OPENING, PeerState.IDENTIFIED, PeerState.CLOSED
TRANSITIONS = {(OPENING, IDENTIFIED), (OPENING, CLOSED), (IDENTIFIED, CLOSED)}


@pytest.mark.parametrize(("old", "new"), [*itertools.product(PeerState, PeerState)])
def test_what_stands_in_no_table_is_an_error(old: PeerState, new: PeerState) -> None:
    peer = make_peer()
    peer.state = old
    if (old, new) in TRANSITIONS:
        peer.enter(new)
        assert peer.state is new
    else:
        text = f"a peer cannot go from {old.value} to {new.value}"
        with pytest.raises(LocalProtocolError, match=f"^{text}$"):
            peer.enter(new)
        assert peer.state is old


def test_a_new_peer_is_of_no_group() -> None:
    peer = make_peer()

    assert peer.state is OPENING
    assert (peer.source.id, peer.source.group) == (peer.id, "")
    assert peer.member is None


def test_sending_fills_the_outbox_and_asks_for_a_flush_once() -> None:
    effects, peer, other = Effects(limit=100), make_peer(), make_peer()
    effects.send(peer, b"one")
    effects.send(other, b"two")
    effects.send(peer, b"three")

    assert peer.outbox == [b"one", b"three"]
    assert peer.outbox_bytes == 8
    assert effects.to_flush == [peer, other]
    assert not effects.overfull


def test_one_byte_too_many() -> None:
    effects, peer, other = Effects(limit=10), make_peer(), make_peer()
    effects.send(peer, b"12345")
    effects.send(peer, b"67890")
    assert not effects.overfull
    effects.send(other, b"12345678901")
    effects.send(peer, b"1")
    effects.send(peer, b"2")
    assert list(effects.overfull) == [other, peer]


def test_peers_are_told_apart_by_what_they_are() -> None:
    first, second = make_peer(), make_peer()
    second.id = first.id

    assert first != second
    assert len({first, second}) == 2
