"""DRAIN: no new requests, those in hand end, then a goodbye."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.access_settings import PermissionSettings
from broker.core.authentication import hash_token
from broker.core.draining import DRAINED, GOODBYE_STEP, goodbyes_at_a_time
from broker.core.settings import Settings, TimingSettings, TokenSettings
from tests.core.memory_mesh import TOKEN, Client, MemoryMesh

ALLOWED = TokenSettings(hash_token(TOKEN), permissions=PermissionSettings(drain=True))
ONE = {"target": "GROUP", "identifier": "work", "pick": "ONE"}
ALL = {"target": "GROUP", "identifier": "work"}
BROKER = {"target": "DIRECT", "identifier": "$broker"}


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh(Settings(tokens=(ALLOWED,), timing=TimingSettings(drain_ms=4000)))


@pytest.fixture
def operator(mesh: MemoryMesh) -> Client:
    return mesh.join("operators", echo=False)


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


def ask(requester: Client, id: str, intent: dict[str, Any]) -> None:
    requester.send(op=0, id=id, event="ASK", intent=intent, timeout=60_000)


def drain(operator: Client, data: Any) -> dict[str, Any]:
    operator.send(op=0, id="d", event="DRAIN", data=data, intent=BROKER, timeout=1000)
    (answer,) = operator.take()
    return answer


def answer(worker: Client, requester: Client, id: str) -> None:
    worker.send(op=5, id=id, data="done", intent=direct(requester))


def codes(client: Client) -> list[tuple[str, str]]:
    return [(frame["id"], frame.get("error", {}).get("code", "ok")) for frame in client.take()]


def test_it_takes_a_permission() -> None:
    mesh = MemoryMesh()
    answer = drain(mesh.join("web"), {"broker": True})
    assert answer["error"]["code"] == "FORBIDDEN"
    assert "drain = true" in answer["error"]["message"]
    assert mesh.dispatcher.counters.denied == 1


def test_requests_in_hand_end_and_then_it_is_told_to_leave(
    mesh: MemoryMesh, operator: Client
) -> None:
    web, work, other = mesh.join("web"), mesh.join("work"), mesh.join("work")
    ask(web, "1", direct(work))
    work.take()
    assert drain(operator, {"id": work.id})["data"] == {"draining": 1}
    for number in range(4):
        ask(web, f"q{number}", ONE)
    ask(web, "all", ALL)
    ask(web, "direct", direct(work))
    assert work.take() == []
    assert len(other.take()) == 5
    assert ("direct", "DRAINING") in codes(web)
    mesh.pass_time(1)
    assert not work.gone
    answer(work, web, "1")
    assert codes(web) == [("1", "ok")]
    mesh.pass_time(0.1)
    (goodbye,) = work.take()
    assert (goodbye["op"], goodbye["data"]) == (2, "NO_REASON")
    assert goodbye["error"]["message"] == DRAINED
    assert not other.gone


def test_its_own_requests_are_waited_for(mesh: MemoryMesh, operator: Client) -> None:
    work, store = mesh.join("work"), mesh.join("store")
    ask(work, "1", direct(store))
    drain(operator, {"group": "work"})
    mesh.pass_time(1)
    assert not work.gone
    answer(store, work, "1")
    mesh.pass_time(0.1)
    assert work.gone


def test_after_the_time_for_it_they_have_to_go(mesh: MemoryMesh, operator: Client) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    ask(web, "1", direct(work))
    drain(operator, {"group": "work"})
    mesh.pass_time(3.9)
    assert not work.gone
    mesh.pass_time(0.2)
    assert work.gone
    assert codes(web) == [("1", "PEER_GONE")]


def test_a_group_of_which_all_are_draining_takes_no_requests(
    mesh: MemoryMesh, operator: Client
) -> None:
    web = mesh.join("web")
    workers = [mesh.join("work") for _ in range(2)]
    for number, worker in enumerate(workers):
        ask(web, str(number), direct(worker))
        worker.take()
    assert drain(operator, {"group": "work"})["data"] == {"draining": 2}
    ask(web, "one", ONE)
    ask(web, "all", ALL)
    assert codes(web) == [("one", "DRAINING"), ("all", "DRAINING")]
    # What nobody waits for is handed on as before, and with ONE to one of them.
    web.send(op=0, id="e", event="E", intent=ONE)
    assert sum(len(worker.take()) for worker in workers) == 1


def test_those_that_come_later_are_not_drained(mesh: MemoryMesh, operator: Client) -> None:
    web, old = mesh.join("web"), mesh.join("work")
    ask(web, "1", ONE)
    drain(operator, {"group": "work"})
    new = mesh.join("work")
    ask(web, "2", ONE)
    assert [frame["id"] for frame in new.take()] == ["2"]
    answer(old, web, "1")
    mesh.pass_time(0.1)
    assert old.gone
    assert not new.gone


def test_requests_that_waited_for_it_go_elsewhere(mesh: MemoryMesh, operator: Client) -> None:
    web = mesh.join("web")
    first, second = mesh.join("work", concurrency=1), mesh.join("work", concurrency=1)
    for id in ("1", "2", "3"):
        ask(web, id, {**ONE, "key": "k"})
    owner, other = (first, second) if first.take() else (second, first)
    other.take()
    drain(operator, {"id": owner.id})
    assert [frame["id"] for frame in other.take()] == ["2"]


def test_services_show_it(mesh: MemoryMesh, operator: Client) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    ask(web, "1", direct(work))
    drain(operator, {"group": "work"})
    operator.send(op=0, id="s", event="SERVICES", intent=BROKER)
    (listing,) = operator.take()
    shown = {entry["group"]: entry["draining"] for entry in listing["data"]["services"]}
    assert shown == {"operators": False, "web": False, "work": True}


def test_draining_twice_does_no_harm(mesh: MemoryMesh, operator: Client) -> None:
    work = mesh.join("work")
    drain(operator, {"group": "work"})
    assert drain(operator, {"group": "work"})["data"] == {"draining": 1}
    mesh.pass_time(0.1)
    assert work.gone
    assert drain(operator, {"group": "work"})["error"]["code"] == "NO_ROUTE"


def test_one_that_drains_itself_gets_its_answer(mesh: MemoryMesh, operator: Client) -> None:
    assert drain(operator, {"group": "operators"})["data"] == {"draining": 1}
    mesh.pass_time(0.1)
    assert operator.gone


def test_the_whole_broker(mesh: MemoryMesh, operator: Client) -> None:
    told: list[str] = []
    mesh.dispatcher.drains.drain_broker = lambda: told.append("drain")
    assert drain(operator, {"broker": True})["data"] == {"draining": 1}
    assert told == ["drain"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "work",
        {},
        {"group": 1},
        {"broker": False},
        {"broker": "yes"},
        {"group": "work", "broker": True},
        {"group": "work", "id": "x"},
        {"groups": "work"},
    ],
)
def test_what_makes_no_sense_is_refused(mesh: MemoryMesh, operator: Client, data: Any) -> None:
    work = mesh.join("work")
    answer = drain(operator, data)
    assert answer["error"]["code"] == "BAD_REQUEST"
    assert '{"group": NAME}' in answer["error"]["message"]
    mesh.pass_time(1)
    assert not work.gone


@pytest.mark.parametrize("data", [{"group": "nobody"}, {"id": "nobody"}, {"id": ""}])
def test_nobody_there(operator: Client, data: Any) -> None:
    assert drain(operator, data)["error"]["code"] == "NO_ROUTE"


def test_goodbyes_are_spread_as_newcomers_are_let_in() -> None:
    assert goodbyes_at_a_time(3, 2.5, 1000) == 10
    assert goodbyes_at_a_time(0, 2.5, 1) == 1
    most = goodbyes_at_a_time(65_536, 2.5, 1000)
    assert 65_536 / most * GOODBYE_STEP <= 2.5
    assert goodbyes_at_a_time(500, 0.0, 1000) == 500
