"""The timing wheel against a sorted list."""

from __future__ import annotations

import itertools
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.core.deadlines import Alarm, Deadlines, Wheel

# How late an item may be: a hundredth of a second, or a second where it was far away.
NEAR, FAR = 60.0, 0.011
LATE = {True: FAR, False: 1.01}

# Times at which the wheel's arithmetic could go wrong by the last bit of a float.
delays = st.one_of(
    st.integers(0, 12_000).map(lambda hundredths: hundredths * 0.01),
    st.integers(0, 12_000).map(lambda hundredths: hundredths / 100),
    st.sampled_from((0.0, 0.1, 0.001, 59.99, 60.0, 60.01, 86_400.0)),
    st.floats(0, 200),
)
nudges = st.sampled_from((-math.inf, None, math.inf))


def nudge(time: float, direction: float | None) -> float:
    """The next float below or above, or the same."""
    return time if direction is None else max(0.0, math.nextafter(time, direction))


class DeadlinesAgainstAModel(RuleBasedStateMachine):
    """Items are added, moved and taken out, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm = Alarm()
        self.deadlines: Deadlines[int] = Deadlines(self.alarm)
        self.model: dict[int, tuple[float, float]] = {}  # when, and how late at most
        self.now = 0.0

    @rule(item=st.integers(0, 9), delay=delays, direction=nudges)
    def add(self, item: int, delay: float, direction: float | None) -> None:
        when = nudge(self.now + delay, direction)
        self.deadlines.add(item, when, self.now)
        self.model[item] = when, LATE[when - self.now < NEAR]

    @rule(item=st.integers(0, 9))
    def discard(self, item: int) -> None:
        self.deadlines.discard(item)
        self.model.pop(item, None)

    @rule(delay=delays, direction=nudges)
    def pass_time(self, delay: float, direction: float | None) -> None:
        self.now = max(self.now, nudge(self.now + delay, direction))
        self.look()

    @precondition(lambda self: self.model)
    @rule()
    def wait_for_the_next(self) -> None:
        """As a virtual clock does it: to the very float that was named."""
        self.now = max(self.now, self.deadlines.next)
        self.look()

    def look(self) -> None:
        due = list(self.deadlines.due(self.now))
        assert len(due) == len(set(due))
        for item in due:
            assert self.model[item][0] <= self.now, "never early"
        times = [self.model[item] for item in due]
        for (when, _), (next_when, late) in itertools.pairwise(times):
            assert when <= next_when + late, "earliest first, but for a granule"
        for item in due:
            del self.model[item]
        for when, late in self.model.values():
            assert when + late > self.now, "late by a granule at most"
        self.alarm.time = self.deadlines.next

    @invariant()
    def agrees(self) -> None:
        assert len(self.deadlines) == len(self.model)
        assert all(item in self.deadlines for item in self.model)
        assert 10 not in self.deadlines
        for when, late in self.model.values():
            assert self.deadlines.next <= when + late, "never too late"
        assert self.alarm.time <= self.deadlines.next


TestDeadlines: Any = DeadlinesAgainstAModel.TestCase
TestDeadlines.settings = settings(stateful_step_count=40)


@given(
    start=st.integers(0, 100_000).map(lambda hundredths: hundredths * 0.01),
    delay=st.sampled_from((0.1, 0.3, 2.0, 5.0, 30.0)),
    direction=nudges,
)
def test_an_item_that_is_put_back_while_it_is_due_waits_its_turn(
    start: float, delay: float, direction: float | None
) -> None:
    """A heartbeat does so: at the very time that was named, looking must come to an end."""
    when = nudge(start + delay, direction)
    deadlines: Deadlines[str] = Deadlines(Alarm())
    deadlines.add("a", when, start)
    now = deadlines.next
    for looks, _ in enumerate(deadlines.due(now)):
        assert looks < 3, "for ever"
        if when > now:
            deadlines.add("a", when, now)


def test_what_falls_due_may_take_out_others() -> None:
    deadlines: Deadlines[str] = Deadlines(Alarm())
    for item in "abc":
        deadlines.add(item, 1.0, 0.0)
    seen = []
    for item in deadlines.due(2.0):
        seen.append(item)
        deadlines.discard("b")

    assert seen == ["a", "c"]
    assert deadlines.next == math.inf


def test_nothing_stays_behind() -> None:
    """Of a hundred thousand deadlines that never fell due, not even the buckets."""
    alarm = Alarm()
    wheel: Wheel[int] = Wheel(alarm)
    for number in range(100_000):
        now = number / 1000
        bucket = wheel.bucket(now + 30, now)
        bucket[number] = None
        del bucket[number]
        if alarm.time <= now:
            assert list(wheel.due(now)) == []
            alarm.time = wheel.next
    assert len(wheel._buckets) == len(wheel._order) <= 3002
    assert list(wheel.due(1e9)) == []
    assert not wheel._buckets
    assert not wheel._order


def test_far_deadlines_take_few_buckets() -> None:
    wheel: Wheel[int] = Wheel(Alarm())
    for number in range(100_000):
        wheel.bucket(86_400 + number / 1000, 0.0)
    assert len(wheel._buckets) <= 101


def test_a_wheel_can_be_walked_while_it_is_emptied() -> None:
    wheel: Wheel[int] = Wheel(Alarm())
    for number in range(10):
        wheel.bucket(number / 10, 0.0)[number] = None
    for number in wheel:
        del wheel.bucket(number / 10, 0.0)[number]
    assert list(wheel) == []
