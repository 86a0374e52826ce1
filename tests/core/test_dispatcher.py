"""What a client can be told, word for word; and what the dispatcher owes those who do not read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer, PeerState
from broker.core.settings import LimitSettings, Settings, TimingSettings
from broker.protocol.codec import encode
from broker.protocol.errors import LocalProtocolError, Reason
from broker.protocol.json_stream import JsonStream
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh

BROKER = {"id": "$broker", "group": "$broker"}
LONG = "x" * 129


def direct(client: Client | str) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client if isinstance(client, str) else client.id}


def one_of(group: str, **more: str) -> dict[str, str]:
    return {"target": "GROUP", "identifier": group, "pick": "ONE", **more}


def the_error(client: Client, **expected: object) -> tuple[str, str]:
    """Take the one frame that has come: an error."""
    (frame,) = client.take()
    error = frame.pop("error")
    assert frame == {"op": 5, "source": BROKER, **expected}
    code, message = error.pop("code"), error.pop("message")
    assert not error or set(error) in ({"member"}, {"id"})
    return code, message


# -- Errors in answer to one frame -----------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"event": "E", "intent": {"target": "GLOBAL"}, "source": {"id": "a", "group": "b"}},
        "INVALID_FRAME",
        "source: is written by the broker; leave it out",
    ),
    (
        {"event": "E", "intent": direct("id-1"), "source": {"id": "id-1", "group": "demo"}},
        "INVALID_FRAME",
        "source: is written by the broker; leave it out",
    ),
    ({"intent": {"target": "GLOBAL"}}, "INVALID_FRAME", "event: an EVENT needs a name"),
    (
        {"event": "$up", "intent": {"target": "GLOBAL"}},
        "INVALID_FRAME",
        "event: '$up': names that begin with $ are the broker's own",
    ),
    (
        {"op": 5, "event": "$expect", "intent": {"target": "GLOBAL"}},
        "INVALID_FRAME",
        "event: '$expect': names that begin with $ are the broker's own",
    ),
    (
        {"event": "E"},
        "INVALID_INTENT",
        "intent: say whom it is for: GLOBAL, GROUP or DIRECT",
    ),
    ({"op": 5}, "INVALID_INTENT", "intent: say whom it is for: GLOBAL, GROUP or DIRECT"),
    (
        {"event": "E", "intent": {"target": "DIRECT"}},
        "INVALID_INTENT",
        "intent.identifier: DIRECT needs a connection id",
    ),
    (
        {"event": "E", "intent": {"target": "GROUP", "identifier": ""}},
        "INVALID_INTENT",
        "intent.identifier: GROUP needs a group's name",
    ),
    (
        {"event": "E", "intent": {"target": "GLOBAL", "pick": "ONE"}},
        "INVALID_INTENT",
        "intent.pick: ONE is for GROUP only",
    ),
    (
        {"event": "E", "intent": {"target": "ALL"}},
        "INVALID_INTENT",
        "intent.target: 'ALL' is none of GLOBAL, GROUP, DIRECT",
    ),
    (
        {"event": "E", "intent": {"identifier": "a"}},
        "INVALID_INTENT",
        "intent: object missing required field target",
    ),
    (
        {"event": "E", "intent": "GLOBAL"},
        "INVALID_INTENT",
        "intent: expected object | null, got str",
    ),
    (
        {"event": "E", "intent": {"target": "GROUP", "identifier": LONG}},
        "INVALID_INTENT",
        "intent.identifier: expected str of length <= 128",
    ),
    (
        {"event": "E", "intent": {"target": "GROUP", "identifier": "a", "pick": "ANY"}},
        "INVALID_INTENT",
        "intent.pick: 'ANY' is none of ALL, ONE",
    ),
    ({"event": ""}, "INVALID_FRAME", "event: expected str of length >= 1"),
    ({"event": LONG}, "INVALID_FRAME", "event: expected str of length <= 128"),
    ({"event": ["E"]}, "INVALID_FRAME", "event: expected str | null, got array"),
    ({"timeout": 0}, "INVALID_FRAME", "timeout: expected int >= 1"),
    ({"timeout": 86_400_001}, "INVALID_FRAME", "timeout: expected int <= 86400000"),
    ({"timeout": 1.5}, "INVALID_FRAME", "timeout: expected int | null, got float"),
    ({"trace": 1}, "INVALID_FRAME", "trace: expected str | null, got int"),
    ({"source": "me"}, "INVALID_FRAME", "source: expected object | null, got str"),
    (
        {"event": "E", "intent": direct("nobody")},
        "NO_ROUTE",
        "there is no connection 'nobody'",
    ),
    (
        {"event": "E", "intent": {"target": "GROUP", "identifier": "nobody"}},
        "NO_ROUTE",
        "there is no member of group 'nobody'",
    ),
    (
        {"event": "E", "intent": one_of("nobody")},
        "NO_ROUTE",
        "there is no member of group 'nobody'",
    ),
    (
        {"event": "E", "intent": direct("nobody"), "timeout": 1},
        "NO_ROUTE",
        "there is no connection 'nobody'",
    ),
    (
        {"event": "E", "intent": one_of("nobody"), "timeout": 1},
        "NO_ROUTE",
        "there is no member of group 'nobody'",
    ),
    (
        {"event": "E", "intent": direct("$broker")},
        "UNKNOWN_EVENT",
        "$broker knows SERVICES, WATCH, UNWATCH, STATS, WHOAMI, DRAIN, not 'E'",
    ),
]


@pytest.mark.parametrize(("frame", "code", "message"), REFUSED)
def test_a_frame_that_is_refused(frame: dict[str, Any], code: str, message: str) -> None:
    client = MemoryMesh().join("demo")
    client.send(**{"op": 0, "id": "my id", **frame})

    event = frame.get("event")
    said_back = {"event": event} if isinstance(event, str) and "event: exp" not in message else {}
    assert the_error(client, id="my id", **said_back) == (code, message)
    # The connection stays as it was.
    client.send(op=3)
    assert client.take() == [{"op": 4}]


def test_an_id_that_is_none() -> None:
    client = MemoryMesh().join("demo")
    for id, problem in (
        (7, "id: expected str | null, got int"),
        ("", "id: expected str of length >= 1"),
        ("x" * 65, "id: expected str of length <= 64"),
    ):
        client.send(op=0, id=id, event="E")
        assert the_error(client, event="E") == ("INVALID_FRAME", problem)


def test_a_cancel_needs_an_id() -> None:
    client = MemoryMesh().join("demo")
    client.send(op=0, event="$cancel")

    expected = ("INVALID_FRAME", "id: say which request to give up")
    assert the_error(client, event="$cancel") == expected


# -- Errors that come of requests ------------------------------------------------------------------


def request(client: Client, id: str, intent: dict[str, str], timeout: int = 1000) -> None:
    client.send(op=0, id=id, event="E", intent=intent, timeout=timeout)


def test_a_request_that_expires() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees")
    request(asker, "1", direct(callee))
    callee.take()
    mesh.pass_time(1.02)

    expected = ("EXPIRED", f"callees {callee.id} did not answer in time")
    assert the_error(asker, id="1", event="E") == expected


def test_a_request_that_nobody_was_free_for() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees", concurrency=1)
    request(asker, "1", one_of("callees"), 5000)
    request(asker, "2", one_of("callees"))
    mesh.pass_time(1.02)

    assert the_error(asker, id="2", event="E") == ("EXPIRED", "no member was free in time")
    assert [frame["id"] for frame in callee.take()] == ["1"]


def test_a_callee_that_leaves() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees")
    request(asker, "1", direct(callee))
    callee.leave()

    expected = ("PEER_GONE", f"callees {callee.id} left before it answered")
    assert the_error(asker, id="1", event="E") == expected


def test_the_last_of_a_group_leaves_while_a_request_waits() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees", concurrency=1)
    request(callee, "0", direct(callee))
    request(asker, "1", one_of("callees"))
    callee.leave()

    expected = ("NO_ROUTE", "there is no member of group 'callees'")
    assert the_error(asker, id="1", event="E") == expected


def test_an_id_that_is_in_flight() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees")
    request(asker, "1", direct(callee))
    request(asker, "1", direct(callee))

    # Under that id, the error would pass for the end of the first one.
    expected = ("INVALID_FRAME", "id: '1' is the id of a request of yours that is still in flight")
    assert the_error(asker, event="E") == expected


def test_too_many_requests() -> None:
    limits = LimitSettings(requests_per_connection=2, requests=3, waiting_per_group=0)
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=limits))
    first, second = mesh.join("askers"), mesh.join("askers")
    callee = mesh.join("callees", concurrency=2)
    for id in ("1", "2"):
        request(first, id, direct(callee))
    request(first, "3", direct(callee))
    expected = ("OVERLOADED", "this connection has 2 requests in flight")
    assert the_error(first, id="3", event="E") == expected
    request(second, "1", one_of("callees"))
    expected = ("OVERLOADED", "group 'callees' is at its concurrency, and 0 requests wait")
    assert the_error(second, id="1", event="E") == expected
    request(second, "2", direct(callee))
    request(second, "3", direct(callee))
    assert the_error(second, id="3", event="E") == (
        "OVERLOADED",
        "the broker has 3 requests in flight",
    )


def test_requests_while_the_broker_drains() -> None:
    mesh = MemoryMesh()
    asker, callee = mesh.join("askers"), mesh.join("callees")
    request(asker, "1", direct(callee))
    mesh.dispatcher.drain()
    for intent in (direct(callee), one_of("callees"), {"target": "GLOBAL"}):
        request(asker, "2", intent)
        expected = ("DRAINING", "the broker is going down: ask another one, or try again")
        assert the_error(asker, id="2", event="E") == expected
    callee.take()
    mesh.dispatcher.close_all(Reason.SERVER_RESTART)
    frame, goodbye = asker.take()
    assert frame["error"] == {
        "code": "DRAINING",
        "message": "the broker is going down",
        "member": callee.id,
    }
    assert goodbye["data"] == "SERVER_RESTART"


def test_answers_from_others() -> None:
    mesh = MemoryMesh()
    asker, callee, other = mesh.join("askers"), mesh.join("callees"), mesh.join("others")
    request(asker, "1", direct(callee))
    other.send(op=5, id="1", intent=direct(asker))
    expected = ("FORBIDDEN", "id: '1' is a request that you were not asked")
    assert the_error(other, id="1") == expected
    callee.take()
    callee.send(op=5, id="1", intent={"target": "GROUP", "identifier": "askers"})
    assert the_error(callee, id="1") == (
        "INVALID_INTENT",
        f"intent: answer a request with DIRECT to its requester, '{asker.id}'",
    )
    callee.send(op=5, id="1", data="yes", intent=direct(asker))
    assert [frame["data"] for frame in asker.take()] == ["yes"]


def test_a_gather_that_has_nobody_to_ask() -> None:
    client = MemoryMesh().join("alone", echo=False)
    request(client, "1", {"target": "GLOBAL"})

    assert the_error(client, id="1", event="E") == ("NO_ROUTE", "there is no other connection")


# -- Places in a queue -----------------------------------------------------------------------------


def test_what_waits_is_not_handed_to_someone_who_is_leaving() -> None:
    """It has asked itself, and so has room for a moment while it is taken out of everything."""
    mesh = MemoryMesh()
    asker = mesh.join("askers")
    leaving = mesh.join("callees", concurrency=1)
    request(leaving, "own", one_of("callees"))
    staying = mesh.join("callees", concurrency=1)
    request(asker, "1", direct(staying))
    request(asker, "2", one_of("callees"))  # Both are busy: it waits.
    staying.take()
    leaving.leave()

    assert asker.take() == []
    staying.send(op=5, id="1", intent=direct(asker))
    assert [frame["id"] for frame in asker.take()] == ["1"]
    assert [frame["id"] for frame in staying.take()] == ["2"]


def test_without_echo_a_request_that_waits_is_not_handed_to_its_requester() -> None:
    mesh = MemoryMesh()
    other = mesh.join("others")
    asker = mesh.join("workers", concurrency=1, echo=False)
    worker = mesh.join("workers", concurrency=1)
    for client in (asker, worker):
        request(other, f"for {client.id}", direct(client))
        client.take()
    request(asker, "1", one_of("workers"))  # The other worker is busy: it waits.
    asker.send(op=5, id=f"for {asker.id}", intent=direct(other))

    assert asker.take() == []
    worker.send(op=5, id=f"for {worker.id}", intent=direct(other))
    assert [frame["id"] for frame in worker.take()] == ["1"]


def test_without_echo_a_request_does_not_wait_for_its_requester_alone() -> None:
    """Once the others have gone there is nobody to wait for, and that is said at once."""
    mesh = MemoryMesh()
    asker = mesh.join("workers", echo=False)
    worker = mesh.join("workers", concurrency=1)
    request(worker, "own", direct(worker))
    request(asker, "1", one_of("workers"))
    assert asker.take() == []
    worker.leave()

    expected = ("NO_ROUTE", "there is no member of group 'workers'")
    assert the_error(asker, id="1", event="E") == expected


# -- Those who do not read -------------------------------------------------------------------------

LIMITS = LimitSettings(message_bytes=32_768, outbox_high_bytes=16_384, outbox_bytes=65_536)
TIMING = TimingSettings(ping_ms=10**9)


def flood_pings(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    lazy.send(op=3, id="x" * 64)


def flood_refused(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    lazy.send(op=0, event="E")


def flood_no_route(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    lazy.send(op=0, event="E", intent=direct("nobody"))


def flood_questions(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    lazy.send(op=0, event="SERVICES", intent=direct("$broker"))


def flood_unknown_questions(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    lazy.send(op=0, event="E", intent=direct("$broker"))


def flood_watcher(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    if lazy.peer.messages_in == 1:
        lazy.send(op=0, event="WATCH", intent=direct("$broker"))
    mesh.join("others").leave()


def flood_expired(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    request(lazy, "1", direct(other))
    mesh.pass_time(1.02)


def flood_gone(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    callee = mesh.join("others")
    request(lazy, "1", direct(callee))
    callee.leave()


def flood_cancelled(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    request(other, "1", direct(lazy))
    other.send(op=0, id="1", event="$cancel")


def flood_gathers(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    request(lazy, "1", {"target": "GROUP", "identifier": "others"})
    other.send(op=5, id="1", intent=direct(lazy))


def flood_events(mesh: MemoryMesh, lazy: Client, other: Client) -> None:
    other.send(op=0, event="E", data="x" * 1000, intent=direct(lazy))


@pytest.mark.parametrize(
    "flood",
    [
        flood_pings,
        flood_refused,
        flood_no_route,
        flood_questions,
        flood_unknown_questions,
        flood_watcher,
        flood_expired,
        flood_gone,
        flood_cancelled,
        flood_gathers,
        flood_events,
    ],
)
def test_an_outbox_has_a_limit_whatever_goes_into_it(
    flood: Callable[[MemoryMesh, Client, Client], None],
) -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS, timing=TIMING))
    lazy, other = mesh.join("lazy"), mesh.join("others")
    for _ in range(2000):
        flood(mesh, lazy, other)
        mesh.dispatcher.settle()
        other.take()
        if lazy.gone:
            break
        assert lazy.peer.outbox_bytes <= LIMITS.outbox_bytes
    assert lazy.gone
    assert lazy.peer.farewell is not None
    assert lazy.peer.farewell.reason is Reason.SLOW_CONSUMER
    assert lazy.peer.farewell.discard
    assert not other.gone


def test_one_batch_cannot_fill_the_memory() -> None:
    """A question of a hundred bytes can have an answer of a megabyte; many fit in one receive."""
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS, timing=TIMING))
    greedy = mesh.join("greedy")
    for number in range(300):
        mesh.join("others", name=f"service {number}", meta={"note": "x" * 100})
    question = {"op": 0, "event": "SERVICES", "intent": direct("$broker")}
    answer_size = 300 * 300
    messages = JsonStream().receive(json.dumps(question).encode() * 1000)
    assert len(messages) == 1000
    mesh.dispatcher.receive(greedy.peer, messages, mesh.now)

    assert greedy.peer.outbox_bytes < LIMITS.outbox_bytes + 2 * answer_size


# -- The rest of a life ----------------------------------------------------------------------------


def open_peer(dispatcher: Dispatcher) -> Peer:
    return dispatcher.open(JsonStream(), "memory", 0.0, 5.0)


def test_a_connection_ends_once() -> None:
    dispatcher = Dispatcher(Settings())
    peer = open_peer(dispatcher)
    dispatcher.close(peer, Reason.REPLACED, "somebody else came")
    dispatcher.close(peer, Reason.SERVER_RESTART)
    dispatcher.lost(peer)
    dispatcher.close_all(Reason.SERVER_RESTART)

    assert dispatcher.effects.to_close == [peer]
    assert peer.farewell is not None
    assert peer.farewell.disconnect == (
        b'{"op":2,"data":"REPLACED","error":{"code":"REPLACED","message":"somebody else came"}}'
    )
    assert (peer.farewell.close_code, peer.farewell.discard) == (4009, False)
    assert dispatcher.statistics().closed == {Reason.REPLACED: 1}
    assert dispatcher.statistics().connections == 0


def test_what_comes_after_the_end_is_not_handled() -> None:
    mesh = MemoryMesh()
    client, other = mesh.join("demo"), mesh.join("demo")
    frames = [
        {"op": 0, "id": "1", "event": "E", "intent": direct(other)},
        {"op": 2},
        {"op": 0, "id": "2", "event": "E", "intent": direct(other)},
        {"op": 3},
        {"op": 1, "data": {"token": "no"}},
    ]
    client.send_bytes(b"".join(map(encode, frames)))

    assert client.peer.state is PeerState.CLOSED
    assert client.take() == []
    assert [frame["id"] for frame in other.take()] == ["1"]
    # Not even if a transport brings more.
    mesh.dispatcher.receive(client.peer, JsonStream().receive(b'{"op":3}'), mesh.now)
    assert client.take() == []


def test_nothing_is_left_of_a_peer_that_has_gone() -> None:
    mesh = MemoryMesh()
    dispatcher = mesh.dispatcher
    clients = [mesh.join(group) for group in ("a", "a", "b")]
    for client in clients:
        request(clients[0], client.id, direct(client))
        request(clients[0], f"one for {client.id}", one_of("a"))
    mesh.connect()
    for client in clients:
        client.leave()
    mesh.pass_time(5.02)

    statistics = dispatcher.statistics()
    assert (statistics.connections, statistics.identified, statistics.groups) == (0, 0, 0)
    assert statistics.requests_in_flight == 0
    assert statistics.opened == 4
    assert statistics.closed == {Reason.NO_REASON: 3, Reason.IDENTIFY_TIMEOUT: 1}
    mesh.pass_time(1000)
    assert not dispatcher._peers
    assert not dispatcher.requests._balancers
    assert dispatcher.alarm.time == float("inf")


def test_a_worker_with_a_backlog_may_go_on_answering() -> None:
    """Its outbox is full of what others sent. It reads as fast as it works, and works by writing.

    Were it not read for that, its answers would get stuck, then it itself, and then it were cut.
    """
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS, timing=TIMING))
    asker, worker = mesh.join("askers"), mesh.join("workers")
    for number in range(20):
        request(asker, str(number), direct(worker) | {"key": "x" * 100})
        asker.send(op=0, event="E", data="x" * 1000, intent=direct(worker))
    assert worker.peer.congested
    assert asker.peer.stalls == 1
    worker.send(op=5, id="0", intent=direct(asker))

    assert [frame["id"] for frame in asker.take()] == ["0"]
    assert worker.peer.stalls == 0


def test_nothing_is_kept_of_one_that_leaves_many_answers_behind() -> None:
    """Asking for more answers than it takes, and saying goodbye in the same breath."""
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS, timing=TIMING))
    client = mesh.join("demo")
    client.send_bytes(b'{"op":0,"event":"E"}' * 200 + b'{"op":2}')
    assert client.gone
    assert client.peer.outbox_bytes > LIMITS.outbox_high_bytes
    mesh.pass_time(6)

    assert not client.peer.congested
    assert not mesh.dispatcher.flow._senders
    assert mesh.dispatcher.effects.to_pause == mesh.dispatcher.effects.to_resume == []


def test_states_are_entered_in_order_only() -> None:
    dispatcher = Dispatcher(Settings())
    peer = open_peer(dispatcher)
    dispatcher.lost(peer)
    with pytest.raises(LocalProtocolError):
        peer.enter(PeerState.IDENTIFIED)


def test_a_sender_that_is_stalled_is_not_taken_for_dead() -> None:
    """While it is not read, its answers to pings cannot be seen."""
    settings = Settings(
        tokens=TOKENS,
        limits=LimitSettings(outbox_high_bytes=1024),
        timing=TimingSettings(ping_ms=1000, stall_ms=5000),
    )
    mesh = MemoryMesh(settings)
    sender, receiver = mesh.join("senders"), mesh.join("receivers")
    sender.send(op=0, event="E", data="x" * 2000, intent=direct(receiver))
    assert sender.peer.stalls == 1
    for _ in range(4):
        mesh.pass_time(1.02)
        receiver.send(op=4)
    assert not sender.gone
    assert not receiver.gone
    mesh.pass_time(1.02)
    assert receiver.gone  # Its time to read is over.
    assert sender.peer.stalls == 0
    # From now on the sender has to show that it lives.
    for _ in range(3):
        mesh.pass_time(1.02)
    assert sender.gone
