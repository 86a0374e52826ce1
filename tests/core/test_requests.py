"""Requests on a clock that stands still: who is asked, who waits, how and when each one ends."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.calls import Call
from broker.core.settings import LimitSettings, Settings, TimingSettings
from broker.protocol.errors import Reason
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh

BROKER = {"id": "$broker", "group": "$broker"}

# Deadlines are kept to within this, or within a second where they are more than a minute away.
GRANULE = 0.01
# What sums of seconds may be off by.
ROUNDING = 1e-6


def quiet_mesh(**limits: int) -> MemoryMesh:
    """A mesh in which nobody is pinged."""
    timing = TimingSettings(ping_ms=10**9)
    return MemoryMesh(Settings(tokens=TOKENS, timing=timing, limits=LimitSettings(**limits)))


@pytest.fixture
def mesh() -> MemoryMesh:
    return quiet_mesh()


def one_of(group: str, key: str | None = None) -> dict[str, str]:
    intent = {"target": "GROUP", "identifier": group, "pick": "ONE"}
    return intent if key is None else {**intent, "key": key}


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


def ask(
    requester: Client, id: str, intent: dict[str, str], timeout: int = 1000, **frame: Any
) -> None:
    requester.send(op=0, id=id, event="ASK", intent=intent, timeout=timeout, **frame)


def join_late(mesh: MemoryMesh, group: str, **said: Any) -> Client:
    """Join where requests wait, and may follow the welcome; they are left to be taken."""
    client = mesh.connect()
    client.identify(group, **said)
    assert client.peer.outbox[0].startswith(b'{"op":1,')
    client.peer.outbox_bytes -= len(client.peer.outbox.pop(0))
    return client


def answer(callee: Client, requester: Client, id: str, **frame: Any) -> None:
    callee.send(op=5, id=id, event="ASK", intent=direct(requester), **{"data": id, **frame})


def asked(client: Client) -> list[str]:
    """The ids of the requests that have come, and nothing else has."""
    frames = client.take()
    assert all(frame["op"] == 0 and frame["event"] == "ASK" for frame in frames), frames
    return [frame["id"] for frame in frames]


def ends(client: Client) -> list[tuple[str, str]]:
    """What has come: each request's id, and the code of its error or "answered"."""
    found = []
    for frame in client.take():
        assert frame["op"] == 5, frame
        found.append((frame["id"], frame["error"]["code"] if "error" in frame else "answered"))
    return found


def in_flight(mesh: MemoryMesh) -> int:
    ledger = mesh.dispatcher.requests.ledger
    assert len(ledger) == len(list(ledger))
    return len(ledger)


def owner_of(members: list[Client], requester: Client, key: str) -> Client:
    """Find out whom a key belongs to, by an event that leaves nothing behind."""
    requester.send(op=0, id="probe", event="PROBE", intent=one_of("g", key))
    (owner,) = [member for member in members if member.take()]
    return owner


def key_of(member: Client, members: list[Client], requester: Client) -> str:
    """Find a key that belongs to a member."""
    keys = (f"key {number}" for number in range(1000))
    return next(key for key in keys if owner_of(members, requester, key) is member)


# -- Fairness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 7, 512, 4000])
@pytest.mark.parametrize("concurrency", [None, 1, 16])
def test_equal_members_get_equal_shares(
    mesh: MemoryMesh, window: int, concurrency: int | None
) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g", concurrency=concurrency) for _ in range(4)]
    shares: Counter[str] = Counter()
    sent = ended = 0
    while ended < 4000:
        while sent < 4000 and sent - ended < window:
            ask(requester, str(sent), one_of("g"))
            sent += 1
        hands = [(int(id), member) for member in members for id in asked(member)]
        shares.update(member.id for _, member in hands)
        # All work at the same speed: what was asked first is answered first.
        for number, member in sorted(hands, key=itemgetter(0)):
            answer(member, requester, str(number))
        ended += len(ends(requester))
    assert all(abs(shares[member.id] - 1000) <= 50 for member in members), shares
    assert in_flight(mesh) == 0


@pytest.mark.parametrize("seed", range(3))
def test_equal_members_that_answer_in_any_order(mesh: MemoryMesh, seed: int) -> None:
    """Each has a different number in hand at any time, and still gets its quarter."""
    order = Order(seed)
    requester = mesh.join("r")
    members = [mesh.join("g") for _ in range(4)]
    shares: Counter[str] = Counter()
    in_hand: list[tuple[Client, str]] = []
    for number in range(4000):
        ask(requester, str(number), one_of("g"))
        for member in members:
            for id in asked(member):
                shares[member.id] += 1
                in_hand.append((member, id))
        while len(in_hand) > 32:
            member, id = in_hand.pop(order.below(len(in_hand)))
            answer(member, requester, id)
        requester.take()
    assert all(abs(shares[member.id] - 1000) <= 50 for member in members), shares


