"""Which member of a group is picked: the load, the turns, the keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.core.balancer import Balancer, is_full
from broker.core.calls import Call
from broker.core.peer import Peer
from broker.protocol.codec import EnvelopeSource
from broker.protocol.json_stream import frame_line, frame_lines
from tests.core.peers import make_peer


def named(name: str) -> Peer:
    peer = Peer(name, frame_line, frame_lines, "memory", 0.0)
    peer.source = EnvelopeSource(id=name, group="g")
    return peer


def group_of(*peers: Peer) -> Balancer:
    balancer = Balancer()
    for peer in peers:
        peer.balancer = balancer
        balancer.add(peer)
    return balancer


def give(balancer: Balancer, peer: Peer, number: int = 1) -> list[Call]:
    """Put requests into a member's hands."""
    calls = [Call(peer, f"{peer.id} {i}", None, 0.0, 0.0, {}, peer) for i in range(number)]
    for call in calls:
        peer.working[call] = None
    balancer.update(peer)
    return calls


def take(balancer: Balancer, peer: Peer, call: Call) -> None:
    del peer.working[call]
    balancer.update(peer)


# -- The least to do -------------------------------------------------------------------------------


def test_equals_are_picked_in_turn() -> None:
    peers = [make_peer("g") for _ in range(4)]
    balancer = group_of(*peers)
    picked = []
    for _ in range(12):
        peer = balancer.pick()
        assert peer is not None
        picked.append(peer)
        give(balancer, peer)
    assert picked == peers * 3


def test_equals_are_picked_in_turn_where_each_answers_at_once() -> None:
    """Never more than one request in flight: without turns the first would get them all."""
    peers = [make_peer("g") for _ in range(4)]
    balancer = group_of(*peers)
    picked = []
    for _ in range(12):
        peer = balancer.pick()
        assert peer is not None
        picked.append(peer)
        (call,) = give(balancer, peer)
        take(balancer, peer, call)
    assert picked == peers * 3


def test_the_one_with_the_least_to_do() -> None:
    idle, busy, busiest = peers = [make_peer("g") for _ in range(3)]
    balancer = group_of(*peers)
    give(balancer, busy, 3)
    give(balancer, busiest, 5)
    for expected in [idle] * 3 + [busy, idle, busy, idle]:
        peer = balancer.pick()
        assert peer is expected
        give(balancer, expected)
    assert [len(peer.working) for peer in peers] == [5, 5, 5]


def test_what_a_member_missed_counts_as_its_load() -> None:
    frozen, lively = group_members = [make_peer("g"), make_peer("g")]
    balancer = group_of(*group_members)
    frozen.missed = 2
    balancer.update(frozen)
    for _ in range(2):
        assert balancer.pick() is lively
        give(balancer, lively)
    assert balancer.pick() is frozen


def test_no_member_takes_more_than_its_concurrency() -> None:
    small, large = make_peer("g"), make_peer("g")
    small.concurrency, large.concurrency = 1, 3
    balancer = group_of(small, large)
    picked = []
    while (peer := balancer.pick()) is not None:
        picked.append(peer)
        give(balancer, peer)
    assert Counter(picked) == {small: 1, large: 3}
    assert is_full(small)
    assert is_full(large)
    take(balancer, small, next(iter(small.working)))
    assert balancer.pick() is small


def test_nobody_in_an_empty_group() -> None:
    balancer = Balancer()
    assert len(balancer) == 0
    assert balancer.pick() is None


def test_one_that_is_passed_over() -> None:
    """Whoever wants no copies of its own, however little it has to do."""
    me, other = make_peer("g"), make_peer("g")
    balancer = group_of(me, other)
    give(balancer, other, 10)
    assert balancer.pick(but=me) is other
    assert balancer.pick() is me
    other.concurrency = 10
    balancer.update(other)
    assert balancer.pick(but=me) is None
    assert balancer.in_turn(but=me) is other
    assert balancer.pick_by_key("any", but=me) is other


class CountingRows(dict[int, dict[Peer, None]]):
    """Counts how often somebody looks."""

    looks = 0

    def get(self, key: int, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def __getitem__(self, key: int) -> dict[Peer, None]:
        self.looks += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)


def test_how_far_the_loads_lie_apart_costs_nothing() -> None:
    """Passing over an idle member does not mean to count up to the load of the next one."""
    me, other = make_peer("g"), make_peer("g")
    balancer = group_of(me, other)
    give(balancer, other, 10_000)
    balancer._rows = rows = CountingRows(balancer._rows)
    assert balancer.pick(but=me) is other
    assert rows.looks < 10


def test_an_event_goes_in_turn_even_where_all_are_busy() -> None:
    peers = [make_peer("g") for _ in range(3)]
    for peer in peers:
        peer.concurrency = 1
    balancer = group_of(*peers)
    for peer in peers:
        give(balancer, peer)
    assert balancer.pick() is None
    assert Counter(balancer.in_turn() for _ in range(9)) == dict.fromkeys(peers, 3)


