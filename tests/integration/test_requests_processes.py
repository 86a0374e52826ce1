"""A callee that is a process of its own, and is killed, or frozen and thawed again.

The broker's time is trio's mock clock; the callee has none.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from broker.core.settings import LimitSettings, TimingSettings
from tests.integration.conftest import StartBroker
from tests.integration.mesh import DOORS, EVENT, PONG, REPLY, TOKEN, Broker, Client, compact, until

# Answers ECHO and PING at once and nothing else ever; tells what it sees.
CALLEE = """
import json, socket, sys

port, token, group = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)))


def send(**frame):
    connection.sendall(json.dumps(frame).encode() + b"\\n")


send(op=1, data={"token": token, "group": group})
held = 0
for line in connection.makefile("rb"):
    frame = json.loads(line)
    if frame["op"] == 0 and frame["event"] == "ECHO":
        to = {"target": "DIRECT", "identifier": frame["source"]["id"]}
        send(op=5, id=frame["id"], data="echo", intent=to)
    elif frame["op"] == 0:
        held += 1
        print("holds", held, flush=True)
    elif frame["op"] == 1:
        print("is", frame["data"]["id"], flush=True)
    elif frame["op"] == 2:
        print("was sent away:", frame["data"], flush=True)
    elif frame["op"] == 3:
        send(op=4)
print("is disconnected", flush=True)
"""


class Callee:
    """A process with one connection."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.id = ""
        self._output = b""

    async def says(self, words: str) -> str:
        """Wait for a line that begins so; return the rest of it."""
        assert self.process.stdout is not None
        while True:
            line, end, rest = self._output.partition(b"\n")
            if end:
                self._output = rest
                if line.decode().startswith(words):
                    return line.decode().removeprefix(words).strip()
            else:
                more = await self.process.stdout.receive_some()
                assert more, f"the callee ended before it said {words!r}"
                self._output += more

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def callee_of(broker: Broker, group: str) -> AsyncIterator[Callee]:
    command = [sys.executable, "-c", CALLEE, str(broker.port), TOKEN, group]
    process = await trio.lowlevel.open_process(command, stdout=PIPE)
    try:
        callee = Callee(process)
        callee.id = await callee.says("is")
        yield callee
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


def request(id: str, intent: dict[str, Any], *, timeout: int, event: str = "HOLD") -> bytes:
    return compact({"op": EVENT, "id": id, "event": event, "intent": intent, "timeout": timeout})


async def nothing_more(client: Client) -> None:
    """Ask for a sign of life: it is all that comes."""
    await client.send(b'{"op":3}')
    assert await client.receive_json() == {"op": PONG}


def nothing_in_flight(broker: Broker) -> bool:
    requests = broker.server.dispatcher.requests
    peers = list(broker.server.dispatcher.registry)
    return (
        len(requests.ledger) == 0
        and not list(requests.ledger)
        and requests.waiting_bytes == 0
        and not any(peer.asked or peer.working for peer in peers)
    )


