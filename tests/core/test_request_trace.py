"""Every step of every request is told to whoever asked for it; each end is told once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from broker.core.calls import Call, CallLedger
from broker.core.dispatcher import Dispatcher
from broker.core.peer import Peer
from broker.core.settings import Settings, TimingSettings
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh


@attrs.define
class Steps:
    """What was told."""

    told: list[tuple[Any, ...]] = attrs.field(factory=list)

    def asked(self, call: Call, callees: Sequence[Peer]) -> None:
        self.told.append(("asked", call.id, *(callee.id for callee in callees)))

    def handed_on(self, call: Call, callee: Peer, seconds: float) -> None:
        self.told.append(("handed on", call.id, callee.id, round(seconds, 3)))

    def ended(self, call: Call, callee: Peer | None, outcome: str, seconds: float) -> None:
        whom = None if callee is None else callee.id
        self.told.append(("ended", call.id, whom, outcome, round(seconds, 1)))


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def mesh(steps: Steps) -> MemoryMesh:
    mesh = MemoryMesh()
    settings = Settings(tokens=TOKENS, timing=TimingSettings(ping_ms=10**9))
    mesh.dispatcher = Dispatcher(settings, trace=steps)
    return mesh


ONE = {"target": "GROUP", "identifier": "work", "pick": "ONE"}
ALL = {"target": "GROUP", "identifier": "work"}


def ask(client: Client, id: str, intent: dict[str, str], timeout: int = 1000) -> None:
    client.send(op=0, id=id, event="ASK", intent=intent, timeout=timeout)


def answer(client: Client, requester: Client, id: str) -> None:
    intent = {"target": "DIRECT", "identifier": requester.id}
    client.send(op=5, id=id, data=1, intent=intent)


def test_a_request_that_is_answered(mesh: MemoryMesh, steps: Steps) -> None:
    requester, worker = mesh.join("web"), mesh.join("work")
    ask(requester, "q", ONE)
    mesh.now += 0.2
    answer(worker, requester, "q")
    assert steps.told == [("asked", "q", worker.id), ("ended", "q", worker.id, "ANSWERED", 0.2)]


def test_a_request_that_waits(mesh: MemoryMesh, steps: Steps) -> None:
    requester, worker = mesh.join("web"), mesh.join("work", concurrency=1)
    ask(requester, "a", ONE)
    ask(requester, "b", ONE)
    mesh.now += 0.3
    answer(worker, requester, "a")
    assert steps.told[1:] == [
        ("asked", "b"),
        ("ended", "a", worker.id, "ANSWERED", 0.3),
        ("handed on", "b", worker.id, 0.3),
    ]


def test_a_request_that_expires(mesh: MemoryMesh, steps: Steps) -> None:
    requester, worker = mesh.join("web"), mesh.join("work")
    ask(requester, "q", ONE)
    mesh.pass_time(1.25)
    assert steps.told[1:] == [("ended", "q", worker.id, "EXPIRED", 1.2)]


def test_a_gather(mesh: MemoryMesh, steps: Steps) -> None:
    requester, *workers = (mesh.join(group) for group in ("web", "work", "work", "work"))
    ask(requester, "q", ALL)
    answer(workers[0], requester, "q")
    workers[1].leave()
    mesh.pass_time(2)
    assert steps.told == [
        ("asked", "q", *(worker.id for worker in workers)),
        ("ended", "q", workers[0].id, "ANSWERED", 0.0),
        ("ended", "q", workers[1].id, "PEER_GONE", 0.0),
        ("ended", "q", workers[2].id, "EXPIRED", 2.0),
    ]


def test_a_request_that_is_given_up(mesh: MemoryMesh, steps: Steps) -> None:
    requester, _worker = mesh.join("web"), mesh.join("work")
    ask(requester, "a", ONE)
    ask(requester, "b", ONE)
    requester.send(op=0, id="a", event="$cancel")
    requester.leave()
    assert steps.told[2:] == [
        ("ended", "a", None, "CANCELLED", 0.0),
        ("ended", "b", None, "CANCELLED", 0.0),
    ]


def test_a_refused_request_is_none(mesh: MemoryMesh, steps: Steps) -> None:
    requester = mesh.join("web")
    ask(requester, "q", ONE)
    assert steps.told == []


def test_where_nobody_asked_nothing_is_there_that_could_tell() -> None:
    assert type(MemoryMesh().dispatcher.requests.ledger) is CallLedger
