"""From single measurements to medians, and to ratios within a round."""

import statistics
from collections.abc import Callable, Sequence

import attrs

from benchmarks.rounds import Results
from benchmarks.scenarios import Figures, Scenario
from benchmarks.subjects import Row

Metric = Callable[[Figures], float]


def rate(figures: Figures) -> float:
    """Routed messages a second."""
    return figures.rate


def p50(figures: Figures) -> float:
    """Median latency."""
    return figures.latency.p50


def p99(figures: Figures) -> float:
    """Latency that one in a hundred exceeds."""
    return figures.latency.p99


def server_cost(figures: Figures) -> float:
    """Processor time of the server for each message."""
    return figures.server_cost


def foreign_cpu(figures: Figures) -> float:
    """Processor time that others took meanwhile."""
    return figures.foreign_cpu


@attrs.frozen
class Spread:
    """The median of some rounds, and how far they lie apart.

    The quartiles hold the middle half of the rounds: with one disturbed round in ten, lowest and
    highest say more about the disturbance than about the servers.
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """Summarize; None when there is nothing to summarize."""
        if not values:
            return None
        if len(values) == 1:
            return cls(*[values[0]] * 5)
        lower, median, upper = statistics.quantiles(values, method="inclusive")
        return cls(median, lower, upper, min(values), max(values))


def spread(results: Results, row: Row, scenario: Scenario, metric: Metric) -> Spread | None:
    """Summarize one metric over the rounds."""
    return Spread.of([metric(figures) for figures in results.of(row, scenario).values()])


def ratio(
    results: Results, row: Row, base: Row, scenario: Scenario, metric: Metric = rate
) -> Spread | None:
    """Summarize `row` ÷ `base`, taken round by round.

    The two of one round ran within seconds of each other, so what slows the whole machine for a
    while cancels out; of two medians it would not.
    """
    ours, theirs = results.of(row, scenario), results.of(base, scenario)
    return Spread.of(
        [
            metric(ours[number]) / metric(theirs[number])
            for number in ours.keys() & theirs.keys()
            if metric(theirs[number])
        ]
    )


def noise(results: Results) -> float:
    """Return the cores' worth that others used, on average: a median would hide a noisy half."""
    good = [entry.figures for entry in results.measurements if entry.figures]
    return statistics.fmean(map(foreign_cpu, good)) if good else 0.0


def client_is_limit(results: Results, row: Row, scenario: Scenario) -> bool:
    """Whether the load generator was near its limit in most rounds."""
    rounds = results.of(row, scenario).values()
    return bool(rounds) and statistics.median(figures.client_is_limit for figures in rounds) >= 0.5
