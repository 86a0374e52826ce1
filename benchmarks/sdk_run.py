"""`python -m benchmarks.sdk_run`: the SDK beside nats.py, each on its own broker, in one run."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import attrs
import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from benchmarks.processes import ServerError
from benchmarks.sdk_report import Results, as_json, table
from benchmarks.sdk_stacks import (
    SCENARIOS,
    Row,
    Stack,
    Traffic,
    WorkerError,
    rows,
    running_stack,
    snapshot,
)
from benchmarks.subjects import REPOSITORY, SubjectError

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

OURS, BEFORE = "switchboard", "before"

# The widest table needs about this.
PIPE_WIDTH = 190

# Before the first round, of each traffic: caches and code warm, connections in their stride.
WARM_UP = 0.02


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=5, type=click.IntRange(1), help="Turns of each row.")
@click.option("--quick", is_flag=True, help="A tenth of it in one round: does it work at all?")
@click.option(
    "--limit",
    default=90.0,
    type=click.FloatRange(1),
    help="Seconds after which no round begins, on a busy machine.",
)
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice([traffic.name for traffic in SCENARIOS]),
    help="Kinds of traffic; all of them without.",
)
@click.option("--only", multiple=True, help="Rows with all of these words in their name, and nats.")
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
def main(
    *,
    rounds: int,
    quick: bool,
    limit: float,
    names: Sequence[str],
    only: Sequence[str],
    against: Path | None,
    json_file: Path | None,
) -> None:
    """Measure the SDK and our broker beside nats.py and nats-server.

    Each requester, service, publisher and subscriber is a process of its own. Read the ratios:
    they are taken within a round. Exits with status 1 when a measurement failed.
    """
    if json_file and not json_file.absolute().parent.is_dir():
        raise click.UsageError(f"--json: there is no directory {json_file.absolute().parent}")
    signal.signal(signal.SIGTERM, _on_terminate)
    scenarios = [traffic for traffic in SCENARIOS if not names or traffic.name in names]
    part = 1 / rounds
    if quick:
        rounds, part = 1, 0.1
    log = Console(stderr=True, highlight=False)
    results = Results()
    try:
        with tempfile.TemporaryDirectory(prefix="switchboard-sdk-bench-") as directory:
            temporary = Path(directory)
            checkouts = {OURS: snapshot(REPOSITORY, temporary / OURS)}
            if against:
                checkouts[BEFORE] = snapshot(against, temporary / BEFORE)
            chosen = [
                row
                for row in rows(checkouts)
                if row.checkout is None or all(word in str(row) for word in only)
            ]
            plan = _Plan(chosen, scenarios, rounds, part, limit)
            plan.carry_out(temporary, results, log)
    except (ServerError, SubjectError, WorkerError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        log.print("interrupted; all processes are stopped")
        sys.exit(EXIT_INTERRUPTED)
    befores = {
        row: other
        for row in chosen
        for other in chosen
        if row.label == OURS and other.label == BEFORE
        if (row.loop, row.door) == (other.loop, other.door)
    }
    console = Console(highlight=False)
    if not console.is_terminal:
        # There is no width to fit.
        console.width = PIPE_WIDTH
    console.print(table(chosen, scenarios, results, befores))
    for failure in results.failures:
        console.print(f"failed: {failure}", markup=False)
    if json_file:
        json_file.write_text(json.dumps(as_json(chosen, scenarios, results), indent=2) + "\n")
    sys.exit(1 if results.failures else 0)


@attrs.frozen
class _Plan:
    """What is going to be done, in this order.

    Attributes:
        part: of each traffic's count, the part that is a round's.
        limit: seconds after which no more rounds begin.
    """

    rows: Sequence[Row]
    scenarios: Sequence[Traffic]
    rounds: int
    part: float
    limit: float

    def carry_out(self, temporary: Path, results: Results, log: Console) -> None:
        """Start everything, measure, stop everything."""
        begun = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        turns = self.rounds * len(self.scenarios)
        with ExitStack() as opened, Progress(*columns, console=log, transient=True) as progress:
            task = progress.add_task("starting", total=len(self.rows) * (1 + turns))
            stacks: dict[Row, Stack] = {}
            for row in self.rows:
                stacks[row] = opened.enter_context(running_stack(row, temporary))
                for traffic in self.scenarios:
                    stacks[row].measure(traffic, int(traffic.count * WARM_UP))
                progress.advance(task)
            progress.update(task, description="measuring")
            for number in range(1, self.rounds + 1):
                if time.monotonic() - begun > self.limit:
                    log.print(f"time is over: {number - 1} of {self.rounds} rounds (--limit)")
                    break
                self._round(number, stacks, results, progress, task)

    def _round(
        self,
        number: int,
        stacks: dict[Row, Stack],
        results: Results,
        progress: Progress,
        task: TaskID,
    ) -> None:
        for traffic in self.scenarios:
            # Every other round goes backwards: what comes later in one gains or loses nothing.
            for row in list(stacks) if number % 2 else list(stacks)[::-1]:
                turn = _Turn(row, traffic, number, int(traffic.count * self.part))
                if not turn.take(stacks[row], results, progress.console):
                    # Who knows what it would say next.
                    del stacks[row]
                progress.advance(task)


@attrs.frozen
class _Turn:
    row: Row
    traffic: Traffic
    number: int
    count: int

    def take(self, stack: Stack, results: Results, log: Console) -> bool:
        """Measure once; False where that failed."""
        what = f"round {self.number}, {self.traffic.name}: {self.row}"
        try:
            figures = stack.measure(self.traffic, self.count)
        except WorkerError as error:
            results.failures.append(f"{what}: {error}")
            log.print(f"{what}: {error}", markup=False, soft_wrap=True)
            return False
        results.add(self.row, self.traffic, self.number, figures)
        log.print(f"{what}: {figures.rate:,.0f}/s", markup=False, soft_wrap=True)
        return True


def _on_terminate(_number: int, _frame: FrameType | None) -> None:
    """Leave by an exception, so that every `finally` on the way stops its process."""
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
