"""Who is stalled for whom, and for how long: case by case, and against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.core.deadlines import Alarm
from broker.core.flow import Flow
from broker.core.peer import Effects, Peer
from broker.core.settings import LimitSettings, Settings
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh
from tests.core.peers import make_peer

HIGH, STALL = 100, 5.0

# A deadline can fall due so much too late.
GRANULE = 0.011


def make_flow() -> tuple[Flow, Effects]:
    effects = Effects(limit=1 << 30)
    return Flow(HIGH, STALL, effects, Alarm()), effects


def test_a_sender_is_stalled_until_half_of_the_mark() -> None:
    flow, effects = make_flow()
    sender, receiver = make_peer("a"), make_peer("a")
    receiver.outbox_bytes = HIGH + 1
    flow.congest(sender, receiver, 0.0)

    assert effects.to_pause == [sender]
    assert (sender.stalls, receiver.congested, flow.low) == (1, True, HIGH // 2)
    flow.congest(sender, receiver, 1.0)  # Once more makes no difference.
    assert effects.to_pause == [sender]
    assert sender.stalls == 1

    flow.relieve(receiver)
    assert effects.to_resume == [sender]
    assert (sender.stalls, receiver.congested) == (0, False)
    flow.relieve(receiver)
    assert effects.to_resume == [sender]


def test_who_is_stalled_twice_has_to_be_relieved_twice() -> None:
    flow, effects = make_flow()
    sender, first, second = make_peer("a"), make_peer("a"), make_peer("a")
    flow.congest(sender, first, 0.0)
    flow.congest(sender, second, 0.0)
    assert sender.stalls == 2
    flow.relieve(first)
    assert effects.to_resume == []
    flow.relieve(second)
    assert effects.to_resume == [sender]


@pytest.mark.parametrize(
    ("unsent", "stuck"), [(0, False), (HIGH // 2, False), (HIGH, False), (HIGH + 1, True)]
)
def test_when_the_stall_time_is_over(unsent: int, stuck: bool) -> None:
    flow, effects = make_flow()
    sender, receiver = make_peer("a"), make_peer("a")
    receiver.outbox_bytes = HIGH + 1
    flow.congest(sender, receiver, 0.0)
    assert list(flow.tick(STALL - 0.01)) == []
    receiver.outbox_bytes = unsent

    assert list(flow.tick(STALL + 0.02)) == ([receiver] if stuck else [])
    # Who is not stuck is let go on; who is, is cut by the caller, which relieves it.
    assert effects.to_resume == ([] if stuck else [sender])


def test_the_time_counts_from_the_first_frame_too_many() -> None:
    flow, _ = make_flow()
    senders, receiver = [make_peer("a"), make_peer("a")], make_peer("a")
    receiver.outbox_bytes = HIGH + 1
    flow.congest(senders[0], receiver, 0.0)
    flow.congest(senders[1], receiver, STALL - 1)

    assert list(flow.tick(STALL + 0.02)) == [receiver]


def test_who_was_relieved_has_the_whole_time_again() -> None:
    flow, _ = make_flow()
    sender, receiver = make_peer("a"), make_peer("a")
    receiver.outbox_bytes = HIGH + 1
    flow.congest(sender, receiver, 0.0)
    flow.relieve(receiver)
    flow.congest(sender, receiver, 4.0)

    assert list(flow.tick(STALL + 0.02)) == []
    assert list(flow.tick(STALL + 4.02)) == [receiver]


def test_who_has_left_is_not_stuck() -> None:
    """Though what is unsent when it is closed may be a lot."""
    flow, _ = make_flow()
    sender, receiver = make_peer("a"), make_peer("a")
    receiver.outbox_bytes = HIGH + 1
    flow.congest(sender, receiver, 0.0)
    flow.relieve(receiver)

    assert list(flow.tick(STALL + 0.02)) == []


def test_a_receiver_can_stall_itself() -> None:
    flow, effects = make_flow()
    peer = make_peer("a")
    peer.outbox_bytes = HIGH + 1
    flow.congest(peer, peer, 0.0)
    assert effects.to_pause == [peer]
    flow.relieve(peer)
    assert effects.to_resume == [peer]


class FlowAgainstAModel(RuleBasedStateMachine):
    """Receivers fill up and empty; nobody is stalled without a reason, or forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.flow, self.effects = make_flow()
        self.peers = [make_peer("a") for _ in range(5)]
        self.model: dict[Peer, set[Peer]] = {}
        self.since: dict[Peer, float] = {}
        self.paused: set[Peer] = set()
        self.now = 0.0

    peer = st.integers(0, 4)

    @rule(sender=peer, receiver=peer, size=st.integers(1, 150))
    def send(self, sender: int, receiver: int, size: int) -> None:
        source, target = self.peers[sender], self.peers[receiver]
        target.outbox_bytes += size
        if target.outbox_bytes > HIGH:
            self.flow.congest(source, target, self.now)
            self.since.setdefault(target, self.now)
            self.model.setdefault(target, set()).add(source)

    @rule(receiver=peer, size=st.integers(1, 300))
    def write(self, receiver: int, size: int) -> None:
        """As a transport does it."""
        target = self.peers[receiver]
        target.outbox_bytes = max(0, target.outbox_bytes - size)
        if target.congested and target.outbox_bytes < self.flow.low:
            self.flow.relieve(target)
            self.forget(target)

    @rule(receiver=peer)
    def leave(self, receiver: int) -> None:
        self.flow.relieve(self.peers[receiver])
        self.forget(self.peers[receiver])
        self.peers[receiver].outbox_bytes = 0

    @rule(delay=st.floats(0, 6))
    def pass_time(self, delay: float) -> None:
        self.now += delay
        for target in list(self.flow.tick(self.now)):
            assert target.outbox_bytes > HIGH
            assert self.now >= self.since[target] + STALL
            self.flow.relieve(target)
            self.forget(target)
            target.outbox_bytes = 0
        for target, since in list(self.since.items()):
            if not target.congested:
                assert since + STALL <= self.now
                self.forget(target)
            elif since + STALL + GRANULE <= self.now:
                raise AssertionError("stalled for too long")

    def forget(self, target: Peer) -> None:
        self.model.pop(target, None)
        self.since.pop(target, None)

    @invariant()
    def agrees(self) -> None:
        for peer in self.effects.to_pause:
            self.paused.add(peer)
        for peer in self.effects.to_resume:
            assert peer in self.paused, "resumed without having been paused"
        # A transport looks at `stalls`; a peer that stands in both lists is looked at twice.
        self.paused = {peer for peer in self.paused if peer.stalls}
        self.effects.to_pause.clear()
        self.effects.to_resume.clear()
        for peer in self.peers:
            assert peer.stalls == sum(peer in senders for senders in self.model.values())
            assert (peer in self.paused) == (peer.stalls > 0)
        assert {peer for peer in self.peers if peer.congested} == set(self.model)


