"""The broker's counts, as Prometheus reads them.

Everything is read at the time of the scrape. Of labels there are only words of the protocol, names
of settings, and the names of the first groups that came (`broker.core.traffic` has the bound): so
there is an end to the series, whatever names clients invent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import broker
from broker.core.histogram import Histogram
from broker.core.statistics import Statistics
from broker.ops.source import Source
from broker.protocol.errors import ErrorCode, Reason

__all__ = ["Exposition"]

_PREFIX: Final = "switchboard_"

_Word = TypeVar("_Word", bound=str)
_Labels = TypeVar("_Labels", bound=tuple[str, ...])

# What `Counters` has without labels: the attribute, the metric, its help.
_PLAIN: Final = (
    ("opened", "connections_opened", "Connections that came."),
    ("accept_pauses", "accept_pauses", "How often newcomers had to wait for accepts_per_second."),
    ("accept_failures", "accept_failures", "How often the system had no means for a newcomer."),
    ("tls_failures", "tls_failures", "TLS handshakes that failed."),
    ("requests", "requests", "Requests that were taken."),
    ("cancelled", "requests_cancelled", "Requests that were given up by who made them."),
    ("late_replies", "replies_late", "REPLYs that came after the end of their request."),
    ("unroutable_replies", "replies_unroutable", "REPLYs whose receiver was not there."),
    ("denied", "permission_denials", "Frames that their sender had no permission for."),
    ("failed_authentications", "auth_failures", "IDENTIFYs that were not accepted."),
    ("throttled", "auth_throttled", "IDENTIFYs of addresses that had failed too often."),
    ("congestions", "stalls", "How often a receiver's senders had to wait for it."),
    ("pings", "heartbeats", "PINGs to connections that had been silent."),
    ("too_deep", "messages_too_deep", "Connections that ended for a message nested too deeply."),
    ("faults", "faults", "Mistakes in the broker itself; the log has them."),
)

_GAUGES: Final = (
    ("connections", "connections", "Connections that are open."),
    ("identified", "connections_identified", "Of these, identified."),
    ("groups", "groups", "Groups with at least one member."),
    ("requests_in_flight", "requests_in_flight", "Requests that have not ended."),
    ("outboxes_bytes", "outbox_bytes", "What receivers have yet to take."),
)

_EVICTIONS: Final = ("outbox_bytes", "outboxes_bytes", "stall_ms")

_TURNED_AWAY: Final = (
    "connections",
    "connections_per_address",
    "draining",
    "evicted",
    "unidentified_connections",
)


class Exposition:
    """Writes the metrics.

    Args:
        source: what is shown.
    """

    def __init__(self, source: Source) -> None:
        # Not the library's own registry: what else runs in this process has no place here.
        self._registry = CollectorRegistry()
        self._registry.register(_Broker(source))
        ProcessCollector(registry=self._registry)

    def write(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type.

        Args:
            accept: what the client takes: Prometheus' own text, or OpenMetrics.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Broker(Collector):
    """Collects what one broker has counted."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        source = self._source
        statistics = source.dispatcher.statistics()
        yield _gauge("build_info", "Which broker this is.", {(broker.__version__,): 1}, "version")
        yield _gauge("start_time_seconds", "When it started, since 1970.", source.started)
        yield _gauge("ready", "Whether it is ready to take traffic.", source.readiness.ready)
        for attribute, name, text in _GAUGES:
            yield _gauge(name, text, getattr(statistics, attribute))
        for attribute, name, text in _PLAIN:
            yield _counter(name, text, {(): getattr(statistics, attribute)})
        yield from self._by_word(statistics)
        yield from self._traffic(statistics)
        yield from self._measured()

    def _by_word(self, statistics: Statistics) -> Iterator[Metric]:
        yield _counter(
            "connections_closed",
            "Connections that ended, by reason.",
            _all(Reason, statistics.closed),
            "reason",
        )
        yield _counter(
            "connections_turned_away",
            "Connections that there was no place for, by the limit that said so.",
            _all(_TURNED_AWAY, statistics.turned_away),
            "limit",
        )
        yield _counter(
            "frames_refused",
            "Frames that were answered with an error, by its code.",
            _all(ErrorCode, statistics.refused),
            "code",
        )
        yield _counter(
            "requests_failed",
            "Requests that the broker ended with an error, by its code.",
            _all(ErrorCode, statistics.failed),
            "code",
        )
        yield _counter(
            "evictions",
            "Receivers that were cut as SLOW_CONSUMER, by the limit that said so.",
            _all(_EVICTIONS, statistics.evictions),
            "limit",
        )

    def _traffic(self, statistics: Statistics) -> Iterator[Metric]:
        dispatcher = self._source.dispatcher
        metrics = dispatcher.metrics
        yield _counter(
            "messages_received",
            "Messages that came in.",
            metrics.received(statistics.frames_in),
            "op",
            "target",
        )
        yield _counter(
            "messages_delivered",
            "Copies of EVENTs and REPLYs that were put into outboxes.",
            metrics.delivered(statistics.frames_out),
            "op",
            "target",
        )
        yield _counter(
            "received_bytes",
            "Bytes that came in; those of a read count for the kind of one message in it.",
            metrics.bytes_in,
            "op",
            "target",
        )
        yield _counter("sent_bytes", "Bytes that were written.", {(): metrics.bytes_out})
        yield _gauge(
            "requests_waiting_bytes",
            "The data of requests that wait for a free member.",
            dispatcher.requests.waiting_bytes,
        )

    def _measured(self) -> Iterator[Metric]:
        dispatcher = self._source.dispatcher
        metrics = dispatcher.metrics
        if not metrics.enabled:
            return
        by_label = metrics.traffic.by_label(dispatcher.requests.ledger.opened)
        yield _counter(
            "edge_requests",
            "Requests from one group to another.",
            {labels: requests for labels, (requests, _) in by_label.items()},
            "caller",
            "callee",
        )
        yield _counter(
            "edge_errors",
            "Of these, those that ended with an error.",
            {labels: errors for labels, (_, errors) in by_label.items()},
            "caller",
            "callee",
        )
        yield _histogram(
            "request_duration_seconds",
            "How long it took until requests were answered; under load, of a sample.",
            metrics.requests,
        )
        yield _histogram(
            "transit_duration_seconds",
            "How long messages took from read to written; under load, of a sample.",
            metrics.transit,
        )
        yield _histogram(
            "reactor_batch_messages",
            "How many messages were read at a time; under load, of a sample.",
            metrics.batches,
        )
        yield _counter(
            "reactor_busy_seconds",
            "How long the data plane has been at work: its rate is the share of the time.",
            {(): metrics.busy},
        )


def _all(words: Iterable[_Word], counted: Mapping[_Word, int]) -> dict[tuple[str, ...], int]:
    """Every word, so that a series is there before anything has happened."""
    return {(str(word),): counted.get(word, 0) for word in words}


def _gauge(name: str, text: str, value: float | Mapping[_Labels, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for at, number in value.items() if isinstance(value, Mapping) else [((), value)]:
        family.add_metric(at, number)
    return family


def _counter(name: str, text: str, values: Mapping[_Labels, float], *labels: str) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=labels)
    for at, number in values.items():
        family.add_metric(at, number)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets: list[Sequence[str]] = []
    total = 0
    bounds = [*map(repr, histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, str(total)))
    family = HistogramMetricFamily(_PREFIX + name, text)
    family.add_metric([], [(bound, float(count)) for bound, count in buckets], histogram.sum)
    return family
