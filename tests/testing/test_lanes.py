"""One direction of a connection in memory, beside a plain model of what must come out of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.testing.lanes import CAPACITY, Lane

ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 50)),
    st.tuples(st.just("read"), st.integers(1, 50)),
    st.tuples(st.just("pass"), st.integers(1, 5)),
    st.tuples(st.just("delay"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["hold", "stop", "ignore"]), st.booleans()),
)


class Rig:
    """A lane on a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changes = 0
        self.lane = Lane(lambda: self.now, self._changed)
        self.sent = bytearray()
        self.received = bytearray()

    def _changed(self) -> None:
        self.changes += 1

    def write(self, count: int) -> None:
        data = bytes((len(self.sent) + offset) % 256 for offset in range(count))
        assert self.lane.write(data) == count
        self.sent += data

    def read(self, count: int = 1 << 20) -> None:
        if self.lane.readable:
            data = self.lane.read(count)
            assert len(data) <= count
            self.received += data

    def act(self, name: str, value: int) -> None:
        match name:
            case "write":
                self.write(value)
            case "read":
                self.read(value)
            case "pass":
                self.now += value
                self.lane.advance(self.now)
            case "delay":
                self.lane.delay(value)
            case _:
                getattr(self.lane, name)(bool(value))

    def heal(self) -> None:
        self.lane.hold(False)
        self.lane.stop(False)
        self.lane.ignore(False)
        self.now += 10
        self.lane.advance(self.now)


@given(actions=st.lists(ACTIONS, max_size=40))
def test_order_and_completeness(actions: list[tuple[str, int]]) -> None:
    rig = Rig()
    for action in actions:
        rig.act(*action)
        assert rig.sent.startswith(rig.received)
    rig.lane.finish()
    rig.heal()
    rig.read()
    assert rig.received == rig.sent
    assert rig.lane.readable
    assert rig.lane.read(1) == b""
    assert rig.lane.next == math.inf
    assert rig.lane.in_transit == 0


@pytest.mark.parametrize("gate", ["hold", "stop", "ignore"])
def test_each_gate_keeps_bytes_back_until_it_opens(gate: str) -> None:
    rig = Rig()
    getattr(rig.lane, gate)(True)
    rig.write(5)
    rig.lane.finish()
    assert not rig.lane.readable
    changes = rig.changes
    getattr(rig.lane, gate)(False)
    assert rig.changes > changes
    rig.read()
    assert rig.received == rig.sent
    assert rig.lane.read(1) == b""


def test_what_was_under_way_passes_a_sender_that_stops() -> None:
    rig = Rig()
    rig.lane.delay(3)
    rig.write(1)
    rig.lane.stop(True)
    rig.write(1)
    assert rig.lane.next == 3
    rig.act("pass", 3)
    rig.read()
    assert rig.received == rig.sent[:1]


def test_it_is_bounded() -> None:
    rig = Rig()
    rig.lane.hold(True)
    assert rig.lane.write(bytes(CAPACITY + 1)) == CAPACITY
    assert not rig.lane.writable
    assert rig.lane.write(b"x") == 0
    rig.lane.hold(False)
    assert not rig.lane.writable
    rig.read(10)
    assert rig.lane.writable
    assert rig.lane.write(bytes(20)) == 10


def test_a_receiver_that_has_gone_takes_everything() -> None:
    rig = Rig()
    rig.write(5)
    rig.lane.abandon()
    assert rig.lane.write(bytes(CAPACITY)) == CAPACITY
    assert rig.lane.writable


def test_a_receiver_that_goes_while_it_is_frozen_still_has_its_buffer_full() -> None:
    rig = Rig()
    rig.lane.ignore(True)
    rig.lane.abandon()
    rig.lane.write(bytes(CAPACITY))
    assert not rig.lane.writable
    rig.lane.ignore(False)
    assert rig.lane.writable


def test_a_cut_lets_arrive_what_was_under_way() -> None:
    rig = Rig()
    rig.lane.hold(True)
    rig.write(5)
    rig.lane.stop(True)
    rig.lane.write(b"kept back")
    rig.lane.cut()
    rig.read()
    assert rig.received == rig.sent
    assert rig.lane.read(1) == b""
    assert rig.lane.write(b"into the void") == 13
    assert rig.lane.read(1) == b""


@pytest.mark.parametrize("lose_arrived", [False, True])
def test_a_break(lose_arrived: bool) -> None:
    rig = Rig()
    rig.write(5)
    rig.lane.hold(True)
    rig.lane.write(b"under way")
    rig.lane.break_off(lose_arrived=lose_arrived)
    with pytest.raises(ConnectionResetError):
        rig.lane.write(b"x")
    if not lose_arrived:
        rig.read()
        assert rig.received == rig.sent
    assert rig.lane.readable
    with pytest.raises(ConnectionResetError):
        rig.lane.read(1)


def test_a_stopped_sender_hears_of_a_break_when_it_goes_on() -> None:
    rig = Rig()
    rig.lane.stop(True)
    rig.lane.break_off(lose_arrived=True)
    assert rig.lane.write(b"x") == 1
    rig.lane.stop(False)
    with pytest.raises(ConnectionResetError):
        rig.lane.write(b"x")
