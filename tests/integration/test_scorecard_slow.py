"""Who does not read is cut; the others get everything in time, and the memory has its bound."""

from __future__ import annotations

import os
import select
import statistics
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.broker_process import broker_process
from tests.integration.crowd import Crowd, Member, frame, peak_memory, resident_memory

pytestmark = pytest.mark.alone

# `SWITCHBOARD_TEST_SCALE=10` makes the flood last for half a minute and more.
SCALE: Final = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))

MIB: Final = 1 << 20
BROKER: Final = {"target": "DIRECT", "identifier": "$broker"}

# -- One stalled reader among a hundred ------------------------------------------------------------

# Each is a message for a hundred receivers in two groups. The stalled one is past any mark halfway.
ROUNDS: Final = round(240 * SCALE)
WINDOWS: Final = 3
SIZE: Final = 8000

# At the stall time, the publisher has waited for it once: that is one message of all.
STALL: Final = (
    "[limits]\nmessage_bytes = 16384\noutbox_high_bytes = 262144\n[timing]\nstall_ms = 500\n"
)
LIMIT: Final = (
    "[limits]\nmessage_bytes = 16384\noutbox_high_bytes = 262144\noutbox_bytes = 262144\n"
)


class Group:
    """A publisher and a hundred receivers; a round is one message that has come to all who read."""

    def __init__(self, crowd: Crowd, port: int, name: str) -> None:
        self._crowd = crowd
        self._name = name
        (self.publisher,) = crowd.join(port, f"{name} publishers")
        self.readers = crowd.join(port, name, 100, buffer=65_536)
        self.times: list[float] = []
        self._number = 0

    def stall(self) -> Member:
        """Let one of them read no more."""
        stalled = self.readers.pop()
        self._crowd.ignore(stalled)
        return stalled

    def round(self) -> None:
        message = frame(
            op=0,
            id=str(self._number),
            event="E",
            data="x" * SIZE,
            intent={"target": "GROUP", "identifier": self._name},
        )
        waiting = set(self.readers)
        start = time.monotonic()
        self.publisher.send(message)

        def on_read(member: Member) -> None:
            if member.received.endswith(b"\n"):
                (received,) = member.take()
                assert received["id"] == str(self._number), "nothing is left out or doubled"
                assert len(received["data"]) == SIZE
                waiting.discard(member)
                self.times.append(time.monotonic() - start)

        self._crowd.read_until(lambda: not waiting, on_read)
        self._number += 1


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


@pytest.mark.parametrize(
    "settings",
    [STALL, LIMIT],
    ids=["at the stall time", "at the limit"],
)
def test_one_stalled_reader_among_a_hundred(tmp_path: Path, settings: str) -> None:
    """Both groups live in the same broker at the same time, so both see the same machine."""
    with broker_process(tmp_path, settings) as broker, Crowd() as crowd:
        healthy = Group(crowd, broker.port, "healthy")
        afflicted = Group(crowd, broker.port, "afflicted")
        for group in (healthy, afflicted):
            group.round()
            group.times.clear()
        stalled = afflicted.stall()
        (watcher,) = crowd.join(broker.port, "watchers")
        crowd.ignore(watcher)
        watcher.send(frame(op=0, event="WATCH", intent=BROKER))
        ratios = []
        everything: tuple[list[float], list[float]] = [], []
        frames: list[Any] = []
        for _ in range(WINDOWS):
            for _ in range(ROUNDS // WINDOWS):
                healthy.round()
                afflicted.round()
                if not frames and watcher.read() and is_down(stalled, watcher.take()):
                    frames = stalled.read_to_the_end()
            ratios.append(p99(afflicted.times) / p99(healthy.times))
            for group, times in zip((afflicted, healthy), everything, strict=True):
                times += group.times
                group.times.clear()
    ratio = p99(everything[0]) / p99(everything[1])
    windows = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"p99 with a stalled reader ÷ without: {ratio:.2f} (in windows: {windows})")
    # What it was sent before is whole and in order; the others have checked theirs as it came.
    *before, last = frames
    assert (last["op"], last["data"]) == (2, "SLOW_CONSUMER")
    ids = [int(message["id"]) for message in before]
    assert ids == list(range(1, len(ids) + 1))
    assert len(afflicted.readers) == 99
    assert statistics.median(ratios) <= 2


def is_down(member: Member, frames: list[Any]) -> bool:
    """Whether a watcher was told that somebody was cut for being slow."""
    downs = [message["data"] for message in frames if message["event"] == "$down"]
    assert all(down["id"] == member.id for down in downs)
    assert all(down["reason"] == "SLOW_CONSUMER" for down in downs)
    return bool(downs)


# -- Thousands of them -----------------------------------------------------------------------------

CONSUMERS: Final = 2000
SECONDS: Final = 3 * SCALE
CUT: Final = 300
BUDGET: Final = 16 * MIB

SETTINGS: Final = f"""
[limits]
message_bytes = 65536
outbox_high_bytes = {2 * MIB}
outbox_bytes = {4 * MIB}
outboxes_bytes = {BUDGET}
connections_per_address = 10000
"""


class Flood:
    """Sends GLOBAL events as fast as the broker takes them; meanwhile it is told who was cut."""

    def __init__(self, port: int, size: int) -> None:
        self._member = Member(port, "senders", echo=False)
        self._member.welcome()
        self._member.send(frame(op=0, event="WATCH", intent=BROKER))
        self._block = frame(op=0, event="E", data="x" * size, intent={"target": "GLOBAL"}) * 50
        self._cut: deque[str] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        # While somebody is slowed down for its sake, the broker does not read.
        poller = select.poll()
        poller.register(self._member.sock, select.POLLIN | select.POLLOUT)
        rest = self._block
        while not self._stopped.is_set():
            for _, events in poller.poll(100):
                if events & select.POLLIN:
                    self._read()
                if events & select.POLLOUT:
                    rest = rest[self._member.sock.send(rest) :] or self._block

    def _read(self) -> None:
        self._member.read()
        for message in self._member.take():
            if message["event"] == "$down":
                assert message["data"]["reason"] == "SLOW_CONSUMER"
                self._cut.append(message["data"]["id"])

    def cut(self) -> list[str]:
        """Return some that have been cut since the last time."""
        return [self._cut.popleft() for _ in range(min(100, len(self._cut)))]

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._member.close()


@pytest.mark.parametrize("size", [400, 4000], ids=["small events", "larger events"])
def test_thousands_of_slow_consumers_under_a_flood(tmp_path: Path, size: int) -> None:
    """Whoever is cut is replaced at once, so that there are always so many."""
    replaced = 0
    with broker_process(tmp_path, SETTINGS) as broker, Crowd() as crowd:
        crowd.join(broker.port, "slow", CONSUMERS, buffer=4096)
        baseline = resident_memory(broker.pid)
        with Flood(broker.port, size) as flood:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or replaced < CUT:
                assert time.monotonic() < end + 60, "the flood was none"
                for member in crowd.members:
                    member.read(500)
                    member.received.clear()
                by_id = {member.id: member for member in crowd.members}
                for id in flood.cut():
                    crowd.leave(by_id[id])
                    crowd.join(broker.port, "slow", buffer=4096)
                    replaced += 1
                time.sleep(0.25)  # That is what makes them slow.
        peak = peak_memory(broker.pid)
        assert "Traceback" not in broker.log
    print(f"baseline {baseline >> 20} MiB, peak {peak >> 20} MiB, {replaced} were cut")
    assert peak <= (baseline + BUDGET) * 1.2
