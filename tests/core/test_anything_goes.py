"""Whatever identified members say, in whatever order: nothing raises, and the books balance.

What each of them has to see is the business of other tests. This one is about what nobody thought
of: it says everything that can be said, most of it nonsense. `SWITCHBOARD_TEST_SCALE` makes it
longer.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from broker.core.settings import LimitSettings, Settings, TimingSettings
from tests.core.ledger_books import check_ledger
from tests.core.memory_mesh import TOKEN, TOKENS, Client, MemoryMesh

SCALE = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))
STEPS = int(5000 * SCALE)

# Everything is scarce, so that every bound is met.
SETTINGS = Settings(
    tokens=TOKENS,
    timing=TimingSettings(ping_ms=2000, stall_ms=1000),
    limits=LimitSettings(
        message_bytes=16_384,
        requests_per_connection=8,
        requests=40,
        waiting_per_group=4,
        waiting_bytes=10_000,
        outbox_high_bytes=4096,
        outbox_bytes=20_000,
    ),
)
EVENTS = ["E"] * 10 + ["$cancel", "$up", "WATCH", "UNWATCH", "SERVICES", "STATS", "WHOAMI"]


class Crowd:
    """Some members, who say anything."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.mesh = MemoryMesh(SETTINGS)
        self.alive: list[Client] = []

    def step(self) -> None:
        """Let something happen."""
        dice = self.dice
        chance = dice.random()
        if len(self.alive) < 2 or (chance < 0.03 and len(self.alive) < 10):
            self.join()
        elif chance < 0.06:
            self.leave(dice.choice(self.alive))
        elif chance < 0.12:
            self.mesh.pass_time(dice.choice([0.01, 0.1, 0.5, 1, 2, 5]))
        else:
            frames = [self.make_frame() for _ in range(dice.choice([1, 1, 1, 3, 8]))]
            dice.choice(self.alive).send_bytes("".join(map(json.dumps, frames)).encode())
        for client in self.alive:
            if client.gone or dice.random() < 0.5:
                client.take()
        self.alive = [client for client in self.alive if not client.gone]

    def join(self) -> None:
        said: dict[str, Any] = {
            "token": TOKEN,
            "group": self.dice.choice("abc"),
            "echo": self.dice.random() < 0.6,
            "concurrency": self.dice.choice([None, 1, 2]),
        }
        client = self.mesh.connect()
        client.send(op=1, data=said)
        self.alive.append(client)

    def leave(self, client: Client) -> None:
        manner = self.dice.choice(["lost", "goodbye", "unknown op", "garbage", "twice"])
        if manner == "lost":
            client.leave()
        elif manner == "garbage":
            client.send_bytes(b"x")
        else:
            client.send(op={"goodbye": 2, "unknown op": 9, "twice": 1}[manner])

    def make_frame(self) -> dict[str, Any]:
        dice = self.dice
        frame: dict[str, Any] = {"op": dice.choice([0, 0, 0, 5, 5, 3, 4])}
        if dice.random() < 0.9:
            frame["id"] = dice.choice(["1", "2", "3", None, 7])
        if dice.random() < 0.9:
            frame["event"] = dice.choice(EVENTS)
        if dice.random() < 0.9:
            frame["intent"] = self.make_intent()
        if dice.random() < 0.6:
            frame["timeout"] = dice.choice([0, 1, 10, 1000, 70_000, 86_400_000])
        if dice.random() < 0.3:
            frame["data"] = "x" * dice.choice([1, 100, 2000])
        if dice.random() < 0.1:
            frame["error"] = {"code": "X"}
        if dice.random() < 0.02:
            frame["source"] = {"id": "a", "group": "b"}
        return frame

    def make_intent(self) -> dict[str, Any]:
        dice = self.dice
        ids = [client.id for client in self.alive]
        intent: dict[str, Any] = {
            "target": dice.choice(["GLOBAL", "GROUP", "GROUP", "DIRECT", "DIRECT", "X"]),
            "identifier": dice.choice(["a", "b", "c", "", None, "$broker", *ids]),
        }
        if dice.random() < 0.4:
            intent["pick"] = dice.choice(["ONE", "ONE", "ALL", None])
        if dice.random() < 0.3:
            intent["key"] = dice.choice("kl")
        return intent

    def check(self) -> None:
        """Compare the books: each entry stands in every place where it has to, and no other."""
        dispatcher = self.mesh.dispatcher
        statistics = dispatcher.statistics()
        peers = {client.peer for client in self.alive}
        assert statistics.connections == statistics.identified == len(peers)
        assert set(dispatcher.registry) == peers
        check_ledger(dispatcher.requests, peers)
        assert statistics.requests_in_flight == len(dispatcher.requests.ledger)
        for peer in peers:
            assert 0 <= peer.stalls <= len(peers)
            assert peer.outbox_bytes == sum(map(len, peer.outbox)) <= 20_000


@pytest.mark.parametrize("seed", range(3))
def test_nothing_raises_and_the_books_balance(seed: int) -> None:
    crowd = Crowd(seed)
    for _ in range(STEPS):
        crowd.step()
        crowd.check()
    for client in crowd.alive:
        client.leave()
    crowd.alive.clear()
    crowd.check()
    assert not crowd.mesh.dispatcher.flow._senders
    assert crowd.mesh.dispatcher.statistics().requests > STEPS / 20
