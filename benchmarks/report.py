"""The tables for people and the JSON for programs."""

import platform
from collections.abc import Sequence
from typing import Any

import attrs
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from benchmarks.rounds import Plan, Results
from benchmarks.scenarios import Scenario
from benchmarks.subjects import Row
from benchmarks.summary import (
    Spread,
    client_is_limit,
    noise,
    p50,
    p99,
    rate,
    ratio,
    server_cost,
    spread,
)

ABSENT = "-"

# Without a terminal there is no width to fit; the widest table needs about this.
PIPE_WIDTH = 140

# From this many cores' worth on, what else runs on the machine is mentioned.
NOTABLE_NOISE = 0.2

# More of them side by side don't fit a screen.
SCENARIOS_PER_TABLE = 2


def stdout_console() -> Console:
    """Return the console for the report."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def overview(plan: Plan, results: Results) -> Group:
    """Return everything that is to be shown at the end."""
    parts: list[Table | Text] = []
    for start in range(0, len(plan.scenarios), SCENARIOS_PER_TABLE):
        scenarios = plan.scenarios[start : start + SCENARIOS_PER_TABLE]
        is_last = start + SCENARIOS_PER_TABLE >= len(plan.scenarios)
        parts.append(_main_table(plan, results, scenarios, with_memory=is_last))
    if any(row.subject.kind == "before" for row in plan.rows):
        parts.append(_before_after_table(plan, results))
    parts.extend(Text(line) for line in _notes(plan, results))
    return Group(*parts)


def _main_table(
    plan: Plan, results: Results, scenarios: Sequence[Scenario], *, with_memory: bool
) -> Table:
    table = Table(title="Medians, and ratios within a round", box=box.SIMPLE)
    table.add_column("server", no_wrap=True, vertical="bottom")
    table.add_column("door", no_wrap=True, vertical="bottom")
    for scenario in scenarios:
        table.add_column(f"{scenario.title}\nmsg/s", justify="right", vertical="bottom")
        if _base(plan, "nats"):
            table.add_column("÷ nats", justify="right", vertical="bottom")
        table.add_column("p50 / p99 µs", justify="right", vertical="bottom", no_wrap=True)
    with_memory = with_memory and plan.connections > 0
    if with_memory:
        table.add_column("idle connection\nKiB", justify="right", vertical="bottom")
    for row in plan.rows:
        cells = [row.subject.label, row.door]
        for scenario in scenarios:
            cells += _cells(plan, results, row, scenario)
        if with_memory:
            memory = results.memory_of(row)
            cells.append(ABSENT if memory is None else f"{memory / 1024:.1f}")
        table.add_row(*cells)
    return table


def _cells(plan: Plan, results: Results, row: Row, scenario: Scenario) -> list[str]:
    mark = "*" if client_is_limit(results, row, scenario) else ""
    cells = [_number(spread(results, row, scenario, rate), "{:,.0f}") + mark]
    base = _base(plan, "nats")
    if base:
        cells.append(_number(ratio(results, row, base, scenario), "{:.2f}"))
    half, tail = (spread(results, row, scenario, metric) for metric in (p50, p99))
    cells.append(f"{_number(half, '{:,.0f}')} / {_number(tail, '{:,.0f}')}")
    return cells


def _before_after_table(plan: Plan, results: Results) -> Table:
    table = Table(
        title="After ÷ before: median (middle half of the rounds)",
        caption="better is: a higher rate, lower times, less CPU",
        box=box.SIMPLE,
    )
    for heading in ("door", "traffic"):
        table.add_column(heading)
    for heading in ("before msg/s", "after msg/s", "rate", "p50", "p99", "CPU µs/msg"):
        table.add_column(heading, justify="right", no_wrap=True)
    for after, before in _versions(plan):
        for scenario in plan.scenarios:
            if ratio(results, after, before, scenario) is None:
                continue
            table.add_row(
                after.door,
                scenario.title,
                _number(spread(results, before, scenario, rate), "{:,.0f}"),
                _number(spread(results, after, scenario, rate), "{:,.0f}"),
                *(
                    _ratio_with_spread(ratio(results, after, before, scenario, metric))
                    for metric in (rate, p50, p99, server_cost)
                ),
            )
        memory = results.memory_of(after), results.memory_of(before)
        if memory[0] is not None and memory[1]:
            sizes = [f"{size / 1024:.1f} KiB" for size in (memory[1], memory[0])]
            table.add_row(
                after.door, "an idle connection", *sizes, f"{memory[0] / memory[1]:.2f}", "", "", ""
            )
    return table


def _versions(plan: Plan) -> list[tuple[Row, Row]]:
    """Pair this checkout's rows with those of the other, door by door."""
    return [
        (after, before)
        for after in plan.rows
        for before in plan.rows
        if after.subject.kind == "switchboard" and before.subject.kind == "before"
        if after.door == before.door
    ]


