"""Mistakes in the broker itself: each ends one connection, is counted and logged, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from broker.core.peer import Peer, PeerState
from broker.core.statistics import Counters
from broker.protocol.codec import Message
from broker.protocol.errors import Reason
from broker.transport.faults import Faults
from broker.transport.limited_log import LimitedLog
from tests.transport.rig import IDENTIFY, Far, Rig, event

GRANULE = 0.02


class Mistake(Exception):  # noqa: N818 - what it stands for is no error of anybody else
    """Something that should never happen."""


def make(_argument: object = None, *_more: object, **_others: object) -> None:
    raise Mistake("this should never happen")


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


def faults_in(logs: list[Any]) -> list[Any]:
    """Without the lines that tell of ends of connections."""
    return [entry for entry in logs if entry["log_level"] == "error"]


def breaks_for(
    monkeypatch: pytest.MonkeyPatch, thing: object, name: str, victim: Callable[..., bool]
) -> None:
    """Have a method make a mistake where `victim` says so of its arguments."""
    whole = getattr(thing, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if victim(*arguments):
            make()
        return whole(*arguments, **named)

    monkeypatch.setattr(thing, name, broken)


def request(receiver: str, id: str = "q") -> bytes:
    return event(receiver, id=id)[:-1] + b',"timeout":60000}'


def check_that_all_is_well(rig: Rig, *clients: Far) -> None:
    """Let everybody send to everybody."""
    for sender in clients:
        for receiver in clients:
            sender.send(event(receiver.id, id=f"{sender.id[:8]}"))
    rig.settle()
    for receiver in clients:
        came = [frame["id"] for frame in receiver.frames()]
        assert sorted(came) == sorted(sender.id[:8] for sender in clients)


def test_one_peer_is_ended_and_its_requests_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    victim, caller, callee = rig.join(), rig.join(), rig.join()
    caller.send(request(victim.id))
    victim.send(request(callee.id, "mine"))
    rig.settle()
    for client in (victim, callee):
        client.frames()
    breaks_for(monkeypatch, rig.dispatcher, "receive", lambda peer, *_: peer is victim.peer)

    victim.send(b'{"op":3}')
    rig.settle()

    (goodbye,) = victim.frames()
    assert goodbye["op"] == 2
    assert goodbye["data"] == "UNKNOWN_ERROR"
    assert victim.ended
    (answer,) = caller.frames()
    assert (answer["id"], answer["error"]["code"]) == ("q", "PEER_GONE")
    (cancelled,) = callee.frames()
    assert (cancelled["id"], cancelled["event"]) == ("mine", "$cancel")
    assert rig.dispatcher.counters.closed[Reason.UNKNOWN_ERROR] == 1
    assert rig.dispatcher.statistics().requests_in_flight == 0
    assert rig.dispatcher.statistics().faults == 1
    [told] = faults_in(logs)
    assert isinstance(told["exc_info"], Mistake)
    check_that_all_is_well(rig, caller, callee)


@pytest.mark.parametrize("websocket", [False, True])
def test_a_mistake_in_the_framing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, websocket: bool
) -> None:
    victim, other = rig.join(websocket=websocket), rig.join()
    kind = type(victim.connection.wire)
    breaks_for(monkeypatch, kind, "receive", lambda wire, *_: wire is victim.connection.wire)
    victim.send(b'{"op":3}')
    other.send(event(other.id))
    rig.settle()
    assert b"UNKNOWN_ERROR" in victim.receive()
    if websocket:
        assert (4000).to_bytes(2, "big") in bytes(victim.received)
    assert len(other.frames()) == 1
    victim.sock.close()
    rig.settle()
    assert len(rig.reactor) == 1


def test_a_mistake_in_what_was_read_at_the_door(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    other = rig.join()
    breaks_for(monkeypatch, rig.dispatcher, "receive", lambda peer, *_: peer is not other.peer)
    victim = rig.connect(IDENTIFY)
    assert [frame["data"] for frame in victim.frames()] == ["UNKNOWN_ERROR"]
    check_that_all_is_well(rig, other)


@pytest.mark.parametrize(
    "part", ["_service.left", "requests.left", "registry.remove", "_heartbeat.forget"]
)
def test_a_mistake_while_a_peer_is_taken_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The other steps are taken all the same: nobody is asked who can't answer."""
    victim, caller = rig.join(), rig.join()
    caller.send(request(victim.id))
    rig.settle()
    owner, _, name = part.partition(".")
    with monkeypatch.context() as patch:
        patch.setattr(getattr(rig.dispatcher, owner), name, make)
        victim.send(b'{"op":9}')
        rig.settle()

    assert victim.peer.state is PeerState.CLOSED
    assert [frame["data"] for frame in victim.frames()[1:]] == ["UNKNOWN_OP"]
    victim.sock.close()
    rig.settle()
    assert len(rig.reactor) == 1
    assert rig.dispatcher.statistics().connections == 1
    assert rig.dispatcher.counters.faults
    if part != "requests.left":
        (answer,) = caller.frames()
        assert answer["error"]["code"] == "PEER_GONE"
    if part != "registry.remove":
        caller.send(event(victim.id))
        rig.settle()
        assert [frame["error"]["code"] for frame in caller.frames()] == ["NO_ROUTE"]
    check_that_all_is_well(rig, caller)


