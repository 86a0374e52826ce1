"""Item 14 of the scorecard: everything at once, and afterwards nothing is left of it.

A minute here; `SWITCHBOARD_TEST_SCALE=10`, or `make soak`, is the long run.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache

import attrs
import pytest
import trio

from tests.soak.samples import Sample, problems
from tests.soak.soaking import Report, soak

SECONDS = 60 * float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))


@cache
def report() -> Report:
    """One soak for all the tests here."""
    return trio.run(soak, SECONDS)


def test_memory_files_tasks_and_registry_are_back_where_they_were() -> None:
    assert problems(report().samples) == []


def test_everything_has_happened_meanwhile() -> None:
    done, statistics = report().done, report().statistics
    assert all(done[story] > 3 for story in ("come_and_go", "reset", "garbage", "silence", "drown"))
    closed, failed = Counter(statistics["closed"]), Counter(statistics["failed"])
    assert closed["SLOW_CONSUMER"] >= done["drown"] * 0.9
    assert min(closed["NO_REASON"], closed["INVALID_PAYLOAD"]) > 10
    assert statistics["requests"] > done["requests"]
    assert failed["EXPIRED"] + statistics["cancelled"] > 10
    assert statistics["congestions"] >= done["drown"] * 0.9


def test_the_broker_has_nothing_to_complain_of() -> None:
    assert report().statistics["faults"] == 0
    assert "Traceback" not in report().log


SAMPLE = Sample(
    second=0, opened=0, resident_kib=60_000, tasks=11, files=12, peers=1, connections=1,
    registered=1, calls=0, waiting_bytes=0, outboxes_bytes=0, stalled=0, objects=50_000,
    blocks=230_000, faults=0,
)  # fmt: skip


@pytest.mark.parametrize(
    "left",
    [
        {"tasks": 12},
        {"files": 13},
        {"peers": 2},
        {"connections": 2},
        {"registered": 2},
        {"calls": 1},
        {"waiting_bytes": 1},
        {"outboxes_bytes": 1},
        {"stalled": 1},
        {"blocks": 330_000},
        {"resident_kib": 80_000},
        {"faults": 1},
    ],
    ids=lambda left: next(iter(left)),
)
def test_whatever_is_left_is_told(left: dict[str, int]) -> None:
    after = attrs.evolve(SAMPLE, second=60, opened=10_000)
    assert problems([SAMPLE, after, after, after]) == []
    (told,) = problems([SAMPLE, after, after, attrs.evolve(after, **left)])
    assert told
