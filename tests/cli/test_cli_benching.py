"""The parts of `bench`: who does what, what is counted, what is said of it."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.codec import Envelope, decode
from services.cli.benching.histogram import BUCKETS, bars, bucket_of, least_of, percentile
from services.cli.benching.plan import Figures, Mode, Plan, Share, Summary
from services.cli.benching.report import CSV_COLUMNS, as_object, as_text, verdict
from services.cli.benching.traffic import (
    Answering,
    Asking,
    Receiving,
    Sending,
    Tally,
    Template,
    arrival_notice,
)
from tests.cli.commands import invoke

# -- histogram -------------------------------------------------------------------------------------


@given(st.integers(0, 2**40 - 1))
def test_a_time_lies_in_its_bucket(microseconds: int) -> None:
    bucket = bucket_of(microseconds)
    assert bucket < BUCKETS
    assert least_of(bucket) <= microseconds < least_of(bucket + 1)


@given(st.integers(64, 2**40 - 1))
def test_a_bucket_is_narrow(microseconds: int) -> None:
    bucket = bucket_of(microseconds)
    assert least_of(bucket + 1) - least_of(bucket) <= microseconds / 32


@given(st.lists(st.integers(1, 10**7), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_those_of_the_times(times: list[int], part: float) -> None:
    counts: dict[int, int] = {}
    for time in times:
        counts[bucket_of(time)] = counts.get(bucket_of(time), 0) + 1
    exact = sorted(times)[max(1, round(len(times) * part)) - 1]
    assert percentile(counts, part) == pytest.approx(exact, rel=0.04, abs=1)


@given(st.dictionaries(st.integers(0, 1000), st.integers(1, 10**6), min_size=1))
def test_bars_lose_nothing(counts: dict[int, int]) -> None:
    found = bars(counts, 12)
    assert len(found) <= 12
    assert sum(count for _, _, count in found) == sum(counts.values())
    assert all(math.isclose(end, begin) for (_, end, _), (begin, _, _) in pairwise(found))
    assert found[-1][1] == least_of(max(counts) + 1)


def test_no_times_no_bars() -> None:
    assert (list(bars({})), percentile({}, 0.5)) == ([], 0.0)


# -- plan ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("pairs", [1, 2, 16])
def test_every_pair_has_both_its_ends(pairs: int, processes: int) -> None:
    shares = Plan(Mode.REQUEST, pairs=pairs, processes=processes).shares()
    assert sorted(pair for share in shares for pair in share.asking) == list(range(pairs))
    assert sorted(pair for share in shares for pair in share.answering) == list(range(pairs))
    if processes > 1:
        assert not any(set(share.asking) & set(share.answering) for share in shares)


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_every_receiver_is_somewhere_and_one_sends(processes: int) -> None:
    shares = Plan(Mode.FANOUT, receivers=5, processes=processes).shares()
    assert sorted(one for share in shares for one in share.receiving) == list(range(5))
    assert [share.sends for share in shares] == [True, *[False] * (processes - 1)]
    assert shares.count(Share()) == max(0, processes - 5)


# -- traffic ---------------------------------------------------------------------------------------


class Wire:
    """In the place of a connection: keeps what is sent."""

    def __init__(self) -> None:
        self.listener: Any = None
        self.sent: list[Envelope] = []

    def send(self, message: bytes) -> None:
        envelope = decode(message)
        assert isinstance(envelope, Envelope)
        self.sent.append(envelope)


TO_B = json.dumps({"target": "DIRECT", "identifier": "b"})


def make_asking(window: int = 2) -> tuple[Asking, Wire]:
    wire = Wire()
    asking = Asking(Tally(), wire, Template.request(TO_B, 10), window)  # type: ignore[arg-type]
    asking.begin()
    return asking, wire


def test_messages_are_frames_of_the_size_that_was_asked_for() -> None:
    for make in (Template.event, Template.request, Template.reply):
        envelope = decode(make(TO_B, 128).make("7"))
        assert isinstance(envelope, Envelope)
        assert len(bytes(envelope.data)) == 128  # type: ignore[arg-type]
        assert envelope.id == "7"


def test_as_many_are_in_flight_as_the_window_says() -> None:
    asking, wire = make_asking(3)
    assert len(wire.sent) == len(asking.in_flight) == 3
    asking.on_reply(Envelope(5, wire.sent[1].id))
    assert len(asking.in_flight) == 3
    assert len(wire.sent) == 4
    assert asking.tally.routed == 1
    assert sum(asking.tally.counts) == 1


def test_an_answer_counts_once() -> None:
    asking, wire = make_asking()
    for _ in range(2):
        asking.on_event(Envelope(0, wire.sent[0].id, "BENCH"))
    assert (asking.tally.routed, asking.tally.unexpected) == (1, 1)


def test_a_refusal_is_no_answer() -> None:
    asking, _wire = make_asking()
    refusal = decode(b'{"op":5,"id":"1","error":{"code":"FORBIDDEN","message":"no"}}')
    assert isinstance(refusal, Envelope)
    asking.on_reply(refusal)
    assert asking.tally.routed == 0
    assert (asking.tally.errors, asking.tally.first_error) == (1, "FORBIDDEN: no")
    assert "1" in asking.in_flight


def test_nothing_new_is_sent_at_the_end() -> None:
    asking, wire = make_asking()
    asking.tally.sending = False
    asking.on_reply(Envelope(5, wire.sent[0].id))
    assert len(wire.sent) == 2


def test_an_answer_has_the_id_of_its_question() -> None:
    wire = Wire()
    answering = Answering(Tally(), wire, Template.reply(TO_B, 10))  # type: ignore[arg-type]
    answering.on_event(Envelope(0, "7", "BENCH"))
    assert [(one.op, one.id) for one in wire.sent] == [(5, "7")]
    assert answering.tally.routed == 1


def test_a_stranger_who_asks_the_group_is_answered() -> None:
    wire = Wire()
    answering = Answering(Tally(), wire, Template.reply(TO_B, 10))  # type: ignore[arg-type]
    source = decode(
        b'{"op":0,"id":"7","event":"STATS","timeout":5,"source":{"id":"x","group":"g"}}'
    )
    assert isinstance(source, Envelope)
    answering.on_event(source)
    assert answering.tally.routed == 0
    (answer,) = wire.sent
    assert (answer.op, answer.id) == (5, "7")
    assert b"UNKNOWN_EVENT" in bytes(answer.error)  # type: ignore[arg-type]


def test_a_broadcast_follows_when_all_processes_have_got_the_last() -> None:
    wire, tally = Wire(), Tally()
    sending = Sending(tally, wire, Template.event(TO_B, 10), 1, processes=2)  # type: ignore[arg-type]
    sending.begin()
    here: list[Wire] = [Wire(), Wire()]
    arrivals: dict[str, int] = {}
    receiving = [
        Receiving(tally, one, arrivals, 2, sending.arrived)  # type: ignore[arg-type]
        for one in here
    ]
    (first,) = wire.sent
    receiving[0].on_event(first)
    receiving[1].on_event(first)
    assert len(wire.sent) == 1
    notice = decode(arrival_notice("sender").make(first.id or ""))
    assert isinstance(notice, Envelope)
    sending.on_event(notice)
    assert len(wire.sent) == 2
    assert tally.routed == 2
    assert arrivals == {}
    sending.on_event(notice)
    assert tally.unexpected == 1


# -- report ----------------------------------------------------------------------------------------


def figures(**changes: Any) -> Figures:
    values: dict[str, Any] = {
        "seconds": 2.0,
        "routed": 1000,
        "counts": {bucket_of(100): 90, bucket_of(5000): 10},
        "cpu": 0.2,
    }
    return Figures(**{**values, **changes})


def test_processes_are_added_up() -> None:
    summary = Summary.of([figures(), figures(routed=3000, cpu=0.4, wanted=0.9, lost=1, busy=0.5)])
    assert (summary.rate, summary.routed, summary.lost) == (2000.0, 4000, 1)
    assert summary.counts == {bucket_of(100): 180, bucket_of(5000): 20}
    assert summary.shares == (0.2, 0.9)
    assert summary.cpu == pytest.approx(0.6)
    assert summary.busy == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"errors": 2, "first_error": "FORBIDDEN: no"}, "2 errors, the first: FORBIDDEN: no"),
        ({"unexpected": 2}, "2 messages came that were not in flight"),
        ({"lost": 3}, "3 messages never arrived"),
        ({"routed": 0}, "nothing was routed"),
        ({}, None),
    ],
)
def test_figures_that_can_not_be_trusted(changes: dict[str, Any], said: str | None) -> None:
    assert Summary.of([figures(**changes)]).complaint() == said


@pytest.mark.parametrize(
    ("cpu", "busy", "limit", "said"),
    [
        (0.97, None, "client", "the client was the limit"),
        (0.97, 0.4, "client", "Try --processes 2"),
        (0.97, 0.95, "broker", "the broker was the limit"),
        (0.3, 0.95, "broker", "the broker was the limit"),
        (0.3, 0.2, "none", "the time that a message takes"),
        (0.3, None, "unknown", "it was not the limit"),
    ],
)
def test_what_the_limit_was(cpu: float, busy: float | None, limit: str, said: str) -> None:
    found, text = verdict(Plan(Mode.PUBLISH), Summary.of([figures(cpu=cpu, busy=busy)]))
    assert found == limit
    assert said in text
    assert f"{cpu:.0%} of a core" in text


def test_a_client_that_waits_for_a_processor_is_busy() -> None:
    summary = Summary.of([figures(cpu=0.4, wanted=0.95)])
    assert verdict(Plan(Mode.PUBLISH), summary)[0] == "client"


def test_the_report_for_people() -> None:
    lines = as_text(Plan(Mode.PUBLISH), Summary.of([figures(cpu=0.97)])).splitlines()
    assert lines[0] == "publish: 1 pair, 512 in flight, 128 bytes of data, 5 s, 1 process"
    assert lines[1] == "500 messages/s routed, both ways; 0.1 MB/s of data"
    assert lines[2].startswith("round trip: p50 100 µs   p90 100 µs   p99 5.0")
    assert sum("█" in line for line in lines) == 2
    assert any(line.endswith("█  90.0%") for line in lines)


def test_the_report_of_a_fan_out() -> None:
    text = as_text(Plan(Mode.FANOUT, window=16), Summary.of([figures()]))
    assert "fanout: 1 to a group of 100, 16 in flight" in text
    assert "500 deliveries/s routed;" in text
    assert "one way: p50" in text


def test_the_report_as_json_has_the_columns_of_csv() -> None:
    shown = as_object(Plan(Mode.FANOUT, window=16), Summary.of([figures()]))
    assert tuple(shown) == CSV_COLUMNS
    assert (shown["pairs"], shown["receivers"]) == (None, 100)
    row = io.StringIO()
    csv.writer(row).writerow(shown.values())
    assert json.loads(json.dumps(shown))["rate"] == 500.0


def test_nothing_at_all_can_still_be_reported() -> None:
    summary = Summary.of([figures(routed=0, counts={})])
    assert as_object(Plan(Mode.REQUEST), summary)["p50_us"] is None
    assert "0 messages/s" in as_text(Plan(Mode.REQUEST), summary)


def test_more_in_flight_than_a_connection_holds_is_refused() -> None:
    outcome = invoke("bench", "publish", "--window", "100000", "--size", "1000", "--token", "t")
    assert outcome.code == 2
    assert "--window 100000 is too much of that --size: at most 8388" in outcome.stderr