@pytest.mark.parametrize("name", ["say_goodbye", "write"])
def test_a_mistake_while_taking_leave(rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No second attempt: the connection is closed."""
    victim, other = rig.join(), rig.join()
    kind = type(victim.connection)
    breaks_for(monkeypatch, kind, name, lambda connection: connection is victim.connection)
    victim.send(b'{"op":9}')
    rig.settle()
    victim.frames()
    assert victim.ended
    assert len(rig.reactor) == 1
    check_that_all_is_well(rig, other)


def test_a_mistake_while_writing_to_a_receiver(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the receiver's connection that ends, and the others of the batch get theirs."""
    sender, victim, other = rig.join(), rig.join(), rig.join()
    kind = type(victim.connection)
    breaks_for(monkeypatch, kind, "write", lambda connection: connection is victim.connection)
    sender.send(event(victim.id) + event(other.id))
    rig.settle()
    assert victim.peer.state is PeerState.CLOSED
    assert len(other.frames()) == 1
    check_that_all_is_well(rig, sender, other)


def test_answers_before_the_mistake_arrive(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has them as given: nobody else would ever tell those who asked."""
    callers = [rig.join() for _ in range(3)]
    victim = rig.join()
    for caller in callers:
        caller.send(request(victim.id))
    rig.settle()
    victim.frames()
    answers = [
        b'{"op":5,"id":"q","data":1,"intent":{"target":"DIRECT","identifier":"%b"}}'
        % caller.id.encode()
        for caller in callers
    ]
    breaks_for(
        monkeypatch,
        rig.dispatcher._exchange,
        "sole_receiver",
        lambda peer, message, *_: peer is victim.peer and message.op == 3,
    )
    victim.sock.sendall(b"\n".join([*answers, b'{"op":3}\n']))
    rig.settle()
    assert [frame["data"] for caller in callers for frame in caller.frames()] == [1, 1, 1]
    assert [frame["data"] for frame in victim.frames()] == ["UNKNOWN_ERROR"]


def test_a_mistake_while_delivering_to_one_of_many(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others get theirs, and nobody gets anything twice."""
    receivers = [rig.join() for _ in range(4)]
    sender = rig.join()
    breaks_for(
        monkeypatch,
        rig.dispatcher._exchange,
        "deliver_one",
        lambda _, receiver, *__: receiver is receivers[1].peer,
    )
    sender.sock.sendall(b"\n".join(event(receiver.id) for receiver in receivers) + b"\n")
    rig.settle()
    assert [len(receiver.frames()) for receiver in receivers] == [1, 0, 1, 1]


def test_a_mistake_in_what_falls_due(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    """It is tried again, not at once and not never."""
    client = rig.join()
    silent = rig.connect()
    with monkeypatch.context() as patch:
        patch.setattr(rig.dispatcher, "tick", make)
        rig.tick(5 + GRANULE)
        assert rig.now < rig.reactor._timer_deadline <= rig.now + 1
        assert rig.dispatcher.counters.faults == 1
    assert len(rig.reactor) == 2
    rig.tick(1)
    assert [frame["data"] for frame in silent.frames()] == ["IDENTIFY_TIMEOUT"]
    assert len(faults_in(logs)) == 1
    rig.tick(30)
    assert client.frames() == [{"op": 3}]


def test_a_mistake_while_slow_receivers_are_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client = rig.join()
    with monkeypatch.context() as patch:
        patch.setattr(rig.dispatcher, "settle", make)
        rig.dispatcher.effects.overfull[client.peer] = None
        rig.reactor.flush()
    rig.dispatcher.effects.overfull.clear()
    assert rig.dispatcher.counters.faults == 1
    check_that_all_is_well(rig, client)


def test_the_same_mistake_again_and_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    clients = [rig.join() for _ in range(20)]

    def receive(peer: Peer, messages: Sequence[Message], now: float) -> None:
        make()

    monkeypatch.setattr(rig.dispatcher, "receive", receive)
    for client in clients[:-1]:
        client.send(b'{"op":3}')
    rig.settle()
    assert rig.dispatcher.counters.faults == 19
    assert len(faults_in(logs)) == 1
    rig.now += 61
    clients[-1].send(b'{"op":3}')
    rig.settle()
    assert [entry.get("withheld") for entry in faults_in(logs)] == [None, 18]


def test_two_mistakes_are_logged_each(logs: list[Any]) -> None:
    faults = Faults(Counters(), LimitedLog(lambda: 0.0))
    for mistake in (make, lambda: 1 // 0):
        for _ in range(2):
            try:
                mistake()
            except (Mistake, ZeroDivisionError) as error:
                faults.report(error, "testing")
    faults.report(Mistake("never raised"), "testing")
    assert [entry["doing"] for entry in logs] == ["testing"] * 3