TestFlow: Any = FlowAgainstAModel.TestCase
TestFlow.settings = hypothesis_settings(stateful_step_count=40)


# -- Whoever asks, and does not read ---------------------------------------------------------------

LIMITS = LimitSettings(message_bytes=32_768, outbox_high_bytes=16_384, outbox_bytes=1 << 20)


def congested_worker() -> tuple[MemoryMesh, Client, Client]:
    """Return someone whose outbox others have filled past the high mark, and one of those."""
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS))
    asker, worker = mesh.join("askers"), mesh.join("workers")
    while not worker.peer.congested:
        asker.send(op=0, event="E", data="x" * 1000, intent=direct(worker))
    assert (asker.peer.stalls, worker.peer.stalls) == (1, 0)
    return mesh, asker, worker


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


@pytest.mark.parametrize(
    "frame",
    [
        {"op": 3, "id": "1"},
        {"op": 0, "id": "1", "event": "E"},
        {"op": 0, "event": "WHOAMI", "intent": {"target": "DIRECT", "identifier": "$broker"}},
    ],
    ids=["a PING", "an error", "a question"],
)
def test_an_answer_does_not_make_a_slow_receiver_of_one_that_others_have_filled(
    frame: dict[str, Any],
) -> None:
    """It would not be read then, and could not do the work that empties its outbox."""
    _, _, worker = congested_worker()
    before = worker.peer.outbox_bytes
    worker.send(**frame)
    assert worker.peer.outbox_bytes > before
    assert worker.peer.stalls == 0


def test_of_what_it_asked_for_itself_nobody_leaves_more_than_the_high_mark() -> None:
    _, _, worker = congested_worker()
    others = worker.peer.outbox_bytes
    while not worker.peer.stalls:
        assert worker.peer.outbox_bytes - others <= LIMITS.outbox_high_bytes
        worker.send(op=3, id="x" * 64)
    assert worker.peer.outbox_bytes - others <= LIMITS.outbox_high_bytes + 100


def test_who_has_read_its_answers_may_ask_again() -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=LIMITS))
    client = mesh.join("demo")
    for _ in range(10):
        while client.peer.outbox_bytes < LIMITS.outbox_high_bytes - 100:
            client.send(op=3, id="x" * 64)
        client.take()
    assert client.peer.stalls == 0


def test_receivers_that_went_past_the_mark_are_counted() -> None:
    mesh, _, _ = congested_worker()
    assert mesh.dispatcher.statistics().congestions == 1