def _notes(plan: Plan, results: Results) -> list[str]:
    notes = []
    yardstick = _base(plan, "relay")
    ours = next(
        (row for row in plan.rows if row.subject.kind == "switchboard" and row.door == "websocket"),
        None,
    )
    if yardstick and ours:
        for scenario in plan.scenarios:
            times = ratio(results, ours, yardstick, scenario)
            if times:
                notes.append(
                    f"{ours} ÷ {yardstick.subject.label}, {scenario.title}: {times.median:.1f}"
                )
    if any(
        client_is_limit(results, row, scenario) for row in plan.rows for scenario in plan.scenarios
    ):
        notes.append("* the load generator used a whole core: the server may be faster than this")
    others = noise(results)
    if others >= NOTABLE_NOISE:
        notes.append(
            f"noise: others used {others:.1f} cores meanwhile; on a quiet machine ratios may differ"
        )
    notes += [f"failed: {failure}" for failure in results.failures]
    return notes


def _base(plan: Plan, kind: str) -> Row | None:
    return next((row for row in plan.rows if row.subject.kind == kind), None)


def _number(value: Spread | None, form: str) -> str:
    return ABSENT if value is None else form.format(value.median)


def _ratio_with_spread(value: Spread | None) -> str:
    if value is None:
        return ABSENT
    return f"{value.median:.2f} ({value.lower_quartile:.2f}-{value.upper_quartile:.2f})"


def as_json(plan: Plan, results: Results) -> dict[str, Any]:
    """Return every single measurement, and the summary that the table shows."""
    nats = _base(plan, "nats")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "warm_up": plan.warm_up,
        "connections": plan.connections,
        "measurements": [
            {
                "server": entry.row.subject.label,
                "door": entry.row.door,
                "scenario": entry.scenario.name,
                "round": entry.round,
                "figures": attrs.asdict(entry.figures) if entry.figures else None,
                "failure": entry.failure,
            }
            for entry in results.measurements
        ],
        "noise": noise(results),
        "memory": [
            {
                "server": entry.row.subject.label,
                "door": entry.row.door,
                "bytes_per_connection": entry.idle.bytes_each if entry.idle else None,
                "identified_per_second": entry.idle.rate if entry.idle else None,
                "failure": entry.failure,
            }
            for entry in results.memory
        ],
        "summary": [
            {
                "server": row.subject.label,
                "door": row.door,
                "scenario": scenario.name,
                "rate": _spread_json(spread(results, row, scenario, rate)),
                "p50": _spread_json(spread(results, row, scenario, p50)),
                "p99": _spread_json(spread(results, row, scenario, p99)),
                "server_cost": _spread_json(spread(results, row, scenario, server_cost)),
                "ratio_to_nats": _spread_json(ratio(results, row, nats, scenario))
                if nats
                else None,
            }
            for row in plan.rows
            for scenario in plan.scenarios
        ],
        "after_to_before": [
            {
                "door": after.door,
                "scenario": scenario.name,
                **{
                    metric.__name__: _spread_json(ratio(results, after, before, scenario, metric))
                    for metric in (rate, p50, p99, server_cost)
                },
            }
            for after, before in _versions(plan)
            for scenario in plan.scenarios
        ],
    }


def _spread_json(value: Spread | None) -> dict[str, float] | None:
    return None if value is None else attrs.asdict(value)