async def test_a_callee_killed_with_a_thousand_requests_in_flight(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    broker = await start_broker()
    async with callee_of(broker, "doomed") as callee:
        callers = [await broker.join(door, "callers") for door in DOORS * 4]
        intents: list[dict[str, Any]] = [
            {"target": "DIRECT", "identifier": callee.id},
            {"target": "GROUP", "identifier": "doomed", "pick": "ONE"},
            {"target": "GROUP", "identifier": "doomed", "pick": "ONE", "key": "k"},
        ]
        for number in range(1000):
            caller = callers[number % len(callers)]
            await caller.send(request(str(number), intents[number % 3], timeout=86_400_000))
        while await callee.says("holds") != "1000":
            pass
        assert len(broker.server.dispatcher.requests.ledger) == 1000
        callee.process.kill()

        ended = []
        for caller in callers:
            for _ in range(1000 // len(callers)):
                frame = await caller.receive_json()
                assert (frame["op"], frame["event"]) == (REPLY, "HOLD")
                assert frame["error"]["code"] == "PEER_GONE"
                assert frame["error"]["member"] == callee.id
                assert frame["source"] == {"id": "$broker", "group": "$broker"}
                ended.append(int(frame["id"]))
            await nothing_more(caller)
    assert sorted(ended) == list(range(1000))
    assert nothing_in_flight(broker)
    statistics = broker.server.dispatcher.statistics()
    assert statistics.failed == {"PEER_GONE": 1000}
    assert (statistics.requests, statistics.cancelled) == (1000, 0)


async def test_a_killed_callee_leaves_what_waits_to_the_others(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    """Those that it had in hand end; those that wait for anybody go on waiting, and are served."""
    broker = await start_broker()
    async with callee_of(broker, "workers") as callee:
        caller = await broker.join("tcp", "callers")
        intent = {"target": "GROUP", "identifier": "workers", "pick": "ONE"}
        await caller.send(request("doomed", intent, timeout=60_000))
        await callee.says("holds")
        worker = await broker.join("websockets", "workers", concurrency=1)
        await caller.send(request("1", {"target": "DIRECT", "identifier": worker.id}, timeout=9999))
        assert (await worker.receive_json())["id"] == "1"
        callee.process.kill()
        assert (await caller.receive_json())["error"]["code"] == "PEER_GONE"
        await caller.send(request("2", intent, timeout=60_000))
        await nothing_more(caller)
        to_caller = {"target": "DIRECT", "identifier": caller.id}
        for id in ("1", "2"):
            answer = {"op": REPLY, "id": id, "data": id, "intent": to_caller}
            if id == "2":
                assert (await worker.receive_json())["id"] == "2"
            await worker.send(compact(answer))
            assert (await caller.receive_json())["data"] == id
    assert nothing_in_flight(broker)


async def test_a_killed_caller_makes_room(start_broker: StartBroker, mock_clock: MockClock) -> None:
    """Here the process is not the callee but the one that asks; its callee is told."""
    broker = await start_broker()
    worker = await broker.join("tcp", "workers")
    command = (
        "import json,socket,sys\n"
        "c=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n"
        "frames=[{'op':1,'data':{'token':sys.argv[2],'group':'doomed'}}]\n"
        "to={'target':'GROUP','identifier':'workers','pick':'ONE'}\n"
        "frames+=[{'op':0,'id':str(n),'event':'HOLD','intent':to,'timeout':60000}"
        " for n in range(1000)]\n"
        "c.sendall(''.join(map(json.dumps,frames)).encode())\n"
        "while c.recv(65536): pass\n"
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", command, str(broker.port), TOKEN]
    )
    try:
        asked = [(await worker.receive_json())["id"] for _ in range(1000)]
    finally:
        process.kill()
        await process.wait()
    cancelled = [await worker.receive_json() for _ in range(1000)]
    assert {frame["event"] for frame in cancelled} == {"$cancel"}
    assert [frame["id"] for frame in cancelled] == asked == [str(n) for n in range(1000)]
    await nothing_more(worker)
    assert nothing_in_flight(broker)


@pytest.mark.parametrize("after_goodbye", [False, True])
async def test_a_callee_that_freezes(
    start_broker: StartBroker, mock_clock: MockClock, after_goodbye: bool
) -> None:
    broker = await start_broker(timing=TimingSettings(ping_ms=1000))
    async with callee_of(broker, "g") as callee:
        caller = await broker.join("tcp", "callers")
        other = await broker.join("websockets", "g")
        to_callee = {"target": "DIRECT", "identifier": callee.id}
        await caller.send(request("0", to_callee, timeout=60_000, event="ECHO"))
        assert (await caller.receive_json())["data"] == "echo"
        callee.freeze()
        await caller.send(request("1", to_callee, timeout=500, event="ECHO"))
        await caller.send(request("2", to_callee, timeout=60_000, event="ECHO"))
        await nothing_more(caller)
        mock_clock.jump(0.49)
        await nothing_more(caller)
        mock_clock.jump(0.02)
        frame = await caller.receive_json()
        assert (frame["id"], frame["error"]["code"]) == ("1", "EXPIRED")
        assert frame["error"]["member"] == callee.id

        # What is asked for now goes to the other, as long as that has no more to do.
        one = {"target": "GROUP", "identifier": "g", "pick": "ONE"}
        to_caller = {"target": "DIRECT", "identifier": caller.id}
        for number in range(10):
            await caller.send(request(f"soon {number}", one, timeout=60_000, event="ECHO"))
            id = (await other.receive_json())["id"]
            await other.send(compact({"op": REPLY, "id": id, "data": "ok", "intent": to_caller}))
            assert (await caller.receive_json())["id"] == f"soon {number}"

        # The heartbeat: a PING, and no answer to it.
        frozen = broker.server.dispatcher.registry.by_id[callee.id]
        for _ in range(2):
            mock_clock.jump(0.7)
            await nothing_more(caller)
            await nothing_more(other)
        mock_clock.jump(0.7)
        await until(lambda: callee.id not in broker.server.dispatcher.registry.by_id)
        frame = await caller.receive_json()
        assert (frame["id"], frame["error"]["code"]) == ("2", "PEER_GONE")
        assert broker.server.dispatcher.statistics().closed == {"PING_TIMEOUT": 1}
        assert not frozen.working
        assert nothing_in_flight(broker)
        for number in range(10):
            await caller.send(request(f"late {number}", one, timeout=60_000, event="ECHO"))
            assert (await other.receive_json())["id"] == f"late {number}"
        await caller.send(request("gone", to_callee, timeout=60_000))
        assert (await caller.receive_json())["error"]["code"] == "NO_ROUTE"

        if after_goodbye:
            mock_clock.jump(2.1)
            await until(lambda: broker.connections() == 2)
        callee.thaw()
        # It answers what it finds in its socket; nobody sees that.
        if not after_goodbye:
            assert await callee.says("was sent away:") == "PING_TIMEOUT"
            await callee.says("is disconnected")
            await nothing_more(caller)
        assert await callee.process.wait() == 0 or after_goodbye
    statistics = broker.server.dispatcher.statistics()
    assert statistics.failed == {"EXPIRED": 1, "PEER_GONE": 1}


async def test_a_frozen_callee_is_not_asked_for_more_than_it_takes(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    """Requests that wait are served by whoever comes, while it stays silent."""
    broker = await start_broker(limits=LimitSettings(waiting_per_group=5))
    async with callee_of(broker, "g") as callee:
        callee.freeze()
        caller = await broker.join("unix", "callers")
        one = {"target": "GROUP", "identifier": "g", "pick": "ONE"}
        for number in range(20):
            await caller.send(request(str(number), one, timeout=100))
        await nothing_more(caller)
        mock_clock.jump(0.12)
        codes = [(await caller.receive_json())["error"]["code"] for _ in range(20)]
        assert codes == ["EXPIRED"] * 20
        worker = await broker.join("tcp", "g")
        for number in range(20):
            await caller.send(request(str(number), one, timeout=60_000))
            assert (await worker.receive_json())["id"] == str(number)
        callee.thaw()
    assert broker.server.dispatcher.statistics().late_replies == 0
