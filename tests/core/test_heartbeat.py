"""Who is pinged and who has expired, as tables over time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.deadlines import Alarm
from broker.core.heartbeat import Heartbeat
from tests.core.peers import make_peer

PING, EXPIRED = False, True


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        # With a ping of 10 seconds, watched from 0 on. Times of frames; then what happens when.
        ([], [(10, PING), (20, EXPIRED)]),
        ([4], [(14, PING), (24, EXPIRED)]),
        ([9.9], [(19.9, PING), (29.9, EXPIRED)]),
        ([4, 8, 12, 16], [(26, PING), (36, EXPIRED)]),
        # An answer to the ping: the next one comes ten seconds after it.
        ([10.5], [(10, PING), (20.5, PING), (30.5, EXPIRED)]),
        ([19.9], [(10, PING), (29.9, PING), (39.9, EXPIRED)]),
        ([10.5, 25], [(10, PING), (20.5, PING), (35, PING), (45, EXPIRED)]),
        # At the very moment of the ping, and at the very moment of the end.
        ([10], [(20, PING), (30, EXPIRED)]),
        ([11, 21], [(10, PING), (31, PING), (41, EXPIRED)]),
    ],
)
def test_a_life(heard: list[float], expected: list[tuple[float, bool]]) -> None:
    heartbeat, peer = Heartbeat(10.0, Alarm()), make_peer()
    heartbeat.watch(peer)
    happened = []
    for hundredths in range(6000):
        now = hundredths / 100
        if heard and now >= heard[0]:
            peer.last_heard = heard.pop(0)
        happened += [(now, expired) for _, expired in heartbeat.tick(now)]

    assert [expired for _, expired in happened] == [expired for _, expired in expected]
    for (now, _), (when, _) in zip(happened, expected, strict=True):
        # Each can be late by a hundredth, and what follows from it too.
        assert when <= now <= when + 0.05


def test_everyone_on_their_own() -> None:
    heartbeat = Heartbeat(10.0, Alarm())
    peers = [make_peer(last_heard=float(second)) for second in range(5)]
    for peer in peers:
        heartbeat.watch(peer)
    happened = [
        (peers.index(peer), expired)
        for second in range(40)
        for peer, expired in heartbeat.tick(second + 0.5)
    ]

    assert happened == [(number, PING) for number in range(5)] + [
        (number, EXPIRED) for number in range(5)
    ]


def test_a_peer_that_is_forgotten() -> None:
    heartbeat, peer = Heartbeat(10.0, Alarm()), make_peer()
    heartbeat.watch(peer)
    assert [expired for _, expired in heartbeat.tick(10.5)] == [PING]
    heartbeat.forget(peer)
    heartbeat.forget(peer)
    assert list(heartbeat.tick(100.0)) == []


def test_one_that_has_expired_is_forgotten() -> None:
    heartbeat, peer = Heartbeat(10.0, Alarm()), make_peer()
    heartbeat.watch(peer)
    for now in (10.5, 21.0):
        list(heartbeat.tick(now))
    assert heartbeat._pinged == {}
    assert list(heartbeat.tick(1000.0)) == []


def test_one_that_takes_what_waits_for_it_is_given_time() -> None:
    """The PING is on its way behind what its connection holds already."""
    heartbeat, peer = Heartbeat(10.0, Alarm()), make_peer()
    heartbeat.watch(peer)
    assert [expired for _, expired in heartbeat.tick(10.5)] == [PING]
    for now in (21.0, 31.5, 42.0):
        peer.taken += 1
        assert list(heartbeat.tick(now)) == []
    # Since it has stopped to take anything, it has had the whole time again.
    assert [expired for _, expired in heartbeat.tick(52.5)] == [EXPIRED]


def test_one_that_took_something_and_then_answers_is_pinged_anew() -> None:
    heartbeat, peer = Heartbeat(10.0, Alarm()), make_peer()
    heartbeat.watch(peer)
    assert [expired for _, expired in heartbeat.tick(10.5)] == [PING]
    peer.taken += 1
    assert list(heartbeat.tick(21.0)) == []
    peer.last_heard = 22.0
    assert list(heartbeat.tick(31.5)) == []
    assert [expired for _, expired in heartbeat.tick(32.5)] == [PING]
    assert [expired for _, expired in heartbeat.tick(43.0)] == [EXPIRED]


def test_a_ping_may_lead_to_another_being_forgotten() -> None:
    heartbeat = Heartbeat(10.0, Alarm())
    first, second = make_peer(), make_peer()
    heartbeat.watch(first)
    heartbeat.watch(second)
    happened = []
    for peer, _ in heartbeat.tick(10.5):
        happened.append(peer)
        heartbeat.forget(second)
    assert happened == [first]


@given(
    start=st.integers(0, 100_000).map(lambda hundredths: hundredths * 0.01),
    ping=st.integers(100, 60_000).map(lambda ms: ms / 1000),
)
def test_on_a_virtual_clock(start: float, ping: float) -> None:
    """Such a clock goes to the very float that was named, and each look has to come to an end."""
    alarm = Alarm()
    heartbeat, peer = Heartbeat(ping, alarm), make_peer(last_heard=start)
    heartbeat.watch(peer)
    happened = []
    for _ in range(2):
        happened += [what for _, what in itertools.islice(heartbeat.tick(heartbeat.next), 10)]
    assert happened == [PING, EXPIRED]
