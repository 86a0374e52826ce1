"""`python -m benchmarks.run`: the broker beside nats-server and a plain relay, in one run."""

import json
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.build import BuildError, build_generator
from benchmarks.generator import Generator
from benchmarks.processes import ServerError
from benchmarks.report import as_json, overview, stdout_console
from benchmarks.rounds import Measurement, Memory, Plan, Results, Runner
from benchmarks.scenarios import SCENARIOS, STANDARD
from benchmarks.subjects import (
    Subject,
    SubjectError,
    nats,
    relay,
    switchboard,
    switchboard_before,
)

KINDS = ("nats", "switchboard", "relay")

# Descriptors that a server or the generator needs besides its connections.
SPARE_DESCRIPTORS = 200

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=7, type=click.IntRange(1), help="How often all are measured.")
@click.option("--seconds", default=1.0, type=click.FloatRange(0.1), help="Of one measurement.")
@click.option("--warm-up", default=0.3, type=click.FloatRange(0), help="Seconds before each.")
@click.option("--quick", is_flag=True, help="One short round: does it work at all?")
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Measure these servers.")
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice([*SCENARIOS, "all"]),
    default=STANDARD,
    help="Kinds of traffic.",
)
@click.option(
    "--connections",
    default=10_000,
    type=click.IntRange(0, 60_000),
    help="Idle ones, for the memory; 0 leaves it out.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of this repository, measured side by side.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every figure here.",
)
@click.option("--pin", is_flag=True, help="Servers on core 0, the load generator on core 1.")
def main(
    *,
    rounds: int,
    seconds: float,
    warm_up: float,
    quick: bool,
    only: Sequence[str],
    names: Sequence[str],
    connections: int,
    against: Path | None,
    json_file: Path | None,
    pin: bool,
) -> None:
    """Measure the broker beside nats-server and a plain trio-websocket relay.

    All run on this machine, in turns, under the same load generator. Read the ratios: they are
    taken within a round. Exits with status 1 when a measurement failed.
    """
    if against and only and "switchboard" not in only:
        raise click.UsageError("--against needs this checkout's broker: add --only switchboard")
    if json_file and not json_file.absolute().parent.is_dir():
        raise click.UsageError(f"--json: there is no directory {json_file.absolute().parent}")
    signal.signal(signal.SIGTERM, _on_terminate)
    if quick:
        rounds, seconds, warm_up, connections = 1, 0.5, 0.2, min(connections, 500)
    log = Console(stderr=True, highlight=False)
    chosen = SCENARIOS if "all" in names else dict.fromkeys(names)
    try:
        with tempfile.TemporaryDirectory(prefix="switchboard-bench-") as directory:
            temporary = Path(directory)
            plan = Plan(
                subjects=_subjects(only or KINDS, against, temporary),
                scenarios=[SCENARIOS[name] for name in chosen],
                rounds=rounds,
                warm_up=warm_up,
                seconds=seconds,
                connections=_affordable(connections, log),
                server_core=0 if pin else None,
            )
            generator = Generator(build_generator(temporary), core=1 if pin else None)
            results = _run(plan, generator, temporary, log)
    except (BuildError, ServerError, SubjectError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        log.print("interrupted; all servers are stopped")
        sys.exit(EXIT_INTERRUPTED)
    stdout_console().print(overview(plan, results))
    if json_file:
        json_file.write_text(json.dumps(as_json(plan, results), indent=2) + "\n")
    sys.exit(1 if results.failures else 0)


def _subjects(kinds: Sequence[str], against: Path | None, temporary: Path) -> list[Subject]:
    subjects = []
    if "nats" in kinds:
        subjects.append(nats())
    if "switchboard" in kinds:
        subjects.append(switchboard(temporary))
        if against:
            subjects.append(switchboard_before(against, temporary))
    if "relay" in kinds:
        subjects.append(relay())
    return subjects


def _affordable(connections: int, log: Console) -> int:
    """Raise the limit on open files, which the children inherit, and keep within it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or connections + SPARE_DESCRIPTORS <= hard:
        return connections
    lower = max(0, hard - SPARE_DESCRIPTORS)
    log.print(f"only {hard} open files are allowed: {lower} idle connections, not {connections}")
    return lower


def _run(plan: Plan, generator: Generator, temporary: Path, log: Console) -> Results:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=log, transient=True) as progress:
        task = progress.add_task("measuring", total=plan.steps)

        def report(entry: Measurement | Memory) -> None:
            progress.console.print(_line(entry), soft_wrap=True, markup=False)
            progress.advance(task)

        return Runner(plan, generator, temporary).run(report)


def _line(entry: Measurement | Memory) -> str:
    if isinstance(entry, Memory):
        what = "idle connections"
        value = (
            f"{entry.idle.bytes_each / 1024:.1f} KiB each, {entry.idle.rate:,.0f} identified/s"
            if entry.idle
            else ""
        )
    else:
        what = f"round {entry.round}, {entry.scenario.title}"
        value = f"{entry.figures.rate:,.0f} msg/s" if entry.figures else ""
    return f"{what}: {entry.row}: {entry.failure or value}"


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that every `finally` on the way stops its process."""
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