class Order:
    """Numbers that look random, and are the same in each run."""

    def __init__(self, seed: int) -> None:
        self._state = seed * 7919 + 1

    def below(self, bound: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % bound


@pytest.mark.parametrize("concurrency", [None, 1, 4])
def test_a_slow_member_gets_its_share_by_speed(mesh: MemoryMesh, concurrency: int | None) -> None:
    """Three answer in each step, the fourth in each fifth: 5 + 5 + 5 + 1."""
    requester = mesh.join("r")
    members = [mesh.join("g", concurrency=concurrency) for _ in range(4)]
    hands: dict[Client, deque[str]] = {member: deque() for member in members}
    done: Counter[Client] = Counter()
    sent = step = 0
    while sum(done.values()) < 4000:
        while sent - sum(done.values()) < 32:
            ask(requester, str(sent), one_of("g"))
            sent += 1
        step += 1
        for member, hand in hands.items():
            hand.extend(asked(member))
            if hand and (member is not members[3] or step % 5 == 0):
                answer(member, requester, hand.popleft())
                done[member] += 1
        requester.take()
    assert abs(done[members[3]] - 4000 / 16) <= 13, done
    for member in members[:3]:
        assert abs(done[member] - 4000 * 5 / 16) <= 63, done


def test_a_member_that_just_came_is_not_flooded(mesh: MemoryMesh) -> None:
    """It takes what it has room for, and the others keep what they have."""
    requester = mesh.join("r")
    old = mesh.join("g", concurrency=10)
    for number in range(30):
        ask(requester, str(number), one_of("g"))
    assert len(asked(old)) == 10
    new = join_late(mesh, "g", concurrency=5)
    assert asked(new) == [str(number) for number in range(10, 15)]


# -- Concurrency, and waiting ----------------------------------------------------------------------


def test_concurrency_is_respected_and_the_queue_is_first_come_first_served(
    mesh: MemoryMesh,
) -> None:
    first, second = mesh.join("r"), mesh.join("r")
    member = mesh.join("g", concurrency=2)
    for number in range(10):
        ask(first if number % 2 else second, str(number), one_of("g"))
    seen = asked(member)
    while len(seen) < 10:
        assert len(member.peer.working) == 2
        id = seen[len(seen) - 2]
        answer(member, first if int(id) % 2 else second, id)
        seen += asked(member)
    assert seen == [str(number) for number in range(10)]


def test_what_waited_is_told_how_much_time_is_left(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"), 5000)
    ask(requester, "2", one_of("g"), 5000, data={"a": [1]}, trace="t")
    member.take()
    mesh.pass_time(1.25)
    answer(member, requester, "1")
    (frame,) = member.take()
    assert frame == {
        "op": 0,
        "id": "2",
        "event": "ASK",
        "data": {"a": [1]},
        "intent": one_of("g"),
        "source": {"id": requester.id, "group": "r"},
        "timeout": 3750,
        "trace": "t",
    }


def test_the_queue_is_bounded() -> None:
    mesh = quiet_mesh(waiting_per_group=3)
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    other = mesh.join("h", concurrency=1)
    for number in range(6):
        ask(requester, str(number), one_of("g"))
    frames = requester.take()
    assert [frame["id"] for frame in frames] == ["4", "5"]
    assert frames[0]["error"] == {
        "code": "OVERLOADED",
        "message": "group 'g' is at its concurrency, and 3 requests wait",
    }
    # Each group has a queue of its own.
    for id in ("a", "b"):
        ask(requester, id, one_of("h"))
    assert requester.take() == []
    assert asked(other) == ["a"]
    # Room for one more, as soon as one has been taken.
    assert asked(member) == ["0"]
    answer(member, requester, "0")
    ask(requester, "7", one_of("g"))
    ask(requester, "8", one_of("g"))
    assert ends(requester) == [("0", "answered"), ("8", "OVERLOADED")]


def test_requests_with_and_without_a_key_share_the_bound() -> None:
    mesh = quiet_mesh(waiting_per_group=2)
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "0", one_of("g"))
    ask(requester, "1", one_of("g", "k"))
    ask(requester, "2", one_of("g"))
    ask(requester, "3", one_of("g", "k"))
    ask(requester, "4", one_of("g"))
    assert ends(requester) == [("3", "OVERLOADED"), ("4", "OVERLOADED")]
    assert asked(member) == ["0"]


def test_without_a_queue_a_busy_group_is_overloaded_at_once() -> None:
    mesh = quiet_mesh(waiting_per_group=0)
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "0", one_of("g"))
    ask(requester, "1", one_of("g"))
    assert ends(requester) == [("1", "OVERLOADED")]
    assert asked(member) == ["0"]


def test_the_bytes_that_wait_are_bounded() -> None:
    mesh = quiet_mesh(waiting_bytes=100)
    requests = mesh.dispatcher.requests
    requester, other = mesh.join("r"), mesh.join("s")
    members = [mesh.join(group, concurrency=1) for group in "gh"]
    for group in "gh":
        ask(requester, group, one_of(group))
    ask(requester, "1", one_of("g"), data="x" * 58)
    ask(other, "2", one_of("h"), data="x" * 38)
    assert requests.waiting_bytes == 100
    ask(requester, "3", one_of("g"), data=1)
    ask(requester, "4", one_of("g"))
    assert ends(requester) == [("3", "OVERLOADED")]
    # However a request stops waiting, its bytes are free again.
    requester.send(op=0, event="$cancel", id="1")
    assert requests.waiting_bytes == 40
    ask(requester, "5", one_of("g"), 500, data="x" * 18)
    mesh.pass_time(0.52)
    assert requests.waiting_bytes == 40
    ask(requester, "6", one_of("g"), data="x" * 8)
    members[0].take()
    answer(members[0], requester, "g")
    assert asked(members[0]) == ["4"]
    answer(members[0], requester, "4")
    assert asked(members[0]) == ["6"]
    assert requests.waiting_bytes == 40
    other.leave()
    assert requests.waiting_bytes == 0
    ask(requester, "7", one_of("g"), data="x" * 8)
    members[0].leave()
    assert requests.waiting_bytes == 0
    ask(requester, "8", one_of("h"), data="x" * 8)
    mesh.dispatcher.close_all(Reason.SERVER_RESTART)
    assert requests.waiting_bytes == 0


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "how", ["answers", "answers a gather", "lets one expire", "is not asked any more", "joins"]
)
def test_what_waits_is_served_when_somebody_is_free(
    mesh: MemoryMesh, key: str | None, how: str
) -> None:
    requester, other = mesh.join("r"), mesh.join("o")
    member = mesh.join("g", concurrency=1)
    if how == "answers a gather":
        ask(other, "1", {"target": "GROUP", "identifier": "g"}, 500)
    else:
        ask(other, "1", one_of("g"), 500)
    assert asked(member) == ["1"]
    ask(requester, "2", one_of("g", key))
    assert member.take() == []
    if how.startswith("answers"):
        answer(member, other, "1")
    elif how == "lets one expire":
        mesh.pass_time(0.52)
    elif how == "is not asked any more":
        other.send(op=0, event="$cancel", id="1")
        notice = member.peer.outbox.pop(0)
        assert json.loads(notice)["event"] == "$cancel"
    elif key is None:
        member = join_late(mesh, "g")
    else:
        # Until somebody comes to whom the key belongs.
        newcomer = join_late(mesh, "g")
        while not newcomer.peer.working:
            newcomer = join_late(mesh, "g")
        member = newcomer
    assert asked(member) == ["2"]
    answer(member, requester, "2")
    assert ends(requester) == [("2", "answered")]


