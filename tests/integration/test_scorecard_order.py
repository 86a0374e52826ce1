"""Whoever breaks away during a broadcast takes nothing from the others, and order holds."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.broker_process import broker_process
from tests.integration.crowd import Crowd, Member, frame

# `SWITCHBOARD_TEST_SCALE=10` makes it a million messages.
SCALE: Final = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))

CROWD: Final = {"target": "GROUP", "identifier": "crowd"}


class Sender(threading.Thread):
    """Sends frames as fast as the broker takes them."""

    def __init__(self, member: Member, frames: list[bytes]) -> None:
        super().__init__()
        self._member = member
        self._frames = frames

    def run(self) -> None:
        self._member.sock.settimeout(60)
        for start in range(0, len(self._frames), 200):
            self._member.sock.sendall(b"".join(self._frames[start : start + 200]))


def test_resets_in_the_middle_of_a_broadcast(tmp_path: Path) -> None:
    """One after the other of a crowd resets its connection while large events come to all."""
    number = round(1500 * SCALE)
    frames = [
        frame(op=0, id=str(n), event="E", data="x" * 3000, intent=CROWD) for n in range(number)
    ]
    received: dict[Member, list[int]] = {}
    with broker_process(tmp_path) as broker, Crowd() as crowd:
        (publisher,) = crowd.join(broker.port, "publishers")
        staying = crowd.join(broker.port, "crowd", 10)
        leaving = crowd.join(broker.port, "crowd", 40)
        received = {member: [] for member in (*staying, *leaving)}
        sender = Sender(publisher, frames)
        sender.start()

        def on_read(member: Member) -> None:
            received[member] += [int(message["id"]) for message in member.take()]
            # By the time the first has half of all, the last one of these has gone.
            if leaving and len(received[staying[0]]) > number * (40 - len(leaving)) / 80:
                gone = leaving.pop()
                crowd.ignore(gone)
                crowd.members.remove(gone)
                gone.reset()

        crowd.read_until(lambda: all(len(received[m]) >= number for m in staying), on_read)
        sender.join()
        assert not leaving
        assert "Traceback" not in broker.log
    for member in staying:
        assert received[member] == list(range(number))
    assert sum(len(ids) < number for ids in received.values()) > 20, "in the middle"
    for member, ids in received.items():
        assert ids == list(range(len(ids))), f"{member.id} saw something else before it left"


@pytest.mark.parametrize("shape", ["direct", "mixed"])
def test_no_inversions_in_a_million_messages(tmp_path: Path, shape: str) -> None:
    """From each of several senders to each of several receivers, whatever the intents are."""
    number = round(50_000 * SCALE)
    with broker_process(tmp_path) as broker, Crowd() as crowd:
        senders = crowd.join(broker.port, "senders", 4, echo=False)
        receivers = crowd.join(broker.port, "crowd", 2)
        expected: dict[tuple[str, str], int] = {}
        for sender in senders:
            for receiver in receivers:
                expected[sender.id, receiver.id] = 0
        threads = []
        total = 0
        for index, sender in enumerate(senders):
            dice = random.Random(index)
            frames = []
            counts = dict.fromkeys((receiver.id for receiver in receivers), 0)
            for _ in range(number // len(senders)):
                receiver = dice.choice(receivers)
                intents: list[dict[str, Any]] = [{"target": "DIRECT", "identifier": receiver.id}]
                if shape == "mixed":
                    intents += [CROWD]
                intent = dice.choice(intents)
                reached = [m.id for m in receivers] if intent is CROWD else [receiver.id]
                data = {id: counts[id] for id in reached}
                for id in reached:
                    counts[id] += 1
                total += len(reached)
                frames.append(
                    frame(op=dice.choice((0, 0, 0, 5)), id="n", event="E", data=data, intent=intent)
                )
            threads.append(Sender(sender, frames))
        for thread in threads:
            thread.start()
        seen = 0

        def on_read(member: Member) -> None:
            nonlocal seen
            for message in member.take():
                if message["source"]["group"] != "senders":
                    raise AssertionError(message)
                way = message["source"]["id"], member.id
                assert message["data"][member.id] == expected[way], "an inversion, or a gap"
                expected[way] += 1
                seen += 1

        crowd.read_until(lambda: seen == total, on_read)
        for thread in threads:
            thread.join()
    print(f"{seen} messages, no inversion")
