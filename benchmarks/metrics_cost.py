"""`python -m benchmarks.metrics_cost`: what the broker's measurements of itself cost.

The broker's data plane runs in processes of its own over socket pairs, with `ops.metrics` and
without, in turns; what it takes for a message is the processor time of the reactor's turns alone.
With `--against`, another checkout of this repository is measured beside them.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
WORKER = HERE / "metrics_cost_worker.py"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=9, type=click.IntRange(1), help="How often all are measured.")
@click.option("--turns", default=2_000, type=click.IntRange(10), help="Of the reactor, each time.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of this repository, measured side by side.",
)
def main(*, rounds: int, turns: int, against: Path | None) -> None:
    """Measure the broker with its metrics and without, side by side."""
    variants = {"without metrics": (HERE.parent, "off"), "with metrics": (HERE.parent, "on")}
    if against:
        variants["against, as it is"] = (against.resolve(), "on")
    found: dict[str, dict[str, list[float]]] = {name: {} for name in variants}
    for number in range(rounds):
        # Now one first, now the other: whatever else the machine does, it does to both.
        names = list(variants) if number % 2 else list(reversed(variants))
        for name in names:
            for scenario, cost in measure(*variants[name], turns).items():
                found[name].setdefault(scenario, []).append(cost)
    Console(highlight=False).print(_table(found))


def measure(checkout: Path, metrics: str, turns: int) -> dict[str, float]:
    """Return the nanoseconds a message of each scenario."""
    words: Sequence[str] = (sys.executable, str(WORKER), metrics, str(turns))
    result = subprocess.run(
        words,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    costs: dict[str, float] = json.loads(result.stdout)
    return costs


def _table(found: dict[str, dict[str, list[float]]]) -> Table:
    table = Table(title="ns a message: the median, and of the ratios within a round")
    table.add_column("traffic")
    for name in found:
        table.add_column(name, justify="right")
    base, *others = found.values()
    for scenario, costs in base.items():
        cells = [f"{statistics.median(costs):,.0f}"]
        for other in others:
            ratios = [ours / theirs for ours, theirs in zip(other[scenario], costs, strict=True)]
            median = statistics.median(other[scenario])
            cells.append(f"{median:,.0f} ({statistics.median(ratios) - 1:+.1%})")
        table.add_row(scenario, *cells)
    return table


if __name__ == "__main__":
    main()
