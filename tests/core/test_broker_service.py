"""The broker as a service: what `$broker` answers, and what its watchers see."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from broker.core.access_settings import PermissionSettings, TokenSettings
from broker.core.authentication import hash_token
from broker.core.settings import Settings, TimingSettings
from broker.core.statistics import Statistics
from broker.protocol.errors import Reason
from tests.core.memory_mesh import TOKEN, TOKENS, Client, MemoryMesh

BROKER = {"id": "$broker", "group": "$broker"}
TO_BROKER = {"target": "DIRECT", "identifier": "$broker"}


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh()


def ask(client: Client, event: str, **frame: Any) -> dict[str, Any]:
    """Ask the broker; return its only answer."""
    client.send(op=0, event=event, intent=TO_BROKER, **{"id": "q", **frame})
    (answer,) = client.take()
    assert answer["op"] == 5
    assert answer["source"] == BROKER
    return answer


def test_an_answer_has_the_id_and_the_event_of_the_question(mesh: MemoryMesh) -> None:
    client = mesh.join("g")
    for timeout in (None, 1000):
        answer = ask(client, "WHOAMI", id="who", timeout=timeout)
        assert answer.keys() == {"op", "id", "event", "data", "source"}
        assert (answer["id"], answer["event"]) == ("who", "WHOAMI")
    # It is answered at once, and so never in flight.
    assert len(mesh.dispatcher.requests.ledger) == 0
    assert mesh.dispatcher.statistics().requests == 0


def test_a_question_without_an_id(mesh: MemoryMesh) -> None:
    answer = ask(mesh.join("g"), "WHOAMI", id=None)
    assert "id" not in answer


def test_whoami(mesh: MemoryMesh) -> None:
    client = mesh.join("billing", name="billing-7", meta={"zone": "b"}, concurrency=3)
    assert ask(client, "WHOAMI")["data"] == {
        "id": client.id,
        "group": "billing",
        "name": "billing-7",
        "meta": {"zone": "b"},
        "since": "1970-01-01T00:16:40.000Z",
        "in_flight": 0,
        "concurrency": 3,
        "draining": False,
    }


def test_whoami_of_one_that_said_little(mesh: MemoryMesh) -> None:
    data = ask(mesh.join("g"), "WHOAMI")["data"]
    assert (data["name"], data["meta"], data["concurrency"]) == (None, {}, None)


def test_in_flight_is_what_has_yet_to_be_answered(mesh: MemoryMesh) -> None:
    client, worker = mesh.join("g"), mesh.join("w")
    to_worker = {"target": "DIRECT", "identifier": worker.id}
    for number in range(3):
        client.send(op=0, id=str(number), event="E", intent=to_worker, timeout=1000)
    worker.take()
    assert ask(worker, "WHOAMI")["data"]["in_flight"] == 3
    worker.send(op=5, id="1", intent={"target": "DIRECT", "identifier": client.id})
    assert ask(worker, "WHOAMI")["data"]["in_flight"] == 2


def test_services(mesh: MemoryMesh) -> None:
    clients = [mesh.join(group) for group in "aab"]
    mesh.connect()  # Not identified: nobody yet.
    listed = ask(clients[0], "SERVICES")["data"]["services"]
    assert [(one["id"], one["group"]) for one in listed] == [
        (client.id, group) for client, group in zip(clients, "aab", strict=True)
    ]
    assert listed[1] == ask(clients[1], "WHOAMI")["data"]


def test_stats_are_those_of_the_dispatcher() -> None:
    allowed = TokenSettings(hash_token(TOKEN), permissions=PermissionSettings(stats=True))
    mesh = MemoryMesh(Settings(tokens=(allowed,)))
    client = mesh.join("g")
    client.send(op=0, id="1", event="E", intent={"target": "GROUP", "identifier": "x"}, timeout=9)
    other = mesh.join("g")
    other.leave()
    client.take()
    data = ask(client, "STATS")["data"]
    assert data.keys() == {field.name for field in attrs.fields(Statistics)}
    expected = {
        "connections": 1,
        "identified": 1,
        "groups": 1,
        "frames_in": 3,
        "opened": 2,
        "closed": {"NO_REASON": 1},
        "refused": {"NO_ROUTE": 1},
    }
    assert {name: count for name, count in data.items() if count} == expected


@pytest.mark.parametrize("event", ["SERVICE", "services", " STATS", "x" * 128])
def test_an_unknown_event(mesh: MemoryMesh, event: str) -> None:
    answer = ask(mesh.join("g"), event, timeout=1000)
    assert answer.keys() == {"op", "id", "event", "source", "error"}
    assert (answer["id"], answer["event"]) == ("q", event)
    assert answer["error"] == {
        "code": "UNKNOWN_EVENT",
        "message": f"$broker knows SERVICES, WATCH, UNWATCH, STATS, WHOAMI, DRAIN, not {event!r}",
    }


@pytest.mark.parametrize("event", ["WHOAMI", "UNHEARD_OF"])
@pytest.mark.parametrize("timeout", [None, 1000])
def test_an_answer_never_passes_for_that_to_a_request_in_flight(
    mesh: MemoryMesh, event: str, timeout: int | None
) -> None:
    """A question to the broker with the id of a request to somebody else."""
    client, worker = mesh.join("g"), mesh.join("w")
    client.send(
        op=0,
        id="q",
        event="WORK",
        intent={"target": "DIRECT", "identifier": worker.id},
        timeout=1000,
    )
    answer = ask(client, event, timeout=timeout)
    assert "id" not in answer
    assert answer["event"] == event
    assert answer["error"]["code"] == "INVALID_FRAME"
    assert answer["error"]["id"] == "q"
    worker.send(op=5, id="q", data=1, intent={"target": "DIRECT", "identifier": client.id})
    (end,) = client.take()
    assert (end["id"], end["data"]) == ("q", 1)


def test_a_reply_to_the_broker_is_dropped(mesh: MemoryMesh) -> None:
    client = mesh.join("g")
    client.send(op=5, id="1", event="WHOAMI", intent=TO_BROKER)
    assert client.take() == []


@pytest.mark.parametrize("target", ["GROUP", "DIRECT"])
def test_nobody_else_is_called_by_a_name_of_the_brokers(mesh: MemoryMesh, target: str) -> None:
    client = mesh.join("g")
    identifier = "$broker" if target == "GROUP" else "$other"
    intent = {"target": target, "identifier": identifier}
    client.send(op=0, id="1", event="WHOAMI", intent=intent)
    (answer,) = client.take()
    assert answer["error"]["code"] == "NO_ROUTE"


# -- Watching --------------------------------------------------------------------------------------


def test_a_watcher_is_told_who_comes_and_goes(mesh: MemoryMesh) -> None:
    watcher = mesh.join("g")
    before = ask(watcher, "WATCH")["data"]
    assert [one["id"] for one in before["services"]] == [watcher.id]
    opening = mesh.connect()
    assert watcher.take() == [], "nobody has come until it is identified"
    opening.identify("w", name="n", concurrency=2)
    (up,) = watcher.take()
    assert up == {
        "op": 0,
        "event": "$up",
        "data": ask(opening_after_welcome(opening), "WHOAMI")["data"],
        "intent": {"target": "DIRECT", "identifier": watcher.id},
        "source": BROKER,
    }
    opening.leave()
    (down,) = watcher.take()
    assert down["event"] == "$down"
    assert down["data"] == {**up["data"], "reason": "NO_REASON"}


def opening_after_welcome(client: Client) -> Client:
    assert [frame["op"] for frame in client.take()] == [1]
    return client


def test_one_that_never_identified_neither_comes_nor_goes(mesh: MemoryMesh) -> None:
    watcher = mesh.join("g")
    ask(watcher, "WATCH")
    mesh.connect().leave()
    failed = mesh.connect()
    failed.send(op=1, data={"token": "wrong", "group": "g"})
    assert failed.gone
    assert watcher.take() == []


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda _mesh, client: client.leave(), Reason.NO_REASON),
        (lambda _mesh, client: client.send(op=2), Reason.NO_REASON),
        (lambda _mesh, client: client.send_bytes(b"["), Reason.INVALID_PAYLOAD),
        (lambda _mesh, client: client.send(op=9), Reason.UNKNOWN_OP),
        (lambda _mesh, client: client.identify("g"), Reason.ALREADY_IDENTIFIED),
    ],
)
def test_the_reason_why_somebody_went(mesh: MemoryMesh, act: Any, reason: Reason) -> None:
    watcher, client = mesh.join("g"), mesh.join("w")
    ask(watcher, "WATCH")
    act(mesh, client)
    (down,) = watcher.take()
    assert (down["event"], down["data"]["id"]) == ("$down", client.id)
    assert down["data"]["reason"] == reason


def test_one_that_hung_is_gone_for_that_reason() -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, timing=TimingSettings(ping_ms=1000)))
    watcher, client = mesh.join("g"), mesh.join("w")
    ask(watcher, "WATCH")
    mesh.pass_time(1.01)
    watcher.send(op=4)
    mesh.pass_time(1.01)
    events = [frame for frame in watcher.take() if frame["op"] == 0]
    assert [(one["event"], one["data"]["reason"]) for one in events] == [("$down", "PING_TIMEOUT")]
    assert events[0]["data"]["id"] == client.id


def test_watching_twice_is_watching_once(mesh: MemoryMesh) -> None:
    watcher = mesh.join("g")
    first, second = ask(watcher, "WATCH"), ask(watcher, "WATCH")
    assert first == second
    mesh.join("w")
    assert [frame["event"] for frame in watcher.take()] == ["$up"]
    assert ask(watcher, "UNWATCH")["data"] == {"watched": True}
    assert ask(watcher, "UNWATCH")["data"] == {"watched": False}
    mesh.join("w").leave()
    assert watcher.take() == []


def test_unwatching_without_watching(mesh: MemoryMesh) -> None:
    assert ask(mesh.join("g"), "UNWATCH")["data"] == {"watched": False}


def test_a_watcher_that_has_gone_is_told_nothing_more(mesh: MemoryMesh) -> None:
    watcher = mesh.join("g")
    ask(watcher, "WATCH")
    watcher.leave()
    mesh.join("w")
    assert watcher.take() == []


def test_watchers_watch_each_other(mesh: MemoryMesh) -> None:
    first, second = mesh.join("g"), mesh.join("g")
    ask(first, "WATCH")
    ask(second, "WATCH")
    second.leave()
    (down,) = first.take()
    assert down["data"]["id"] == second.id


def test_snapshot_and_changes_fit_together_in_one_batch(mesh: MemoryMesh) -> None:
    """Two leave, one before and one after the WATCH; one more watch begins in between."""
    watcher = mesh.join("g")
    early, late = mesh.join("w"), mesh.join("w")
    early.leave()
    frame = {"op": 0, "event": "WATCH", "intent": TO_BROKER}
    watcher.send_bytes(json.dumps(frame).encode() * 2)
    late.leave()
    first, second, down = watcher.take()
    alive = [watcher.id, late.id]
    for answer in (first, second):
        assert [one["id"] for one in answer["data"]["services"]] == alive
    assert down["data"]["id"] == late.id


def test_nobody_is_told_of_the_end_of_all(mesh: MemoryMesh) -> None:
    watcher, _ = mesh.join("g"), mesh.join("w")
    ask(watcher, "WATCH")
    mesh.dispatcher.close_all(Reason.SERVER_RESTART)
    (farewell,) = watcher.take()
    assert farewell["data"] == "SERVER_RESTART"
