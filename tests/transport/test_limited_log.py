"""Lines that come in floods: the first are written, the others counted, and nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from broker.transport.limited_log import LimitedLog, Rate

WITHHELD = "lines like these were withheld, since there were too many"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries


def write(log: LimitedLog, number: int, event: str = "x", rate: Rate = Rate(3)) -> None:  # noqa: B008
    for index in range(number):
        log.write(logging.INFO, event, rate=rate, index=index)


def test_the_first_of_each_second_are_written(clock: Clock, lines: list[Any]) -> None:
    log = LimitedLog(clock)
    write(log, 5)
    clock.now += 0.99
    write(log, 5)
    assert [line["index"] for line in lines] == [0, 1, 2]
    clock.now += 0.02
    write(log, 4)
    assert [line["index"] for line in lines[3:]] == [0, 1, 2]
    assert [line.get("withheld") for line in lines] == [None, None, None, 7, None, None]


def test_each_kind_has_its_own_count(clock: Clock, lines: list[Any]) -> None:
    log = LimitedLog(clock)
    write(log, 10, "x")
    write(log, 2, "y")
    for kind in ("a", "b", "a"):
        log.write(logging.ERROR, "z", kind=kind, rate=Rate(1, 60.0))
    assert [line["event"] for line in lines] == ["x"] * 3 + ["y"] * 2 + ["z"] * 2
    clock.now += 59
    log.write(logging.ERROR, "z", kind="b", rate=Rate(1, 60.0))
    assert len(lines) == 7


def test_what_was_withheld_is_told_at_the_end(clock: Clock, lines: list[Any]) -> None:
    log = LimitedLog(clock)
    write(log, 5)
    write(log, 4, "slow", Rate(1, 60.0))
    clock.now += 1
    log.tell_withheld(clock.now)
    assert lines[4:] == [{"event": WITHHELD, "of": "x", "withheld": 2, "log_level": "info"}]
    log.tell_withheld()
    assert [(line["of"], line["withheld"]) for line in lines[4:]] == [("x", 2), ("slow", 3)]
    log.tell_withheld()
    assert len(lines) == 6


async def test_what_was_withheld_is_told_when_the_flood_is_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, lines: list[Any]
) -> None:
    log = LimitedLog(trio.current_time)
    nursery.start_soon(log.run)
    for _ in range(2):
        # Long after the first one, it still looks.
        await trio.sleep(3600)
        write(log, 4)
        write(log, 9, "slow", Rate(1, 60.0))
        seen = len(lines)
        await trio.sleep(1.5)
        assert [(line["of"], line["withheld"]) for line in lines[seen:]] == [("x", 1)]
        await trio.sleep(60)
        assert [(line["of"], line["withheld"]) for line in lines[seen + 1 :]] == [("slow", 8)]
    assert len(lines) == 2 * (3 + 1 + 2)


def test_what_is_below_the_level_is_not_enabled(clock: Clock) -> None:
    log = LimitedLog(clock)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        assert not log.enabled(logging.DEBUG)
        assert log.enabled(logging.INFO)
    finally:
        structlog.reset_defaults()
