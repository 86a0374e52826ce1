"""What is measured while messages flow: right counts, and bounds whatever clients invent."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from broker.core import traffic as traffic_module
from broker.core.chronicle import MOST_ENTRIES
from broker.core.histogram import SECONDS, Histogram, quantile
from broker.core.metrics import Metrics
from broker.core.settings import LimitSettings, OpsSettings, Settings, TimingSettings
from broker.core.traffic import MOST_LABELS, OTHER, Traffic
from tests.core.memory_mesh import TOKENS, Client, MemoryMesh

ONE = {"target": "GROUP", "identifier": "work", "pick": "ONE"}


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh()


def direct(client: Client) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": client.id}


def ask(requester: Client, id: str, intent: dict[str, Any], timeout: int = 1000) -> None:
    requester.send(op=0, id=id, event="ASK", intent=intent, timeout=timeout)


def received(mesh: MemoryMesh) -> dict[tuple[str, str], int]:
    return mesh.dispatcher.metrics.received(mesh.dispatcher.counters.frames_in)


def delivered(mesh: MemoryMesh) -> dict[tuple[str, str], int]:
    return mesh.dispatcher.metrics.delivered(mesh.dispatcher.counters.frames_out)


def edges(mesh: MemoryMesh) -> dict[tuple[str, str], tuple[int, int]]:
    opened = mesh.dispatcher.requests.ledger.opened
    return {
        (edge.caller, edge.callee): (edge.requests, edge.errors)
        for edge in mesh.dispatcher.metrics.traffic.edges(opened)
    }


# -- Messages by kind ------------------------------------------------------------------------------


def test_messages_are_counted_by_op_and_target(mesh: MemoryMesh) -> None:
    asker, worker = mesh.join("web"), mesh.join("work")
    asker.send(op=0, id="1", event="E", intent=direct(worker))
    asker.send(op=0, id="2", event="E", intent=direct(worker))
    asker.send(op=0, id="3", event="E", intent=ONE)
    ask(asker, "4", ONE)
    worker.send(op=5, id="4", data=1, intent=direct(asker))
    worker.send(op=5, id="none", data=1, intent=direct(asker))
    asker.send(op=0, id="5", event="E", intent={"target": "GLOBAL"})
    asker.send(op=0, id="6", event="E", intent={"target": "GROUP", "identifier": "work"})
    asker.send(op=0, id="7", event="E", intent={"target": "NOWHERE"})
    asker.send(op=3)

    assert received(mesh) == {
        ("IDENTIFY", "NONE"): 2,
        ("EVENT", "DIRECT"): 2,
        ("EVENT", "GROUP"): 3,
        ("REPLY", "DIRECT"): 2,
        ("EVENT", "GLOBAL"): 1,
        ("INVALID", "NONE"): 1,
        ("PING", "NONE"): 1,
    }
    assert delivered(mesh) == {
        ("EVENT", "DIRECT"): 2,
        ("EVENT", "GROUP"): 3,
        ("REPLY", "DIRECT"): 2,
        ("EVENT", "GLOBAL"): 2,
    }


def test_a_batch_is_counted_as_its_messages_are(mesh: MemoryMesh) -> None:
    asker, worker = mesh.join("web"), mesh.join("work")
    line = b'{"op":0,"id":"%d","event":"E","intent":{"target":"DIRECT","identifier":"%s"}}\n'
    asker.send_bytes(b"".join(line % (n, worker.id.encode()) for n in range(7)) + b'{"op":3}\n')
    assert received(mesh)["EVENT", "DIRECT"] == 7
    assert received(mesh)["PING", "NONE"] == 1


def test_a_request_that_is_refused_is_counted_once(mesh: MemoryMesh) -> None:
    asker = mesh.join("web")
    mesh.join("work")
    ask(asker, "1", ONE)
    ask(asker, "1", ONE)
    assert received(mesh)["EVENT", "GROUP"] == 2
    assert ("EVENT", "DIRECT") not in received(mesh)


def test_what_comes_behind_a_goodbye_counts_as_ignored(mesh: MemoryMesh) -> None:
    client = mesh.join("web")
    client.send_bytes(b'{"op":2}\n{"op":3}\n{"op":3}\n')
    assert received(mesh) == {
        ("IDENTIFY", "NONE"): 1,
        ("DISCONNECT", "NONE"): 1,
        ("IGNORED", "NONE"): 2,
    }


def test_a_request_that_waited_is_counted_when_it_is_handed_out(mesh: MemoryMesh) -> None:
    asker, worker = mesh.join("web"), mesh.join("work", concurrency=1)
    ask(asker, "1", ONE)
    ask(asker, "2", ONE)
    assert delivered(mesh) == {("EVENT", "GROUP"): 1}
    assert edges(mesh) == {("web", "work"): (1, 0)}
    worker.send(op=5, id="1", data=1, intent=direct(asker))
    assert delivered(mesh)["EVENT", "GROUP"] == 2
    assert edges(mesh) == {("web", "work"): (2, 0)}


# -- Who asks whom ---------------------------------------------------------------------------------


def test_edges_have_requests_and_errors(mesh: MemoryMesh) -> None:
    web, shop = mesh.join("web"), mesh.join("shop")
    work, other = mesh.join("work"), mesh.join("other")
    ask(web, "1", direct(work))
    ask(web, "2", direct(work))
    ask(web, "3", direct(other))
    ask(shop, "1", direct(work))
    ask(web, "4", {"target": "GROUP", "identifier": "work"})
    work.send(op=5, id="1", intent=direct(web), error={"code": "HANDLER_ERROR", "message": "x"})
    work.send(op=5, id="2", intent=direct(web), data=1)
    other.leave()

    assert edges(mesh) == {
        ("web", "work"): (3, 1),
        ("web", "other"): (1, 1),
        ("shop", "work"): (1, 0),
    }


def test_a_gather_counts_for_each_who_is_asked(mesh: MemoryMesh) -> None:
    web = mesh.join("web", echo=False)
    for _ in range(3):
        mesh.join("work")
    ask(web, "1", {"target": "GLOBAL"})
    ask(web, "2", ONE)
    assert edges(mesh) == {("web", "work"): (4, 0)}


def test_pairs_are_bounded_and_those_that_left_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic_module, "MOST_PAIRS", 3)
    traffic = Traffic(enabled=True)
    parties = [traffic.join(f"g{number}") for number in range(5)]
    for party in parties:
        traffic.add(parties[0], party)
    names = {(edge.caller, edge.callee) for edge in traffic.edges(0)}
    assert names == {("g0", "g0"), ("g0", "g1"), ("g0", "g2"), (OTHER, OTHER)}
    assert parties[1] is not None
    traffic.leave(parties[1])
    traffic.add(parties[0], parties[4])
    names = {(edge.caller, edge.callee) for edge in traffic.edges(0)}
    assert names == {("g0", "g0"), ("g0", "g2"), ("g0", "g4"), (OTHER, OTHER)}
    # Nothing is lost of what a metrics system has seen.
    assert sum(requests for requests, _ in traffic.by_label(0).values()) == 6
    assert traffic.by_label(0)["g0", "g1"] == (1, 0)


def test_labels_are_bounded_for_good(mesh: MemoryMesh) -> None:
    worker = mesh.join("work")
    for number in range(3 * MOST_LABELS):
        client = mesh.join(f"invented-{number}")
        ask(client, "1", direct(worker))
        client.leave()
    labels = mesh.dispatcher.metrics.traffic.by_label(mesh.dispatcher.requests.ledger.opened)
    assert len({caller for caller, _ in labels}) == MOST_LABELS
    assert sum(requests for requests, _ in labels.values()) == 3 * MOST_LABELS
    assert labels[OTHER, "work"][0] == 2 * MOST_LABELS + 1


# -- How long it takes -----------------------------------------------------------------------------


def test_answers_are_timed(mesh: MemoryMesh) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    ask(web, "1", direct(work))
    mesh.now += 0.3
    work.send(op=5, id="1", data=1, intent=direct(web))
    histogram = mesh.dispatcher.metrics.requests
    assert sum(histogram.counts) == 1
    assert histogram.sum == pytest.approx(0.3)
    assert quantile(0.5, histogram.counts, SECONDS) == 0.5
    party = mesh.dispatcher.metrics.traffic.party("work")
    assert party is not None
    assert party.latency is not None
    assert sum(party.latency.counts) == 1


def test_what_expired_is_no_answer(mesh: MemoryMesh) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    ask(web, "1", direct(work))
    mesh.pass_time(2)
    assert sum(mesh.dispatcher.metrics.requests.counts) == 0
    assert edges(mesh) == {("web", "work"): (1, 1)}


def test_under_load_a_sample_is_timed_and_stands_for_all(mesh: MemoryMesh) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    metrics = mesh.dispatcher.metrics
    metrics.look(0, 10.0)
    metrics.look(100_000, 11.0)
    for number in range(320):
        ask(web, str(number), direct(work))
        work.send(op=5, id=str(number), data=1, intent=direct(web))
    assert sum(metrics.requests.counts) == 320
    metrics.look(100_100, 12.0)
    ask(web, "x", direct(work))
    work.send(op=5, id="x", data=1, intent=direct(web))
    assert sum(metrics.requests.counts) == 321


def test_a_histogram_counts_into_the_bucket_whose_bound_is_reached() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.1, 2.0, 2.1):
        histogram.record(value)
    histogram.record(9.0, weight=3)
    assert histogram.counts == [2, 2, 4]
    assert histogram.sum == pytest.approx(33.7)


def test_quantiles() -> None:
    assert quantile(0.5, [0, 0], (1.0,)) is None
    assert quantile(0.5, [1, 1, 0], (1.0, 2.0)) == 1.0
    assert quantile(0.99, [98, 1, 1], (1.0, 2.0)) == 2.0
    assert quantile(0.99, [0, 0, 7], (1.0, 2.0)) == 2.0


def test_a_sampled_poll_weighs_by_its_messages() -> None:
    metrics = Metrics()
    metrics.end_poll(16, 0.001, 3)
    metrics.end_poll(1, 0.1, 0)
    assert sum(metrics.transit.counts) == 48
    assert sum(metrics.batches.counts) == 16


def test_without_metrics_nothing_of_that_is_measured() -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, ops=OpsSettings(metrics=False)))
    web, work = mesh.join("web"), mesh.join("work")
    mesh.dispatcher.metrics.look(0, 10.0)
    ask(web, "1", direct(work))
    work.send(op=5, id="1", data=1, intent=direct(web))
    assert edges(mesh) == {}
    assert sum(mesh.dispatcher.metrics.requests.counts) == 0
    assert received(mesh)["EVENT", "DIRECT"] == 1


# -- What went wrong -------------------------------------------------------------------------------


def test_the_chronicle_tells_who_was_lost_and_who_was_cut() -> None:
    limits = LimitSettings(outbox_high_bytes=1024, message_bytes=1024, outbox_bytes=2048)
    mesh = MemoryMesh(Settings(tokens=TOKENS, limits=limits))
    web, work = mesh.join("web"), mesh.join("work", name="work-1")
    for number in range(12):
        web.send(op=0, id=str(number), event="E", data="x" * 100, intent=direct(work))
    mesh.now += 1
    web.leave()
    lost, cut = mesh.dispatcher.metrics.chronicle.endings
    assert (lost.reason, lost.group, lost.id) == ("LOST", "web", web.id)
    assert (cut.reason, cut.group, cut.name) == ("SLOW_CONSUMER", "work", "work-1")
    assert cut.since == 1000.0
    assert "waiting to be read" in cut.message
    assert mesh.dispatcher.statistics().evictions == {"outbox_bytes": 1}


def test_who_took_its_leave_is_not_in_the_chronicle(mesh: MemoryMesh) -> None:
    mesh.join("web").send(op=2)
    mesh.connect().leave()
    assert mesh.dispatcher.metrics.chronicle.endings == []


def test_strangers_are_one_entry_for_each_reason(mesh: MemoryMesh) -> None:
    for _ in range(3 * MOST_ENTRIES):
        mesh.connect().send(op=3)
    mesh.join("web").leave()
    lost, strangers = mesh.dispatcher.metrics.chronicle.endings
    assert lost.group == "web"
    assert (strangers.reason, strangers.group, strangers.count) == (
        "UNAUTHORIZED",
        None,
        3 * MOST_ENTRIES,
    )


def test_errors_are_bounded_and_what_is_repeated_is_one_entry(mesh: MemoryMesh) -> None:
    web = mesh.join("web")
    for number in range(100):
        ask(web, str(number), ONE)
    web.send(op=0, event="E")
    latest, repeated = mesh.dispatcher.metrics.chronicle.failures
    assert (latest.code, latest.callee) == ("INVALID_INTENT", None)
    assert attrs.asdict(repeated) | {"time": 0} == {
        "time": 0,
        "code": "NO_ROUTE",
        "caller": "web",
        "callee": "work",
        "event": "ASK",
        "message": "there is no member of group 'work'",
        "count": 100,
    }
    for number in range(2 * MOST_ENTRIES):
        ask(web, str(number), {"target": "GROUP", "identifier": f"g{number}"})
    assert len(mesh.dispatcher.metrics.chronicle.failures) == MOST_ENTRIES


def test_an_error_knows_the_callee_that_caused_it(mesh: MemoryMesh) -> None:
    web, work = mesh.join("web"), mesh.join("work")
    ask(web, "1", direct(work))
    work.leave()
    (failure,) = mesh.dispatcher.metrics.chronicle.failures
    assert (failure.code, failure.caller, failure.callee) == ("PEER_GONE", "web", "work")


def test_pings_are_counted() -> None:
    mesh = MemoryMesh(Settings(tokens=TOKENS, timing=TimingSettings(ping_ms=1000)))
    mesh.join("web")
    mesh.pass_time(1.1)
    assert mesh.dispatcher.statistics().pings == 1
