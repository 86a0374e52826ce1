"""Times the broker's data plane over socket pairs; run by `benchmarks.metrics_cost`.

Uses nothing but what has been there for long, so that older checkouts can be measured too.
"""

import json
import socket
import sys
import time

import trio

from broker.core import settings as settings_module
from broker.core.authentication import hash_token
from broker.core.dispatcher import Dispatcher
from broker.core.settings import Settings, TokenSettings
from broker.protocol.json_stream import JsonStream
from broker.transport.connection import Connection
from broker.transport.reactor import Reactor

TOKEN = "benchmark"
MESSAGE_BYTES = 1 << 20
FAR = 1e9


class Pair:
    """Two clients of the broker, and what they say to each other."""

    def __init__(self, plane: "Plane", number: int, batch: int, *, requests: bool) -> None:
        self.asker, asker_id = plane.connect("askers")
        self.callee, callee_id = plane.connect("callees")
        timeout = {"timeout": 60_000} if requests else {}
        questions, answers = [], []
        for index in range(batch):
            id = f"{number}-{index}"
            to, back = ({"target": "DIRECT", "identifier": x} for x in (callee_id, asker_id))
            text = "x" * 128
            questions.append(
                {"op": 0, "id": id, "event": "E", "data": text, "intent": to} | timeout
            )
            answers.append(
                {"op": 5 if requests else 0, "id": id, "event": "E", "data": text}
                | {"intent": back}
            )
        self.question, self.answer = (
            b"".join(json.dumps(frame).encode() + b"\n" for frame in frames)
            for frames in (questions, answers)
        )


class Plane:
    """The reactor, and its other ends."""

    def __init__(self, metrics: bool) -> None:
        ops = getattr(settings_module, "OpsSettings", None)
        more = {} if ops is None else {"ops": ops(metrics=metrics)}
        settings = Settings(tokens=(TokenSettings(hash_token(TOKEN)),), **more)
        self.dispatcher = Dispatcher(settings)
        self.reactor = Reactor(self.dispatcher, settings, time.monotonic)
        self.reactor.guests = 1  # So that it does not wait for more.

    def turn(self) -> None:
        """Handle all there is."""
        while self.reactor.poll_once(time.monotonic()):
            pass

    def connect(self, group: str) -> tuple[socket.socket, str]:
        """Return a client's socket, and its id."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        wire = JsonStream(MESSAGE_BYTES)
        peer = self.dispatcher.open(wire, "unix", 0.0, FAR)
        self.reactor.adopt(Connection(theirs, wire, peer), b"")
        ours.send(json.dumps({"op": 1, "data": {"token": TOKEN, "group": group}}).encode() + b"\n")
        self.turn()
        answer = json.loads(ours.recv(4096))
        return ours, answer["data"]["id"]


def cost_of(plane: Plane, pairs: list[Pair], batch: int, turns: int) -> float:
    """Return the nanoseconds of a message."""
    spent = 0
    turn, now = plane.turn, time.process_time_ns
    for number in range(turns):
        if number % 256 == 0:
            # In the midst of a load, a turn of the reactor has very many polls.
            plane.reactor._take_turn()
        for sender, receiver, text in (
            ("asker", "callee", "question"),
            ("callee", "asker", "answer"),
        ):
            for pair in pairs:
                getattr(pair, sender).send(getattr(pair, text))
            begun = now()
            turn()
            spent += now() - begun
            for pair in pairs:
                while len(getattr(pair, receiver).recv(1 << 20)) == 1 << 20:
                    pass
    return spent / (2 * turns * batch * len(pairs))


async def main() -> None:
    """Print what each kind of traffic costs, as JSON."""
    metrics, turns = sys.argv[1] == "on", int(sys.argv[2])
    costs = {}
    for name, count, batch, requests in (
        ("events, 256 at a time", 1, 256, False),
        ("events of 16 pairs, one at a time", 16, 1, False),
        ("requests, 256 at a time", 1, 256, True),
        ("requests of 16 pairs, one at a time", 16, 1, True),
    ):
        plane = Plane(metrics)
        pairs = [Pair(plane, number, batch, requests=requests) for number in range(count)]
        # The broker looks once a second at how much it has to do.
        warm = time.monotonic() + 1.2
        while time.monotonic() < warm:
            cost_of(plane, pairs, batch, 20)
        share = turns // 4 if batch > 1 else turns
        costs[name] = round(cost_of(plane, pairs, batch, share), 1)
    print(json.dumps(costs))


trio.run(main)
