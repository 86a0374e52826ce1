"""The table of a run of `sdk_run`, and its JSON."""

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from rich import box
from rich.table import Table

from benchmarks.sdk_stacks import NATS, Figures, Row, Traffic
from benchmarks.summary import Spread

ABSENT = "-"

Metric = Callable[[Figures], float | None]


@attrs.define
class Results:
    """Everything that was measured so far: by row and traffic, by round."""

    figures: dict[tuple[Row, str], dict[int, Figures]] = attrs.field(factory=dict)
    failures: list[str] = attrs.field(factory=list)

    def add(self, row: Row, traffic: Traffic, number: int, figures: Figures) -> None:
        """Enter one turn."""
        self.figures.setdefault((row, traffic.name), {})[number] = figures

    def spread(self, row: Row, traffic: Traffic, metric: Metric) -> Spread | None:
        """Summarize one metric over the rounds."""
        found = self.figures.get((row, traffic.name), {}).values()
        return Spread.of([value for value in map(metric, found) if value is not None])

    def ratio(self, row: Row, base: Row, traffic: Traffic, metric: Metric) -> Spread | None:
        """Summarize `row` ÷ `base`, taken round by round; see `summary.ratio`."""
        ours = self.figures.get((row, traffic.name), {})
        theirs = self.figures.get((base, traffic.name), {})
        pairs = [(metric(ours[n]), metric(theirs[n])) for n in ours.keys() & theirs.keys()]
        return Spread.of([mine / other for mine, other in pairs if mine is not None and other])


def _rate(figures: Figures) -> float:
    return figures.rate


def _p50(figures: Figures) -> float | None:
    return figures.p50


def _p99(figures: Figures) -> float | None:
    return figures.p99


def _client_cost(figures: Figures) -> float:
    return figures.client_cost


def _peer_cost(figures: Figures) -> float:
    return figures.peer_cost


def _broker_cost(figures: Figures) -> float:
    return figures.broker_cost


def _library_cost(figures: Figures) -> float:
    """Everything but the broker."""
    return figures.client_cost + figures.peer_cost


def table(
    rows: Sequence[Row], scenarios: Sequence[Traffic], results: Results, befores: Mapping[Row, Row]
) -> Table:
    """Return the one table: a section a scenario.

    Args:
        rows: the rows, in their order.
        scenarios: the sections.
        results: what was measured.
        befores: for each row of this checkout the one of the other, if there is one.
    """
    result = Table(
        title="The SDK beside nats.py: medians, and ratios within a round (middle half)",
        caption="CPU: µs of processor time a request or event; the ratio is of client and peers",
        box=box.SIMPLE,
    )
    for heading in ("traffic", "library", "loop", "door"):
        result.add_column(heading, no_wrap=heading != "traffic", vertical="top")
    headings = [
        "a second",
        "÷ nats.py",
        "p50 / p99 µs",
        "p99 ÷ nats.py",
        "CPU: client",
        "peers",
        "broker",
        "÷ nats.py",
    ]
    if befores:
        headings.insert(2, "÷ before")
        headings.append("÷ before")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=True)
    for traffic in scenarios:
        for row in rows:
            cells = [traffic.title if row is rows[0] else "", row.label, row.loop, row.door]
            cells.append(_number(results.spread(row, traffic, _rate)))
            cells.append(ABSENT if row == NATS else _ratio(results, row, NATS, traffic, _rate))
            if befores:
                before = befores.get(row)
                cells.append("" if before is None else _ratio(results, row, before, traffic, _rate))
            half, tail = (results.spread(row, traffic, metric) for metric in (_p50, _p99))
            cells.append(ABSENT if half is None else f"{_number(half)} / {_number(tail)}")
            cells.append(ABSENT if row == NATS else _ratio(results, row, NATS, traffic, _p99))
            cells += [
                _number(
                    results.spread(row, traffic, metric), "{:,.0f}" if traffic.tasks else "{:,.1f}"
                )
                for metric in (_client_cost, _peer_cost, _broker_cost)
            ]
            for base in (NATS, befores.get(row)) if befores else (NATS,):
                costs = None if base is None else results.ratio(row, base, traffic, _library_cost)
                cells.append(ABSENT if row == base or costs is None else f"{costs.median:.2f}")
            result.add_row(*cells)
        result.add_section()
    return result


def _number(value: Spread | None, form: str = "{:,.0f}") -> str:
    return ABSENT if value is None else form.format(value.median)


def _ratio(results: Results, row: Row, base: Row, traffic: Traffic, metric: Metric) -> str:
    value = results.ratio(row, base, traffic, metric)
    if value is None:
        return ABSENT
    return f"{value.median:.2f} ({value.lower_quartile:.2f}-{value.upper_quartile:.2f})"


def as_json(rows: Sequence[Row], scenarios: Sequence[Traffic], results: Results) -> dict[str, Any]:
    """Return every single turn, and the ratios that the table shows."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "measurements": [
            {
                "library": row.label,
                "loop": row.loop,
                "door": row.door,
                "traffic": traffic.name,
                "round": number,
                **attrs.asdict(figures),
            }
            for traffic in scenarios
            for row in rows
            for number, figures in results.figures.get((row, traffic.name), {}).items()
        ],
        "ratio_to_nats": [
            {
                "library": row.label,
                "loop": row.loop,
                "door": row.door,
                "traffic": traffic.name,
                **attrs.asdict(ratio),
            }
            for traffic in scenarios
            for row in rows
            if (ratio := results.ratio(row, NATS, traffic, _rate)) is not None and row != NATS
        ],
        "failures": results.failures,
    }