def test_what_waits_is_served_when_the_requester_before_it_goes(mesh: MemoryMesh) -> None:
    requester, other = mesh.join("r"), mesh.join("o")
    member = mesh.join("g", concurrency=1)
    ask(other, "1", one_of("g"))
    ask(requester, "2", one_of("g"))
    other.leave()
    frames = member.take()
    assert [(frame["event"], frame["id"]) for frame in frames] == [
        ("ASK", "1"),
        ("$cancel", "1"),
        ("ASK", "2"),
    ]


def test_nobody_is_handed_the_requests_of_one_that_goes(mesh: MemoryMesh) -> None:
    """With one in hand and many waiting: the place of the first is not filled by the second."""
    requester, other = mesh.join("r"), mesh.join("o")
    member = mesh.join("g", concurrency=1)
    for number in range(5):
        ask(requester, str(number), one_of("g"))
    ask(other, "other", one_of("g"))
    assert asked(member) == ["0"]
    requester.leave()
    frames = member.take()
    assert [(frame["event"], frame["id"]) for frame in frames] == [
        ("$cancel", "0"),
        ("ASK", "other"),
    ]
    assert mesh.dispatcher.statistics().cancelled == 5


def test_nothing_is_handed_to_a_member_that_goes(mesh: MemoryMesh) -> None:
    """It asks itself, and others wait: the place that its end makes free is no place."""
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    other = mesh.join("g", concurrency=1)
    ask(requester, "1", direct(other))
    ask(member, "own", direct(member))
    ask(requester, "2", one_of("g"))
    assert asked(other) == ["1"]
    member.take()
    member.leave()
    assert requester.take() == []
    answer(other, requester, "1")
    assert asked(other) == ["2"]


@pytest.mark.parametrize("key", [None, "k"])
def test_a_group_that_empties_has_no_route_at_once(mesh: MemoryMesh, key: str | None) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g", concurrency=1) for _ in range(2)]
    for member in members:
        ask(requester, f"at {member.id}", direct(member))
    ask(requester, "1", one_of("g", key))
    ask(requester, "2", one_of("g", key))
    members[0].leave()
    assert ends(requester) == [(f"at {members[0].id}", "PEER_GONE")]
    members[1].leave()
    frames = requester.take()
    assert [(frame["id"], frame["error"]["code"]) for frame in frames] == [
        (f"at {members[1].id}", "PEER_GONE"),
        ("1", "NO_ROUTE"),
        ("2", "NO_ROUTE"),
    ]
    assert frames[1]["error"]["message"] == "there is no member of group 'g'"
    assert "member" not in frames[1]["error"]
    assert in_flight(mesh) == 0
    # And the group is as good as new.
    member = mesh.join("g", concurrency=1)
    ask(requester, "3", one_of("g", key))
    assert asked(member) == ["3"]


