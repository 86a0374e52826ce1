"""The identified peers, by id and by group, against plain lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.core.peer import Peer
from broker.core.registry import Registry
from tests.core.peers import make_peer

GROUPS = ("red", "green", "blue")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from(GROUPS)),
            st.tuples(st.just("remove"), st.integers(0, 30)),
        )
    )
)
def test_who_comes_and_goes(steps: list[tuple[str, str | int]]) -> None:
    registry, there, ever = Registry(), [], []
    for what, which in steps:
        if what == "add":
            peer = make_peer(str(which))
            registry.add(peer)
            there.append(peer)
            ever.append(peer)
        elif ever:
            peer = ever[int(which) % len(ever)]
            registry.remove(peer)  # One that has gone already is left alone.
            there = [other for other in there if other is not peer]

        # Each view keeps the order in which they came.
        assert list(registry) == there
        assert len(registry) == len(there)
        assert registry.by_id == {peer.id: peer for peer in there}
        for group in GROUPS:
            members = [peer for peer in there if peer.source.group == group]
            assert list(registry.members(group).values()) == members
            assert (group in registry.groups) == bool(members)


def test_nobody_is_in_a_group_that_is_not_there() -> None:
    registry = Registry()

    assert dict(registry.members("red")) == {}
    assert not registry.groups


def test_a_view_of_the_members_stays_up_to_date() -> None:
    registry = Registry()
    peers: list[Peer] = [make_peer("red") for _ in range(3)]
    for peer in peers:
        registry.add(peer)
    members = registry.members("red")
    registry.remove(peers[1])

    assert list(members.values()) == [peers[0], peers[2]]
