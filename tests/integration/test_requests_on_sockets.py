"""Requests through real sockets: wrong values, answers that are none, gathers, watchers, drain.

Each wrong frame gets one clear error, the connection stays, and no request is lost by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from broker.core.settings import LimitSettings, TimingSettings
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import (
    DOORS,
    EVENT,
    PONG,
    REPLY,
    Broker,
    Client,
    compact,
    until,
)

both_doors = pytest.mark.parametrize("door", ["tcp", "websockets"])

BROKER = {"id": "$broker", "group": "$broker"}
TO_BROKER = {"target": "DIRECT", "identifier": "$broker"}
ALL = {"target": "GROUP", "identifier": "workers"}
ONE = {**ALL, "pick": "ONE"}


def direct(client: Client) -> dict[str, Any]:
    return {"target": "DIRECT", "identifier": client.id}


async def ask(
    client: Client, id: str, intent: object, timeout: object = 60_000, event: str = "ASK"
) -> None:
    frame = {"op": EVENT, "id": id, "event": event, "intent": intent, "timeout": timeout}
    await client.send(compact(frame))


async def answer(callee: Client, requester: Client, id: str | None, data: object = "ok") -> None:
    frame = {"op": REPLY, "id": id, "event": "ASK", "data": data, "intent": direct(requester)}
    await callee.send(compact(frame))


async def nothing_more(*clients: Client) -> None:
    """Ask for a sign of life: it is all that comes."""
    for client in clients:
        await client.send(b'{"op":3}')
        assert await client.receive_json() == {"op": PONG}


async def error_of(client: Client) -> tuple[str | None, str, dict[str, Any]]:
    """Receive an error; return the id that it has, its code, and all of it."""
    frame = await client.receive_json()
    assert (frame["op"], frame["source"]) == (REPLY, BROKER), frame
    assert "data" not in frame
    return frame.get("id"), frame["error"]["code"], frame["error"]


async def is_asked(callee: Client, id: str) -> None:
    frame = await callee.receive_json()
    assert (frame["op"], frame["event"], frame["id"]) == (EVENT, "ASK", id), frame


async def is_answered(requester: Client, id: str, data: object = "ok") -> None:
    frame = await requester.receive_json()
    assert (frame["op"], frame.get("id"), frame.get("data")) == (REPLY, id, data), frame


class Scene:
    """A request in flight, which must survive whatever else happens."""

    def __init__(self, requester: Client, worker: Client, stranger: Client) -> None:
        self.requester, self.worker, self.stranger = requester, worker, stranger

    async def close(self) -> None:
        """See it end as it should, and nothing besides."""
        await answer(self.worker, self.requester, "first")
        await is_answered(self.requester, "first")
        await nothing_more(self.requester, self.worker, self.stranger)


async def set_scene(broker: Broker, door: str) -> Scene:
    scene = Scene(
        await broker.join(door, "requesters"),
        await broker.join("unix", "workers"),
        await broker.join(door, "strangers"),
    )
    await ask(scene.requester, "first", ONE)
    await is_asked(scene.worker, "first")
    return scene


# -- Wrong values ----------------------------------------------------------------------------------


@both_doors
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0", "timeout: expected int >= 1"),
        ("-1", "timeout: expected int >= 1"),
        ("86400001", "timeout: expected int <= 86400000"),
        ("1.5", "timeout: expected int | null, got float"),
        ("1e3", "timeout: expected int | null, got float"),
        ("1" + "0" * 30, "timeout: "),
        ("-1" + "0" * 30, "timeout: "),
        ("9223372036854775808", "timeout: expected int <= 86400000"),
        ('"1000"', "timeout: expected int | null, got str"),
        ("true", "timeout: expected int | null, got bool"),
        ("false", "timeout: expected int | null, got bool"),
        ("[]", "timeout: expected int | null, got array"),
        ("{}", "timeout: expected int | null, got object"),
    ],
)
async def test_timeouts_that_are_none(
    broker: Broker, bystanders: Bystanders, door: str, text: str, problem: str
) -> None:
    scene = await set_scene(broker, door)
    frame = f'{{"op":0,"id":"1","event":"ASK","intent":{compact(ONE).decode()},"timeout":{text}}}'
    await scene.requester.send(frame.encode())
    id, code, error = await error_of(scene.requester)
    assert (id, code) == ("1", "INVALID_FRAME")
    assert error["message"].startswith(problem)
    await nothing_more(scene.worker)
    await scene.close()
    await bystanders.check()


@both_doors
async def test_a_timeout_of_null_is_none(broker: Broker, door: str) -> None:
    scene = await set_scene(broker, door)
    await ask(scene.requester, "1", ONE, None)
    frame = await scene.worker.receive_json()
    assert "timeout" not in frame
    assert len(broker.server.dispatcher.requests.ledger) == 1
    await scene.close()


@both_doors
@pytest.mark.parametrize("timeout", [1, 86_400_000])
async def test_the_shortest_and_the_longest_timeout(
    broker: Broker, mock_clock: MockClock, door: str, timeout: int
) -> None:
    scene = await set_scene(broker, door)
    await ask(scene.requester, "1", ONE, timeout)
    assert (await scene.worker.receive_json())["timeout"] == timeout
    await scene.close()


@both_doors
@pytest.mark.parametrize(
    ("intent", "problem"),
    [
        ({"key": 1}, "intent.key: expected str | null, got int"),
        ({"key": ["k"]}, "intent.key: expected str | null, got array"),
        ({"key": True}, "intent.key: expected str | null, got bool"),
        ({"key": ""}, "intent.key: expected str of length >= 1"),
        ({"key": "k" * 129}, "intent.key: expected str of length <= 128"),
        ({"pick": "SOME"}, "intent.pick: 'SOME' is none of ALL, ONE"),
        ({"pick": "one"}, "intent.pick: 'one' is none of ALL, ONE"),
        ({"pick": ""}, "intent.pick: '' is none of ALL, ONE"),
        ({"pick": 1}, "intent.pick: "),
        ({"pick": ["ONE"]}, "intent.pick: "),
        ({"target": "GLOBAL"}, "intent.pick: ONE is for GROUP only"),
        ({"identifier": ""}, "intent.identifier: GROUP needs a group's name"),
        ({"identifier": None}, "intent.identifier: GROUP needs a group's name"),
        ({"identifier": "g" * 129}, "intent.identifier: expected str of length <= 128"),
        ({"target": "DIRECT", "identifier": None}, "intent.identifier: DIRECT needs a connection"),
    ],
)
async def test_intents_that_are_none(
    broker: Broker, bystanders: Bystanders, door: str, intent: dict[str, Any], problem: str
) -> None:
    scene = await set_scene(broker, door)
    await ask(scene.requester, "1", {**ONE, **intent})
    id, code, error = await error_of(scene.requester)
    assert (id, code) == ("1", "INVALID_INTENT")
    assert error["message"].startswith(problem)
    await nothing_more(scene.worker)
    await scene.close()
    await bystanders.check()


@both_doors
@pytest.mark.parametrize("key", ["k", "k" * 128, "\U0001f511" * 128, "\0", " "])
async def test_keys_of_all_kinds(broker: Broker, door: str, key: str) -> None:
    scene = await set_scene(broker, door)
    await ask(scene.requester, "1", {**ONE, "key": key})
    frame = await scene.worker.receive_json()
    assert frame["intent"]["key"] == key
    await answer(scene.worker, scene.requester, "1")
    await is_answered(scene.requester, "1")
    await scene.close()


@both_doors
async def test_names_of_the_brokers(broker: Broker, bystanders: Bystanders, door: str) -> None:
    scene = await set_scene(broker, door)
    requester = scene.requester
    for event in ("$up", "$expect", "$", "$CANCEL", "$cancel "):
        for op in (EVENT, REPLY):
            frame = {"op": op, "id": "1", "event": event, "intent": ONE, "timeout": 1000}
            await requester.send(compact(frame))
            id, code, error = await error_of(requester)
            assert (id, code) == ("1", "INVALID_FRAME")
            rule = "names that begin with $ are the broker's own"
            assert error["message"] == f"event: {event!r}: {rule}"
    await requester.send(compact({"op": REPLY, "id": "1", "event": "$cancel", "intent": ONE}))
    assert (await error_of(requester))[:2] == ("1", "INVALID_FRAME")
    for intent in (
        {"target": "GROUP", "identifier": "$broker"},
        {"target": "GROUP", "identifier": "$broker", "pick": "ONE"},
        {"target": "GROUP", "identifier": "$", "pick": "ONE", "key": "$"},
        {"target": "DIRECT", "identifier": "$"},
        {"target": "DIRECT", "identifier": "$Broker"},
    ):
        await ask(requester, "1", intent)
        assert (await error_of(requester))[:2] == ("1", "NO_ROUTE")
    await scene.close()
    await bystanders.check()


@both_doors
async def test_nobody_joins_a_group_of_the_brokers(broker: Broker, door: str) -> None:
    client = await broker.connect(door)
    data = {"token": "correct horse battery staple", "group": "$broker"}
    await client.send(compact({"op": 1, "data": data}))
    assert (await client.receive_end()).reason == "IDENTIFY_FAILED"


@both_doors
@pytest.mark.parametrize("event", ["SERVICE", "$cancelled", "ASK"])
async def test_an_event_that_the_broker_does_not_know(
    broker: Broker, door: str, event: str
) -> None:
    scene = await set_scene(broker, door)
    for id in ("1", "first"):
        await ask(scene.requester, id, TO_BROKER, 1000, event)
        told, code, error = await error_of(scene.requester)
        if event.startswith("$") or id == "first":
            assert code == "INVALID_FRAME"
        else:
            assert code == "UNKNOWN_EVENT"
        # With the id of the request in flight, it would pass for the end of it.
        assert (told, error.get("id")) == (("1", None) if id == "1" else (None, "first"))
    await scene.close()


# -- Who may answer what ---------------------------------------------------------------------------


@both_doors
async def test_a_request_to_oneself(broker: Broker, door: str) -> None:
    client = await broker.join(door, "workers", concurrency=1)
    for id, intent in (("1", direct(client)), ("2", ONE), ("3", {**ONE, "key": "k"})):
        await ask(client, id, intent)
        await is_asked(client, id)
        await answer(client, client, id)
        await is_answered(client, id)
    # One that it does not answer, and gives up.
    await ask(client, "4", direct(client))
    await is_asked(client, "4")
    await client.send(b'{"op":0,"event":"$cancel","id":"4"}')
    assert (await client.receive_json())["event"] == "$cancel"
    await nothing_more(client)
    # And a gather from oneself alone.
    await ask(client, "5", ALL)
    assert (await client.receive_json())["event"] == "$expect"
    await is_asked(client, "5")
    await answer(client, client, "5")
    await is_answered(client, "5")
    assert len(broker.server.dispatcher.requests.ledger) == 0


@both_doors
async def test_an_id_that_is_in_flight(broker: Broker, bystanders: Bystanders, door: str) -> None:
    scene = await set_scene(broker, door)
    for intent in (ONE, ALL, {"target": "GLOBAL"}, direct(scene.worker), direct(scene.requester)):
        await ask(scene.requester, "first", intent)
        id, code, error = await error_of(scene.requester)
        assert (id, code, error["id"]) == (None, "INVALID_FRAME", "first")
        assert error["message"] == (
            "id: 'first' is the id of a request of yours that is still in flight"
        )
    # Other mistakes with it don't end the request either.
    await ask(scene.requester, "first", {"target": "DIRECT", "identifier": "nobody"})
    id, code, error = await error_of(scene.requester)
    assert (id, code, error["id"]) == (None, "NO_ROUTE", "first")
    await ask(scene.requester, "first", ONE, 0)
    id, code, error = await error_of(scene.requester)
    assert (id, code, error["id"]) == (None, "INVALID_FRAME", "first")
    await scene.close()
    await bystanders.check()


@both_doors
async def test_the_answer_of_one_that_was_not_asked(broker: Broker, door: str) -> None:
    scene = await set_scene(broker, door)
    await answer(scene.stranger, scene.requester, "first", "mine")
    id, code, error = await error_of(scene.stranger)
    assert (id, code) == ("first", "FORBIDDEN")
    assert error["message"] == "id: 'first' is a request that you were not asked"
    await nothing_more(scene.requester)
    await scene.close()


@both_doors
@pytest.mark.parametrize(
    "intent",
    [
        {"target": "GLOBAL"},
        {"target": "GROUP", "identifier": "requesters"},
        {"target": "GROUP", "identifier": "requesters", "pick": "ONE"},
    ],
)
async def test_an_answer_to_many(broker: Broker, door: str, intent: dict[str, str]) -> None:
    scene = await set_scene(broker, door)
    frame = compact({"op": REPLY, "id": "first", "event": "ASK", "data": 1, "intent": intent})
    for client, code in ((scene.worker, "INVALID_INTENT"), (scene.stranger, "FORBIDDEN")):
        await client.send(frame)
        assert (await error_of(client))[:2] == ("first", code)
    await nothing_more(scene.requester)
    await scene.close()


@both_doors
async def test_late_and_second_answers_are_dropped_and_counted(
    broker: Broker, mock_clock: MockClock, door: str
) -> None:
    scene = await set_scene(broker, door)
    requester, worker = scene.requester, scene.worker
    await ask(requester, "expires", ONE, 100)
    await is_asked(worker, "expires")
    mock_clock.jump(0.12)
    assert (await error_of(requester))[:2] == ("expires", "EXPIRED")
    await ask(requester, "cancelled", ONE)
    await is_asked(worker, "cancelled")
    await requester.send(b'{"op":0,"event":"$cancel","id":"cancelled"}')
    frame = await worker.receive_json()
    assert (frame["event"], frame["id"]) == ("$cancel", "cancelled")
    assert frame["source"] == {"id": requester.id, "group": "requesters"}
    await ask(requester, "answered", ONE)
    await is_asked(worker, "answered")
    await answer(worker, requester, "answered")
    await is_answered(requester, "answered")
    for number, id in enumerate(("expires", "cancelled", "answered", "answered"), 1):
        await answer(worker, requester, id, "late")
        await nothing_more(worker, requester)
        assert broker.server.dispatcher.statistics().late_replies == number
    await scene.close()


@both_doors
async def test_a_reply_without_an_id_answers_nothing(broker: Broker, door: str) -> None:
    scene = await set_scene(broker, door)
    for id in (None, "unheard of"):
        await answer(scene.worker, scene.requester, id, "by the way")
        frame = await scene.requester.receive_json()
        assert (frame.get("id"), frame["data"]) == (id, "by the way")
        assert frame["source"]["id"] == scene.worker.id
    await scene.close()


@both_doors
async def test_giving_up_what_is_not_ones_own(broker: Broker, door: str) -> None:
    scene = await set_scene(broker, door)
    for client in (scene.stranger, scene.worker):
        for unknown in ("first", "unheard of"):
            await client.send(compact({"op": EVENT, "event": "$cancel", "id": unknown}))
    await scene.requester.send(b'{"op":0,"event":"$cancel","id":"unheard of"}')
    await nothing_more(scene.requester, scene.worker, scene.stranger)
    for client in (scene.requester, scene.stranger):
        await client.send(b'{"op":0,"event":"$cancel"}')
        id, code, error = await error_of(client)
        assert (id, code) == (None, "INVALID_FRAME")
        assert error["message"] == "id: say which request to give up"
    assert broker.server.dispatcher.statistics().cancelled == 0
    await scene.close()


# -- Gather ----------------------------------------------------------------------------------------


async def expect(requester: Client, id: str, members: Sequence[Client], group: str) -> None:
    frame = await requester.receive_json()
    assert (frame["op"], frame["id"], frame["event"]) == (REPLY, id, "$expect")
    assert frame["source"] == BROKER
    told = frame["data"]["members"]
    assert told == [{"id": member.id, "group": group} for member in members]


@both_doors
@pytest.mark.parametrize("number", [0, 1, 30])
async def test_gather(broker: Broker, door: str, number: int) -> None:
    requester = await broker.join(door, "requesters")
    workers = [await broker.join(DOORS[n % len(DOORS)], "workers") for n in range(number)]
    await ask(requester, "1", ALL)
    if not workers:
        assert (await error_of(requester))[:2] == ("1", "NO_ROUTE")
    else:
        await expect(requester, "1", workers, "workers")
    for worker in workers:
        await is_asked(worker, "1")
        await answer(worker, requester, "1", worker.id)
    answers = [await requester.receive_json() for _ in workers]
    assert sorted(frame["data"] for frame in answers) == sorted(worker.id for worker in workers)
    assert all(frame["data"] == frame["source"]["id"] for frame in answers)
    await nothing_more(requester, *workers)
    assert len(broker.server.dispatcher.requests.ledger) == 0


@both_doors
async def test_gather_from_all(broker: Broker, door: str) -> None:
    requester = await broker.join(door, "g", echo=False)
    others = [await broker.join(kind, "g") for kind in DOORS]
    await ask(requester, "1", {"target": "GLOBAL"})
    await expect(requester, "1", others, "g")
    for other in others:
        await is_asked(other, "1")
        await answer(other, requester, "1")
        await is_answered(requester, "1")
    await nothing_more(requester)


@both_doors
async def test_gather_from_members_that_fail(
    broker: Broker, mock_clock: MockClock, door: str
) -> None:
    requester = await broker.join(door, "requesters")
    workers = [await broker.join(DOORS[n % len(DOORS)], "workers") for n in range(6)]
    twice, dies, leaves, hangs, goes_wrong, too_late = workers
    await ask(requester, "1", ALL, 500)
    await expect(requester, "1", workers, "workers")
    for worker in workers:
        await is_asked(worker, "1")
    for data in ("once", "twice"):
        await answer(twice, requester, "1", data)
    await is_answered(requester, "1", "once")
    await dies.hang_up()
    id, code, error = await error_of(requester)
    assert (id, code, error["member"]) == ("1", "PEER_GONE", dies.id)
    await leaves.send(b'{"op":2}')
    id, code, error = await error_of(requester)
    assert (id, code, error["member"]) == ("1", "PEER_GONE", leaves.id)
    await goes_wrong.send(b'{"op":9}')
    id, code, error = await error_of(requester)
    assert (id, code, error["member"]) == ("1", "PEER_GONE", goes_wrong.id)
    await nothing_more(requester)
    mock_clock.jump(0.52)
    ends = [await error_of(requester) for _ in range(2)]
    assert {(id, code) for id, code, _ in ends} == {("1", "EXPIRED")}
    assert {error["member"] for _, _, error in ends} == {hangs.id, too_late.id}
    await answer(too_late, requester, "1")
    await nothing_more(too_late, requester, twice)
    statistics = broker.server.dispatcher.statistics()
    assert statistics.late_replies == 2
    assert statistics.failed == {"PEER_GONE": 3, "EXPIRED": 2}
    assert statistics.requests_in_flight == 0


# -- Watching --------------------------------------------------------------------------------------


@both_doors
async def test_watching_while_fifty_come_and_go(broker: Broker, door: str) -> None:
    """The snapshot and the changes after it fit together, whenever the watch begins."""
    watched: list[tuple[set[str], list[tuple[str, str]]]] = []

    async def come_and_go(number: int, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        for _ in range(4):
            client = await broker.join(DOORS[number % len(DOORS)], "passers-by")
            if number % 3:
                await client.send(b'{"op":2}')
                await client.receive_end()
            else:
                await client.hang_up()

    async def watch(watcher: Client) -> None:
        await ask(watcher, "w", TO_BROKER, 60_000, "WATCH")
        frame = await watcher.receive_json()
        snapshot = {one["id"] for one in frame["data"]["services"]}
        assert len(snapshot) == len(frame["data"]["services"])
        changes: list[tuple[str, str]] = []
        watched.append((snapshot, changes))
        while True:
            frame = await watcher.receive_json()
            if frame["op"] == REPLY:
                assert frame["data"] == {"watched": True}
                return
            changes.append((frame["event"], frame["data"]["id"]))

    staying = [await broker.join(kind, "staying") for kind in DOORS]
    watchers = [await broker.join(door, "watchers") for _ in range(5)]
    async with trio.open_nursery() as watching:
        async with trio.open_nursery() as passing:
            for number in range(50):
                if number % 10 == 5:
                    watching.start_soon(watch, watchers[number // 10])
                await passing.start(come_and_go, number)
        # All have gone: what comes from here on is the end.
        await until(lambda: len(broker.server.dispatcher.registry) == len(staying + watchers))
        for watcher in watchers:
            await ask(watcher, "u", TO_BROKER, 60_000, "UNWATCH")
    assert len(watched) == 5
    for snapshot, changes in watched:
        there = set(snapshot)
        for event, id in changes:
            if event == "$up":
                assert id not in there, "came twice"
                there.add(id)
            else:
                assert event == "$down"
                there.remove(id)
        assert there == {client.id for client in staying + watchers}
        assert len([id for event, id in changes if event == "$up"]) == len(
            {id for event, id in changes if event == "$up"}
        )


@both_doors
async def test_watching_and_unwatching_twice(broker: Broker, door: str) -> None:
    watcher = await broker.join(door, "watchers")
    for _ in range(2):
        await ask(watcher, "1", TO_BROKER, 1000, "WATCH")
        frame = await watcher.receive_json()
        assert [one["id"] for one in frame["data"]["services"]] == [watcher.id]
    passer_by = await broker.join("tcp", "g")
    assert (await watcher.receive_json())["event"] == "$up"
    for known in (True, False):
        await ask(watcher, "2", TO_BROKER, 1000, "UNWATCH")
        assert (await watcher.receive_json())["data"] == {"watched": known}
    await passer_by.send(b'{"op":2}')
    await passer_by.receive_end()
    await nothing_more(watcher)


# -- Drain -----------------------------------------------------------------------------------------


@both_doors
async def test_drain(start_broker: StartBroker, mock_clock: MockClock, door: str) -> None:
    """One request in hand is answered; one hangs, one waits, a gather lacks one of two."""
    broker = await start_broker(timing=TimingSettings(drain_ms=10_000))
    requester = await broker.join(door, "requesters")
    workers = [await broker.join(kind, "workers", concurrency=2) for kind in ("tcp", "websockets")]
    await ask(requester, "gather", ALL)
    await expect(requester, "gather", workers, "workers")
    for id in ("1", "2", "3"):
        await ask(requester, id, ONE)
    held: dict[str, Client] = {}
    for worker in workers:
        await is_asked(worker, "gather")
        held[(await worker.receive_json())["id"]] = worker
    assert held.keys() == {"1", "2"}
    broker.server.drain()
    await until(lambda: broker.server.dispatcher.requests.ledger.draining)

    for intent in (ONE, ALL, {"target": "GLOBAL"}, direct(workers[0])):
        await ask(requester, "new", intent)
        assert (await error_of(requester))[:2] == ("new", "DRAINING")
    await answer(held["1"], requester, "1")
    await is_answered(requester, "1")
    # What waited is handed out yet; nobody will answer it.
    await is_asked(held["1"], "3")
    await answer(held["2"], requester, "gather")
    await is_answered(requester, "gather")
    mock_clock.jump(5.1)

    end = await requester.receive_end()
    errors = {}
    for message in end.before:
        frame = read_error(message)
        assert frame["error"]["code"] == "DRAINING"
        errors[frame["id"]] = frame["error"]["member"]
    assert errors == {"2": held["2"].id, "3": held["1"].id, "gather": held["1"].id}
    assert len(end.before) == 3
    assert end.reason == "SERVER_RESTART"
    for worker in workers:
        end = await worker.receive_end()
        assert (end.before, end.reason) == ([], "SERVER_RESTART")
    await until(lambda: broker.connections() == 0)


def read_error(message: bytes) -> Any:
    frame = json.loads(message)
    assert (frame["op"], frame["source"]) == (REPLY, BROKER)
    return frame


# -- Bounds ----------------------------------------------------------------------------------------


@both_doors
async def test_too_many_requests(start_broker: StartBroker, door: str) -> None:
    limits = LimitSettings(requests_per_connection=3, requests=4, waiting_per_group=1)
    broker = await start_broker(limits=limits)
    first, second = await broker.join(door, "requesters"), await broker.join("unix", "requesters")
    worker = await broker.join("tcp", "workers", concurrency=1)
    for number in ("1", "2", "3"):
        await ask(first, number, ONE)
    id, code, error = await error_of(first)
    assert (id, code) == ("3", "OVERLOADED")
    assert error["message"] == "group 'workers' is at its concurrency, and 1 requests wait"
    for number in ("4", "5"):
        await ask(first, number, direct(worker))
    id, code, error = await error_of(first)
    assert (id, code) == ("5", "OVERLOADED")
    assert error["message"] == "this connection has 3 requests in flight"
    for number in ("6", "7"):
        await ask(second, number, direct(worker))
    id, code, error = await error_of(second)
    assert (id, code) == ("7", "OVERLOADED")
    assert error["message"] == "the broker has 4 requests in flight"
    for number, requester in (("1", first), ("4", first), ("6", second)):
        await is_asked(worker, number)
        await answer(worker, requester, number)
        await is_answered(requester, number)
    await is_asked(worker, "2")
    await answer(worker, first, "2")
    await is_answered(first, "2")
    await nothing_more(first, second, worker)
