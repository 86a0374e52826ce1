"""`python -m tests.soak`: everything at once for as long as is asked for, and what is left."""

from __future__ import annotations

import sys

import attrs
import click
import trio
from rich.console import Console
from rich.table import Table

from tests.soak.samples import Sample, blocks_left, problems, resident_growth
from tests.soak.soaking import soak


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--minutes", default=10.0, type=click.FloatRange(0.1), help="How long.")
def main(minutes: float) -> None:
    """Let clients of all kinds come and go, and see that nothing is left of them."""
    console = Console(width=120)

    def tell(sample: Sample) -> None:
        console.print(
            f"{sample.opened:>8,} connections so far: {sample.resident_kib:,} KiB, "
            f"{sample.blocks:,} blocks, {sample.files} files, {sample.tasks} tasks"
        )

    report = trio.run(soak, minutes * 60, tell)
    baseline, last = report.samples[0], report.samples[-1]
    table = Table("What", "At first", "At the end")
    for field in attrs.fields(Sample):
        values = (getattr(sample, field.name) for sample in (baseline, last))
        table.add_row(field.name, *(f"{value:,.0f}" for value in values))
    console.print(table)
    console.print("done:", report.done)
    console.print("closed:", report.statistics["closed"])
    console.print(
        f"memory, the last third beside the second: {resident_growth(report.samples):+.0f} KiB"
    )
    blocks, opened = blocks_left(report.samples)
    console.print(f"{blocks:+.0f} blocks over {opened:,.0f} connections")
    found = problems(report.samples)
    for problem in found:
        console.print(f"NOT AS IT WAS: {problem}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