def test_an_event_goes_to_a_free_member_if_there_is_one() -> None:
    busy, free = make_peer("g"), make_peer("g")
    busy.concurrency = free.concurrency = 1
    balancer = group_of(busy, free)
    give(balancer, busy)
    assert [balancer.in_turn() for _ in range(3)] == [free] * 3


@given(st.data())
def test_the_pick_is_always_one_of_the_least_loaded(data: st.DataObject) -> None:
    """Whatever happens to the members; held against a search through all of them."""
    balancer = Balancer()
    members: list[Peer] = []
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["join", "leave", "give", "take", "miss", "forgive"]))
        if step == "join" or not members:
            peer = make_peer("g")
            peer.concurrency = data.draw(st.sampled_from([None, 1, 3]))
            members.append(peer)
            balancer.add(peer)
            continue
        peer = data.draw(st.sampled_from(members))
        if step == "leave":
            members.remove(peer)
            balancer.remove(peer)
        elif step == "give":
            give(balancer, peer, data.draw(st.integers(1, 5)))
        elif step == "take" and peer.working:
            take(balancer, peer, next(iter(peer.working)))
        elif step in {"miss", "forgive"}:
            peer.missed = peer.missed + 1 if step == "miss" else 0
            balancer.update(peer)
        for but in [None, *members]:
            free = [one for one in members if one is not but and not is_full(one)]
            picked = balancer.pick(but)
            if picked is None:
                assert not free
            else:
                assert picked in free
                least = min(len(one.working) + one.missed for one in free)
                assert len(picked.working) + picked.missed == least
    assert len(balancer) == len(members)


# -- Keys ------------------------------------------------------------------------------------------

keys = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=50, unique=True)
names = st.lists(st.uuids().map(str), min_size=1, max_size=8, unique=True)


def owners(balancer: Balancer, asked: list[str]) -> dict[str, str]:
    return {key: balancer.pick_by_key(key).id for key in asked}


@given(names, keys)
def test_a_key_stays_while_the_membership_holds(ids: list[str], asked: list[str]) -> None:
    balancer = group_of(*map(named, ids))
    assert owners(balancer, asked) == owners(balancer, asked)
    # Neither the load of the members nor the order in which they came says where a key belongs.
    other = group_of(*map(named, reversed(ids)))
    give(other, next(iter(other._members)), 5)
    assert owners(other, asked[::-1]) == owners(balancer, asked)


@given(names, keys, st.data())
def test_only_the_keys_of_the_one_that_left_move(
    ids: list[str], asked: list[str], data: st.DataObject
) -> None:
    peers = [named(id) for id in ids]
    balancer = group_of(*peers)
    before = owners(balancer, asked)
    while len(peers) > 1:
        gone = data.draw(st.sampled_from(peers))
        peers.remove(gone)
        balancer.remove(gone)
        after = owners(balancer, asked)
        for key in asked:
            assert after[key] != gone.id
            assert after[key] == before[key] or before[key] == gone.id
        before = after


@given(names, keys)
def test_only_the_keys_that_a_new_one_takes_over_move(ids: list[str], asked: list[str]) -> None:
    balancer = group_of(named(ids[0]))
    before = owners(balancer, asked)
    for id in ids[1:]:
        balancer.add(named(id))
        after = owners(balancer, asked)
        for key in asked:
            assert after[key] in {before[key], id}
        before = after


@given(names, keys, st.data())
def test_passing_over_one_moves_only_its_keys(
    ids: list[str], asked: list[str], data: st.DataObject
) -> None:
    peers = [named(id) for id in ids]
    balancer = group_of(*peers)
    if len(peers) > 1:
        but = data.draw(st.sampled_from(peers))
        for key, owner in owners(balancer, asked).items():
            other = balancer.pick_by_key(key, but).id
            assert other != but.id
            assert other == owner or owner == but.id


def test_keys_are_spread_evenly() -> None:
    peers = [named(f"00000000-0000-4000-8000-00000000000{number}") for number in range(4)]
    balancer = group_of(*peers)
    counts = Counter(balancer.pick_by_key(f"user {number}") for number in range(8_000))
    # A binomial's deviation is 39 here; the ids and keys are fixed, so this never varies.
    assert all(abs(counts[peer] - 2_000) < 160 for peer in peers)


def test_forgetting_keys_changes_nothing() -> None:
    """Far more keys than are remembered."""
    balancer = group_of(*(named(f"{number:036}") for number in range(3)))
    asked = [f"key {number}" for number in range(40_000)]
    assert owners(balancer, asked) == owners(balancer, asked)
    assert len(balancer._by_key) <= 16_384
