"""`python -m tests.fuzz`: both engines on every target, for as long as is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console
from rich.table import Table

from tests.fuzz.targets import TARGETS

ROOT: Final = Path(__file__).resolve().parents[2]
ENGINES: Final = ("atheris", "hypothesis")

_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
# Beyond its time, an engine gets so many seconds to start and to shrink what it has found.
_SPARE: Final = 300


@attrs.frozen
class Result:
    """What an engine has done to a target."""

    target: str
    engine: str
    executions: int
    seconds: float
    failed: bool
    log: Path


def fuzz(target: str, engine: str, directory: Path, seconds: int) -> Result:
    """Run one engine on one target, in a process of its own."""
    log = directory / f"{target}-{engine}.log"
    command = [
        *(sys.executable, "-m", f"tests.fuzz.{engine}_engine"),
        *(target, str(directory), str(seconds)),
    ]
    start = time.monotonic()
    with log.open("w") as output:
        status = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds + _SPARE,
            check=False,
        ).returncode
    counts = _EXECUTIONS.findall(log.read_text(errors="replace"))
    executions = int(counts[-1]) if counts else 0
    failed = bool(status) or not counts
    return Result(target, engine, executions, time.monotonic() - start, failed, log)


def show(results: list[Result], console: Console) -> None:
    """Print the figures."""
    table = Table("Target", "Engine", "Executions", "Seconds", "Unhandled exceptions")
    for result in results:
        failures = f"1, see {result.log}" if result.failed else "0"
        executions = f"{result.executions:,}"
        table.add_row(result.target, result.engine, executions, f"{result.seconds:.0f}", failures)
    total = sum(result.executions for result in results)
    failed = sum(result.failed for result in results)
    table.add_section()
    seconds = sum(result.seconds for result in results)
    table.add_row("all", "", f"{total:,}", f"{seconds:.0f}", str(failed))
    console.print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--minutes", default=60.0, type=click.FloatRange(0.01), help="In all.")
@click.option("--jobs", default=2, type=click.IntRange(1), help="Engines at a time.")
@click.option("--target", "names", multiple=True, type=click.Choice(list(TARGETS)))
@click.option("--engine", "engines", multiple=True, type=click.Choice(ENGINES))
@click.option(
    "--cache",
    default=ROOT / ".fuzz",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where inputs are kept for the next time, and those that fail.",
)
@click.option(
    "--input",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run nothing but this input, on the one target that is named.",
)
def main(
    *,
    minutes: float,
    jobs: int,
    names: tuple[str, ...],
    engines: tuple[str, ...],
    cache: Path,
    path: Path | None,
) -> None:
    """Fuzz the codec, the framings, the handshake and the mesh."""
    if path is not None:
        if len(names) != 1:
            raise click.UsageError("name the --target that the input is for")
        TARGETS[names[0]].run(path.read_bytes())
        return
    engines = engines or ENGINES
    if "atheris" in engines and find_spec("atheris") is None:
        raise click.UsageError(
            "atheris is not installed: pip install '.[dev,fuzz]', or --engine hypothesis"
        )
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    runs = [(name, engine) for name in names or TARGETS for engine in engines]
    shares = sum(TARGETS[name].share for name, _ in runs)
    share = minutes * 60 * min(jobs, len(runs)) / shares
    with ThreadPoolExecutor(jobs) as pool:
        running = [
            pool.submit(fuzz, name, engine, cache, max(1, int(share * TARGETS[name].share)))
            for name, engine in runs
        ]
        results = [run.result() for run in running]
    show(results, Console(width=100))
    sys.exit(any(result.failed for result in results))


if __name__ == "__main__":
    main()