def test_a_request_that_waits_expires(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"), 60_000)
    ask(requester, "2", one_of("g"), 500)
    mesh.pass_time(0.499)
    assert requester.take() == []
    mesh.pass_time(0.02)
    (frame,) = requester.take()
    assert frame["error"] == {"code": "EXPIRED", "message": "no member was free in time"}
    # It is nobody's fault.
    assert member.peer.missed == 0


def test_what_has_expired_is_not_handed_out(mesh: MemoryMesh) -> None:
    """The member is free again at the very moment, before the clock was looked at."""
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"), 60_000)
    ask(requester, "2", one_of("g"), 500)
    ask(requester, "3", one_of("g"), 60_000)
    assert asked(member) == ["1"]
    mesh.now += 0.5
    answer(member, requester, "1")
    assert asked(member) == ["3"]
    assert sorted(ends(requester)) == [("1", "answered"), ("2", "EXPIRED")]


def test_events_never_wait_and_direct_pays_no_heed(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"))
    requester.send(op=0, id="2", event="ASK", intent=one_of("g"))
    ask(requester, "3", direct(member))
    ask(requester, "4", {"target": "GROUP", "identifier": "g"})
    assert asked(member) == ["1", "2", "3", "4"]


# -- Not to oneself --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
def test_who_wants_no_echo_is_never_asked_by_itself(mesh: MemoryMesh, key: str | None) -> None:
    me = mesh.join("g", echo=False, concurrency=1)
    other = mesh.join("g", concurrency=1)
    for number in range(3):
        ask(me, str(number), one_of("g", key))
    seen = asked(other)
    # It is free itself, and becomes so again: what it asked for waits for the other nonetheless.
    requester = mesh.join("r")
    ask(requester, "from outside", direct(me))
    assert asked(me) == ["from outside"]
    answer(me, requester, "from outside")
    assert me.take() == []
    while len(seen) < 3:
        answer(other, me, seen[-1])
        seen += asked(other)
        assert ends(me) == [(seen[-2], "answered")]
    assert seen == ["0", "1", "2"]


def test_who_wants_no_echo_is_served_behind_its_own_requests(mesh: MemoryMesh) -> None:
    """What it asks for does not keep it from what others ask for later."""
    requester = mesh.join("r")
    me, other = mesh.join("g", echo=False, concurrency=1), mesh.join("g", concurrency=1)
    ask(requester, "1", direct(me))
    ask(requester, "2", direct(other))
    ask(me, "mine", one_of("g"))
    ask(requester, "3", one_of("g"))
    me.take()
    answer(me, requester, "1")
    assert asked(me) == ["3"]
    other.take()
    answer(other, requester, "2")
    assert asked(other) == ["mine"]


@pytest.mark.parametrize("key", [None, "k"])
def test_who_wants_no_echo_and_is_left_alone_has_no_route(
    mesh: MemoryMesh, key: str | None
) -> None:
    requester = mesh.join("r")
    me, other = mesh.join("g", echo=False), mesh.join("g", concurrency=1)
    ask(requester, "1", direct(other))
    ask(me, "2", one_of("g", key))
    other.leave()
    assert ends(me) == [("2", "NO_ROUTE")]
    ask(me, "3", one_of("g", key))
    assert ends(me) == [("3", "NO_ROUTE")]
    ask(me, "4", {"target": "GROUP", "identifier": "g"})
    assert ends(me) == [("4", "NO_ROUTE")]


def test_what_others_wait_for_stays_when_one_without_echo_is_left(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    me, other = mesh.join("g", echo=False, concurrency=1), mesh.join("g", concurrency=1)
    ask(requester, "1", direct(other))
    ask(requester, "2", direct(me))
    ask(me, "mine", one_of("g"))
    ask(requester, "3", one_of("g"))
    other.leave()
    frames = me.take()
    assert [frame["id"] for frame in frames] == ["2", "mine"]
    assert frames[1]["error"]["code"] == "NO_ROUTE"
    answer(me, requester, "2")
    assert asked(me) == ["3"]


def test_a_request_to_oneself(mesh: MemoryMesh) -> None:
    me = mesh.join("g", concurrency=1)
    for id, intent in [("1", direct(me)), ("2", one_of("g")), ("3", one_of("g", "k"))]:
        ask(me, id, intent)
        assert asked(me) == [id]
        answer(me, me, id)
        assert ends(me) == [(id, "answered")]
    assert in_flight(mesh) == 0


# -- Keys ------------------------------------------------------------------------------------------


def test_keyed_requests_wait_for_their_member(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g", concurrency=1) for _ in range(3)]
    busy = members[1]
    key = key_of(busy, members, requester)
    for number in range(3):
        ask(requester, str(number), one_of("g", key))
    assert asked(busy) == ["0"]
    assert [member.take() for member in members] == [[], [], []]
    # Others are free, and what has no key goes to them.
    ask(requester, "free", one_of("g"))
    assert [asked(member) for member in members].count(["free"]) == 1
    for number in range(3):
        answer(busy, requester, str(number))
        assert asked(busy) == ([str(number + 1)] if number < 2 else [])


def test_what_waited_for_one_that_went_goes_where_its_keys_go(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g", concurrency=1) for _ in range(3)]
    gone = members[0]
    key = key_of(gone, members, requester)
    for number in range(4):
        ask(requester, str(number), one_of("g", key))
    gone.leave()
    assert ends(requester) == [("0", "PEER_GONE")]
    (heir,) = [member for member in members[1:] if member.peer.working]
    assert asked(heir) == ["1"]
    for number in (1, 2):
        answer(heir, requester, str(number))
        assert asked(heir) == [str(number + 1)]
    answer(heir, requester, "3")
    assert owner_of(members[1:], requester, key) is heir


def test_what_waits_moves_to_one_that_takes_its_key_over(mesh: MemoryMesh) -> None:
    """Else two members would work on one key: one on what waited, one on what comes."""
    requester = mesh.join("r")
    old = mesh.join("g", concurrency=1)
    keys = [f"key {number}" for number in range(20)]
    ask(requester, "first", direct(old))
    for key in keys:
        ask(requester, key, one_of("g", key))
    assert asked(old) == ["first"]
    new = join_late(mesh, "g", concurrency=100)
    moved = asked(new)
    assert 0 < len(moved) < 20
    answer(old, requester, "first")
    stayed = []
    while id := asked(old):
        stayed += id
        answer(old, requester, id[0])
    assert sorted(moved + stayed) == sorted(keys)
    assert moved == [key for key in keys if key in moved], "and they keep their order"
    assert stayed == [key for key in keys if key in stayed]
    for key in keys:
        assert owner_of([old, new], requester, key) is (new if key in moved else old)


@given(st.data())
def test_only_the_keys_of_who_comes_or_goes_move(data: st.DataObject) -> None:
    """Seen from outside: by the members that get the requests."""
    mesh = quiet_mesh()
    requester = mesh.join("r")
    members = [mesh.join("g")]
    keys = [f"user {number}" for number in range(12)]
    before = {key: owner_of(members, requester, key) for key in keys}
    for _ in range(data.draw(st.integers(1, 8))):
        if len(members) > 1 and data.draw(st.booleans()):
            changed = members.pop(data.draw(st.integers(0, len(members) - 1)))
            changed.leave()
        else:
            changed = mesh.join("g")
            members.append(changed)
        after = {}
        for number, key in enumerate(keys):
            ask(requester, str(number), one_of("g", key))
            (after[key],) = [member for member in members if asked(member)]
            answer(after[key], requester, str(number))
            assert ends(requester) == [(str(number), "answered")]
        for key in keys:
            assert after[key] is before[key] or changed in {after[key], before[key]}
        before = after


# -- A member that hangs ---------------------------------------------------------------------------


def test_a_frozen_member_does_not_swallow_requests(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    frozen, *_ = members = [mesh.join("g") for _ in range(4)]
    lost = 0
    for number in range(400):
        ask(requester, str(number), one_of("g"), 100)
        for member in members:
            ids = asked(member)
            for id in ids:
                if member is frozen:
                    lost += 1
                else:
                    answer(member, requester, id)
        mesh.pass_time(0.11)
    # One: after that, it looks loaded beside the others, who are idle each time.
    assert lost == 1
    assert Counter(code for _, code in ends(requester)) == {"answered": 399, "EXPIRED": 1}


def test_a_member_that_missed_some_gets_requests_when_the_others_are_as_loaded(
    mesh: MemoryMesh,
) -> None:
    requester = mesh.join("r")
    frozen, lively = mesh.join("g"), mesh.join("g")
    for number in range(2):
        ask(requester, f"missed {number}", direct(frozen), 100)
    mesh.pass_time(0.2)
    frozen.take()
    for number in range(3):
        ask(requester, str(number), one_of("g"))
    assert asked(lively) == ["0", "1", "2"] or asked(frozen) == ["2"]
    assert len(frozen.peer.working) + frozen.peer.missed in {2, 3}


def test_an_answer_makes_good_for_what_was_missed(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    member, other = mesh.join("g"), mesh.join("g")
    ask(requester, "0", one_of("g"), 10_000)
    ask(requester, "1", direct(member), 100)
    mesh.pass_time(0.2)
    requester.take()
    assert member.peer.missed == 1
    # A late one is not enough: nobody has got anything from it.
    answer(member, requester, "1")
    assert member.peer.missed == 1
    answer(member, requester, "0")
    assert member.peer.missed == 0
    assert ends(requester) == [("0", "answered")]
    other.leave()


def test_an_answer_makes_good_also_where_the_group_was_never_asked_for_one(
    mesh: MemoryMesh,
) -> None:
    requester, member = mesh.join("r"), mesh.join("g")
    mesh.join("g")
    ask(requester, "1", direct(member), 100)
    mesh.pass_time(0.2)
    ask(requester, "2", direct(member), 100)
    answer(member, requester, "2")
    assert member.peer.missed == 0


def test_what_was_missed_is_forgiven() -> None:
    """After twice the ping time, when the heartbeat has told whether it lives."""
    mesh = MemoryMesh(Settings(tokens=TOKENS, timing=TimingSettings(ping_ms=1000)))
    requester = mesh.join("r")
    members = [mesh.join("g") for _ in range(2)]
    hung = members[0]
    ask(requester, "1", direct(hung), 100)
    mesh.pass_time(0.11)
    for seconds in (0.9, 0.9, 0.18):
        assert hung.peer.missed == 1
        mesh.pass_time(seconds)
        for client in (requester, *members):
            client.send(op=4)
            client.take()
    mesh.pass_time(0.05)
    assert hung.peer.missed == 0
    for number in range(4):
        ask(requester, str(number), one_of("g"))
    assert [len(asked(member)) for member in members] == [2, 2]


def test_a_member_that_hangs_is_cut_and_its_requests_go_to_others() -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, timing=TimingSettings(ping_ms=1000)))
    requester = mesh.join("r")
    hung, other = mesh.join("g"), mesh.join("g")
    ask(requester, "long", direct(hung), 60_000)
    ask(requester, "short", direct(hung), 500)
    for _ in range(7):
        mesh.pass_time(0.5)
        requester.send(op=4)
        other.send(op=4)
    frames = [frame for frame in requester.take() if frame["op"] == 5]
    assert [(frame["id"], frame["error"]["code"]) for frame in frames] == [
        ("short", "EXPIRED"),
        ("long", "PEER_GONE"),
    ]
    assert all(frame["error"]["member"] == hung.id for frame in frames)
    assert hung.take()[-1]["data"] == "PING_TIMEOUT"
    other.take()
    for number in range(3):
        ask(requester, str(number), one_of("g"))
    assert asked(other) == ["0", "1", "2"]


# -- Bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_requests_of_one_connection_are_bounded(many: bool) -> None:
    mesh = quiet_mesh(requests_per_connection=3)
    requester, other, member = mesh.join("r"), mesh.join("o"), mesh.join("g")
    intent = {"target": "GROUP", "identifier": "g"} if many else one_of("g")
    for number in range(4):
        ask(requester, str(number), intent)
    frame = requester.take()[-1]
    assert (frame["id"], frame["event"]) == ("3", "ASK")
    assert frame["error"] == {
        "code": "OVERLOADED",
        "message": "this connection has 3 requests in flight",
    }
    assert asked(member) == ["0", "1", "2"]
    ask(other, "0", intent)
    assert asked(member) == ["0"], "others are not to blame"
    answer(member, requester, "1")
    requester.take()
    ask(requester, "3", intent)
    assert asked(member) == ["3"]


def test_requests_in_all_are_bounded() -> None:
    mesh = quiet_mesh(requests=3)
    first, second, member = mesh.join("r"), mesh.join("r"), mesh.join("g", concurrency=2)
    for requester in (first, second):
        for number in range(2):
            ask(requester, str(number), one_of("g"))
    (frame,) = second.take()
    assert frame["error"] == {
        "code": "OVERLOADED",
        "message": "the broker has 3 requests in flight",
    }
    assert in_flight(mesh) == 3
    assert asked(member) == ["0", "1"]
    # One that expires makes room as well as one that is answered.
    mesh.pass_time(1.02)
    assert in_flight(mesh) == 0
    first.take()
    second.take()
    for number in range(4):
        ask(first, str(number), direct(member))
    assert ends(first) == [("3", "OVERLOADED")]


def test_frames_that_are_no_requests_are_not_bounded() -> None:
    mesh = quiet_mesh(requests=1, requests_per_connection=1)
    requester, member = mesh.join("r"), mesh.join("g")
    ask(requester, "0", direct(member))
    requester.send(op=0, id="1", event="ASK", intent=direct(member))
    assert asked(member) == ["0", "1"]


# -- Endings ---------------------------------------------------------------------------------------


def test_all_requests_at_one_that_dies_end_at_once(mesh: MemoryMesh) -> None:
    callers = [mesh.join("r") for _ in range(100)]
    callee, other = mesh.join("g"), mesh.join("g")
    for number in range(1000):
        intent = direct(callee) if number % 2 else {"target": "GROUP", "identifier": "g"}
        ask(callers[number % 100], str(number), intent, 86_400_000)
    assert len(asked(callee)) == 1000
    assert len(asked(other)) == 500
    callee.leave()
    ended = Counter(
        (frame["id"], frame["error"]["code"], frame["error"]["member"])
        for caller in callers
        for frame in caller.take()
        if frame.get("event") != "$expect"
    )
    assert ended == Counter((str(number), "PEER_GONE", callee.id) for number in range(1000))
    assert in_flight(mesh) == 500
    other.leave()
    assert in_flight(mesh) == 0
    assert mesh.dispatcher.statistics().failed == {"PEER_GONE": 1500}


def test_a_duplicate_id_in_flight(mesh: MemoryMesh) -> None:
    """The second is refused, and its error does not pass for the end of the first."""
    requester, member = mesh.join("r"), mesh.join("g")
    ask(requester, "1", one_of("g"))
    intents = [
        one_of("g"),
        direct(member),
        direct(requester),
        {"target": "GLOBAL"},
        one_of("nobody"),
        {"target": "DIRECT", "identifier": "nobody"},
        {"target": "DIRECT"},
        {"target": "NOWHERE"},
    ]
    for intent in intents:
        ask(requester, "1", intent)
        (frame,) = requester.take()
        assert "id" not in frame
        assert frame["event"] == "ASK"
        assert frame["error"]["id"] == "1"
        assert frame["error"]["code"] in {"INVALID_FRAME", "INVALID_INTENT", "NO_ROUTE"}
    assert asked(member) == ["1"]
    answer(member, requester, "1")
    assert ends(requester) == [("1", "answered")]
    ask(requester, "1", one_of("g"))
    assert asked(member) == ["1"], "an id whose request has ended can be used again"


def test_a_duplicate_id_among_those_that_wait(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"))
    ask(requester, "2", one_of("g"))
    ask(requester, "2", one_of("g"))
    (frame,) = requester.take()
    assert "id" not in frame
    assert frame["error"]["code"] == "INVALID_FRAME"
    assert asked(member) == ["1"]
    answer(member, requester, "1")
    assert asked(member) == ["2"]


def test_two_requesters_may_use_the_same_id(mesh: MemoryMesh) -> None:
    first, second, member = mesh.join("r"), mesh.join("r"), mesh.join("g")
    ask(first, "1", one_of("g"))
    ask(second, "1", one_of("g"))
    assert asked(member) == ["1", "1"]
    answer(member, second, "1")
    assert first.take() == []
    assert ends(second) == [("1", "answered")]
    first.send(op=0, event="$cancel", id="1")
    assert member.take()[0]["source"]["id"] == first.id


@pytest.mark.parametrize("joined", [False, True], ids=["one by one", "in one piece"])
def test_the_first_answer_counts(mesh: MemoryMesh, joined: bool) -> None:
    requester, member = mesh.join("r"), mesh.join("g")
    ask(requester, "1", one_of("g"))
    frames = [
        json.dumps({"op": 5, "id": "1", "data": data, "intent": direct(requester)}).encode()
        for data in ("first", "second", "third")
    ]
    for piece in [b"".join(frames)] if joined else frames:
        member.send_bytes(piece)
    (frame,) = requester.take()
    assert frame["data"] == "first"
    assert mesh.dispatcher.statistics().late_replies == 2
    assert [frame for frame in member.take() if frame["op"] != 0] == []


def test_a_late_answer_is_dropped_and_counted(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g")
    ask(requester, "expired", one_of("g"), 100)
    ask(requester, "cancelled", one_of("g"))
    mesh.pass_time(0.2)
    requester.send(op=0, event="$cancel", id="cancelled")
    assert ends(requester) == [("expired", "EXPIRED")]
    for id in ("expired", "cancelled"):
        answer(member, requester, id)
    assert requester.take() == []
    assert mesh.dispatcher.statistics().late_replies == 2


def test_the_answer_of_one_that_was_not_asked(mesh: MemoryMesh) -> None:
    requester, member, stranger = mesh.join("r"), mesh.join("g", concurrency=1), mesh.join("s")
    ask(requester, "1", one_of("g"))
    ask(requester, "2", one_of("g"))  # Waits: nobody has been asked.
    member.take()
    for client, id in [(stranger, "1"), (stranger, "2"), (member, "2"), (requester, "1")]:
        answer(client, requester, id)
        (frame,) = client.take()
        assert frame["error"]["code"] == "FORBIDDEN"
        assert requester.take() == []
    answer(member, requester, "1")
    assert ends(requester) == [("1", "answered")]


@pytest.mark.parametrize("intent", [{"target": "GLOBAL"}, {"target": "GROUP", "identifier": "r"}])
def test_an_answer_is_for_the_requester_alone(mesh: MemoryMesh, intent: dict[str, str]) -> None:
    requester, member, stranger = mesh.join("r"), mesh.join("g"), mesh.join("s")
    ask(requester, "1", one_of("g"))
    member.take()
    for client, code in [(member, "INVALID_INTENT"), (stranger, "FORBIDDEN")]:
        client.send(op=5, id="1", event="ASK", data=1, intent=intent)
        (frame,) = client.take()
        assert (frame["id"], frame["error"]["code"]) == ("1", code)
        assert requester.take() == []
    answer(member, requester, "1")
    assert ends(requester) == [("1", "answered")]


def test_replies_that_answer_nothing_are_routed(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g")
    ask(requester, "1", one_of("g"))
    member.take()
    member.send(op=5, event="E", data=1, intent=direct(requester))
    member.send(op=5, id="never asked", data=2, intent=direct(requester))
    frames = requester.take()
    assert [frame.get("id") for frame in frames] == [None, "never asked"]
    assert all(frame["source"]["id"] == member.id for frame in frames)
    assert in_flight(mesh) == 1


def test_giving_up(mesh: MemoryMesh) -> None:
    requester, other, member = mesh.join("r"), mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"))
    ask(requester, "2", one_of("g"))
    member.take()
    for client, id in [(other, "1"), (member, "1"), (requester, "unknown")]:
        client.send(op=0, event="$cancel", id=id)
        assert not client.take()
    assert in_flight(mesh) == 2
    requester.send(op=0, event="$cancel")
    (frame,) = requester.take()
    assert frame["error"] == {
        "code": "INVALID_FRAME",
        "message": "id: say which request to give up",
    }
    requester.send(op=0, event="$cancel", id="2")
    assert member.take() == [], "nobody has been asked yet"
    requester.send(op=0, event="$cancel", id="1")
    source = {"id": requester.id, "group": "r"}
    assert member.take() == [{"op": 0, "id": "1", "event": "$cancel", "source": source}]
    assert requester.take() == []
    assert in_flight(mesh) == 0
    assert mesh.dispatcher.statistics().cancelled == 2


# -- Gather ----------------------------------------------------------------------------------------


def expected(client: Client, id: str) -> list[str]:
    """The members that a gather says to expect; they come before all else."""
    frame = next(frame for frame in client.take() if frame["op"] == 5)
    assert (frame["id"], frame["event"], frame["source"]) == (id, "$expect", BROKER)
    return [member["id"] for member in frame["data"]["members"]]


@pytest.mark.parametrize("number", [1, 2, 50])
def test_gather(mesh: MemoryMesh, number: int) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g") for _ in range(number)]
    ask(requester, "1", {"target": "GROUP", "identifier": "g"})
    assert expected(requester, "1") == [member.id for member in members]
    for member in reversed(members):
        assert in_flight(mesh) == 1
        assert asked(member) == ["1"]
        answer(member, requester, "1", data=member.id)
        (frame,) = requester.take()
        assert frame["data"] == frame["source"]["id"] == member.id
    assert in_flight(mesh) == 0


@pytest.mark.parametrize("intent", [{"target": "GLOBAL"}, {"target": "GROUP", "identifier": "g"}])
def test_gather_from_nobody(mesh: MemoryMesh, intent: dict[str, str]) -> None:
    requester = mesh.join("r", echo=False)
    ask(requester, "1", intent)
    assert ends(requester) == [("1", "NO_ROUTE")]


@pytest.mark.parametrize("echo", [True, False])
def test_gather_on_global(mesh: MemoryMesh, echo: bool) -> None:
    requester = mesh.join("r", echo=echo)
    others = [mesh.join(group) for group in "ab"]
    mesh.connect()  # Not identified: nobody.
    ask(requester, "1", {"target": "GLOBAL"})
    frames = requester.take()
    members = [requester, *others] if echo else others
    assert [one["id"] for one in frames[0]["data"]["members"]] == [one.id for one in members]
    assert [frame["event"] for frame in frames] == ["$expect", "ASK"][: 1 + echo]
    for member in members:
        answer(member, requester, "1")
    assert ends(requester) == [("1", "answered")] * len(members)
    assert in_flight(mesh) == 0


def test_gather_from_members_of_all_kinds(mesh: MemoryMesh) -> None:
    """One answers twice, one dies, one hangs, one fails; each of them ends once."""
    requester, stranger = mesh.join("r"), mesh.join("s")
    twice, dies, hangs, fails = members = [mesh.join("g") for _ in range(4)]
    ask(requester, "1", {"target": "GROUP", "identifier": "g"}, 500)
    assert expected(requester, "1") == [member.id for member in members]
    answer(twice, requester, "1", data=1)
    answer(twice, requester, "1", data=2)
    answer(stranger, requester, "1")
    assert stranger.take()[0]["error"]["code"] == "FORBIDDEN"
    dies.leave()
    fails.send(op=5, id="1", intent=direct(requester), error={"code": "HANDLER_ERROR"})
    frames = requester.take()
    mesh.pass_time(0.52)
    frames += requester.take()
    assert [frame.get("error", {}).get("code") for frame in frames] == [
        None,
        "PEER_GONE",
        "HANDLER_ERROR",
        "EXPIRED",
    ]
    assert frames[0]["data"] == 1
    assert frames[1]["error"]["member"] == dies.id
    assert frames[3]["error"]["member"] == hangs.id
    assert in_flight(mesh) == 0
    answer(hangs, requester, "1")
    assert requester.take() == []
    assert mesh.dispatcher.statistics().late_replies == 2


def test_giving_up_a_gather(mesh: MemoryMesh) -> None:
    requester = mesh.join("r")
    members = [mesh.join("g") for _ in range(3)]
    ask(requester, "1", {"target": "GROUP", "identifier": "g"})
    for member in members:
        member.take()
    answer(members[0], requester, "1")
    requester.take()
    requester.send(op=0, event="$cancel", id="1")
    assert [[frame["event"] for frame in member.take()] for member in members] == [
        [],
        ["$cancel"],
        ["$cancel"],
    ]
    for member in members:
        answer(member, requester, "1")
    assert requester.take() == []


def test_the_requester_of_a_gather_goes(mesh: MemoryMesh) -> None:
    requester = mesh.join("g")
    member = mesh.join("g")
    ask(requester, "1", {"target": "GROUP", "identifier": "g"})
    requester.leave()
    assert [frame["event"] for frame in member.take()] == ["ASK", "$cancel"]
    assert in_flight(mesh) == 0


# -- Drain -----------------------------------------------------------------------------------------


def test_drain(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g", concurrency=1)
    ask(requester, "1", one_of("g"))
    ask(requester, "2", one_of("g"))
    ask(requester, "3", one_of("g"))
    ask(requester, "all", {"target": "GROUP", "identifier": "g"})
    member.take()
    requester.take()
    mesh.dispatcher.drain()
    for intent in (one_of("g"), direct(member), {"target": "GLOBAL"}):
        ask(requester, "new", intent)
        assert ends(requester) == [("new", "DRAINING")]
    # What is in hand, or waits, may still end.
    answer(member, requester, "1")
    answer(member, requester, "all")
    assert asked(member) == ["2"]
    requester.take()
    # Other frames are handed on as before.
    requester.send(op=0, id="event", event="ASK", intent=one_of("g"))
    assert asked(member) == ["event"]
    mesh.dispatcher.close_all(Reason.SERVER_RESTART, "bye")
    *frames, farewell = requester.take()
    assert [(frame["id"], frame["error"]["code"]) for frame in frames] == [
        ("2", "DRAINING"),
        ("3", "DRAINING"),
    ]
    assert frames[0]["error"]["member"] == member.id
    assert "member" not in frames[1]["error"]
    assert (farewell["op"], farewell["data"]) == (2, "SERVER_RESTART")
    assert in_flight(mesh) == 0


# -- Time ------------------------------------------------------------------------------------------


def run_until_alarm(mesh: MemoryMesh) -> float:
    """Move the clock to when the broker wants it looked at; return that time."""
    mesh.now = max(mesh.now, mesh.dispatcher.alarm.time)
    mesh.dispatcher.tick(mesh.now)
    return mesh.now


@given(
    st.floats(1, 10**7),
    st.lists(
        st.one_of(st.integers(1, 100), st.integers(1, 70_000), st.integers(1, 86_400_000)),
        min_size=1,
        max_size=20,
    ),
)
def test_expiry_is_never_early_and_hardly_late(begin: float, timeouts: list[int]) -> None:
    """The clock moves as the broker's own timer would move it."""
    mesh = quiet_mesh()
    mesh.now = begin
    requester, member = mesh.join("r"), mesh.join("g")
    for number, timeout in enumerate(timeouts):
        ask(requester, str(number), direct(member), timeout)
    left = dict(enumerate(timeouts))
    while left:
        now = run_until_alarm(mesh)
        for id, code in ends(requester):
            assert code == "EXPIRED"
            timeout = left.pop(int(id))
            late = now - (begin + timeout / 1000)
            assert late >= -ROUNDING, "early"
            assert late <= (GRANULE if timeout < 60_000 else 1.0) + ROUNDING
    assert in_flight(mesh) == 0


def test_a_minute_is_where_a_second_begins_to_be_of_no_matter(mesh: MemoryMesh) -> None:
    requester, member = mesh.join("r"), mesh.join("g")
    begin = mesh.now = 1000.123
    for timeout in (59_999, 60_000):
        ask(requester, str(timeout), direct(member), timeout)
    for seconds, late in [(59.999, GRANULE), (60.0, 1.0)]:
        now, came = begin, ends(requester)
        while not came:
            now = run_until_alarm(mesh)
            came = ends(requester)
        assert came == [(f"{seconds * 1000:.0f}", "EXPIRED")]
        assert begin + seconds <= now <= begin + seconds + late


class CountingBucket(dict[Call, None]):
    """A bucket that counts how often anybody touches it."""

    def __init__(self, touched: Counter[str]) -> None:
        super().__init__()
        self.touched = touched

    def __iter__(self) -> Iterator[Call]:
        self.touched["looked at"] += 1
        return super().__iter__()

    def __len__(self) -> int:
        self.touched["looked at"] += 1
        return super().__len__()

    def __delitem__(self, call: Call) -> None:
        self.touched["taken out"] += 1
        super().__delitem__(call)

    def __setitem__(self, call: Call, value: None) -> None:
        self.touched["put in"] += 1
        super().__setitem__(call, value)


def test_expiring_a_hundred_thousand_looks_at_no_others() -> None:
    """Counted, not timed: 100,000 fall due over two seconds, beside 100,000 that do not."""
    mesh = quiet_mesh(requests_per_connection=200_000, requests=200_000)
    requester, member = mesh.join("r"), mesh.join("g")
    wheel = mesh.dispatcher.requests.ledger.wheel
    begin = mesh.now
    counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    make = wheel.bucket

    def counting(when: float, now: float) -> dict[Call, None]:
        due = when < begin + 5
        end = make(when, now)
        if isinstance(end, CountingBucket):
            return end
        (key,) = [key for key, bucket in wheel._buckets.items() if bucket is end]
        wheel._buckets[key] = bucket = CountingBucket(counts[due])
        return bucket

    wheel.bucket = counting  # type: ignore[method-assign]
    frame = '{"op":0,"id":"%d","event":"ASK","intent":%s,"timeout":%d}\n'
    intent = json.dumps(direct(member))
    for start in range(0, 200_000, 5_000):
        numbers = range(start, start + 5_000)
        # Those that will and those that will not are mixed, as are their time-outs.
        timeouts = [(10 if n % 2 else 10_000) + n % 200 * 10 for n in numbers]
        lines = [frame % (n, intent, t) for n, t in zip(numbers, timeouts, strict=True)]
        requester.send_bytes("".join(lines).encode())
        member.take()
    assert in_flight(mesh) == 200_000
    counts[True].clear()
    counts[False].clear()
    mesh.pass_time(3)
    expired = ends(requester)
    assert len(expired) == 100_000
    assert {(id, code) for id, code in expired} == {
        (str(number), "EXPIRED") for number in range(1, 200_000, 2)
    }
    assert counts[False] == {}, "the others were looked at"
    assert counts[True]["taken out"] == 100_000
    assert counts[True]["looked at"] < 3 * 100_000
    assert in_flight(mesh) == 100_000
    mesh.pass_time(10)
    assert len(ends(requester)) == 100_000
    assert in_flight(mesh) == 0
    assert not wheel._buckets, "empty buckets stay behind"
