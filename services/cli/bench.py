"""`switchboard bench`: how much a broker can do, as far as a client in Python can tell."""

from __future__ import annotations

import csv
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.benching.coordinator import measure
from services.cli.benching.plan import MOST_IN_FLIGHT_BYTES, Mode, Plan, Summary
from services.cli.benching.report import CSV_COLUMNS, as_object, as_text
from services.cli.exits import CommandError, Exit
from services.cli.help import STANDARD_EXITS, epilog
from services.cli.output import error_console, print_object
from services.cli.running import run_client
from services.cli.target import DEFAULT_GROUP, Target, connects
from services.sdk import Forbidden

__all__ = ["bench", "run_plan"]

C = TypeVar("C", bound=Callable[..., Any])

_EXITS: Final = {**STANDARD_EXITS, Exit.FAILED: "messages were lost, or the broker refused some"}


@click.group(
    epilog=epilog(
        "switchboard bench publish",
        "switchboard bench publish --pairs 16 --window 1",
        "switchboard bench request --processes 2",
        "switchboard bench fanout --receivers 100 --csv figures.csv",
        exits=_EXITS,
    )
)
def bench() -> None:
    """Measure how much a broker can do.

    The traffic is that of `make bench`, in a group of its own, so that no service gets any of it;
    but the broker has it to do. The client is written in Python: the report says when it was the
    limit, and not the broker.
    """


def _measures(mode: Mode, window: int) -> Callable[[C], C]:
    options = [
        click.option(
            "-w",
            "--window",
            type=click.IntRange(1, 100_000),
            default=window,
            show_default=True,
            help="Broadcasts in flight." if mode is Mode.FANOUT else "Messages in flight, a pair.",
        ),
        click.option(
            "--size",
            type=click.IntRange(2, 1_000_000),
            default=128,
            show_default=True,
            metavar="BYTES",
            help="Of data in each message.",
        ),
        click.option(
            "--seconds",
            type=click.FloatRange(0.05, 3600),
            default=5.0,
            show_default=True,
            help="How long to measure.",
        ),
        click.option(
            "--warm-up",
            type=click.FloatRange(0, 60),
            default=0.5,
            show_default=True,
            metavar="SECONDS",
            help="Before that.",
        ),
        click.option(
            "--processes",
            type=click.IntRange(1, 64),
            default=1,
            show_default=True,
            help="Of the client's.",
        ),
        click.option(
            "--csv",
            "csv_file",
            type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
            metavar="FILE",
            help="Add a row of figures; - is stdout. A new file gets a row of names first.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Show the figures as JSON."),
    ]

    def decorate(function: C) -> C:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_PAIRS: Final = click.option(
    "-p", "--pairs", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Of them."
)


@bench.command(
    epilog=epilog(
        "switchboard bench publish",
        "switchboard bench publish --pairs 16 --window 1 --seconds 10",
        "switchboard bench publish --url tcp://127.0.0.1:8420 --json",
        exits=_EXITS,
    )
)
@_PAIRS
@_measures(Mode.PUBLISH, 512)
@connects
def publish(target: Target, **options: Any) -> None:  # noqa: ANN401 - those of `Plan`
    """Events between pairs of connections: A sends, B sends back.

    Counted are messages routed, both ways; the round trip is A's.
    """
    _run(target, Mode.PUBLISH, **options)


@bench.command(
    epilog=epilog(
        "switchboard bench request",
        "switchboard bench request --pairs 16 --window 1 --processes 2",
        exits=_EXITS,
    )
)
@_PAIRS
@_measures(Mode.REQUEST, 512)
@connects
def request(target: Target, **options: Any) -> None:  # noqa: ANN401 - those of `Plan`
    """Requests and replies between pairs of connections.

    Counted are messages routed, both ways; the round trip is that of a request.
    """
    _run(target, Mode.REQUEST, **options)


@bench.command(
    epilog=epilog(
        "switchboard bench fanout",
        "switchboard bench fanout --receivers 1000 --window 4 --processes 2",
        exits=_EXITS,
    )
)
@click.option(
    "-r", "--receivers", type=click.IntRange(1, 60_000), default=100, show_default=True, help="All."
)
@_measures(Mode.FANOUT, 16)
@connects
def fanout(target: Target, **options: Any) -> None:  # noqa: ANN401 - those of `Plan`
    """Broadcasts from one connection to a group.

    Counted are deliveries; the time is that of each of them, one way.
    """
    _run(target, Mode.FANOUT, **options)


def _run(
    target: Target,
    mode: Mode,
    *,
    csv_file: Path | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    plan = Plan(mode, **options)
    if plan.window * plan.size > MOST_IN_FLIGHT_BYTES:
        most = MOST_IN_FLIGHT_BYTES // plan.size
        raise click.UsageError(f"--window {plan.window} is too much of that --size: at most {most}")
    run_client(partial(run_plan, target, plan, csv_file, as_json=as_json))


async def run_plan(target: Target, plan: Plan, csv_file: Path | None, *, as_json: bool) -> Exit:
    """Measure, and report."""
    group = await _own_group(target)
    summary = await _measure(target, group, plan)
    complaint = summary.complaint()
    figures = as_object(plan, summary)
    if csv_file is not None:
        _write_csv(csv_file, figures)
    if as_json:
        print_object({**figures, "complaint": complaint})
    elif csv_file is None or str(csv_file) != "-":
        click.echo(as_text(plan, summary))
    if complaint is not None:
        raise CommandError(f"these figures can't be trusted: {complaint}")
    return Exit.DONE


async def _own_group(target: Target) -> str:
    """Return a group that has no members.

    Raises:
        CommandError: the token's only group has some, who would get the traffic.
    """
    group = target.group
    if group == DEFAULT_GROUP:
        group = f"bench-{secrets.token_hex(4)}"
    others = []
    async with Target(target.url, target.token, group, target.tls).connect() as mesh:
        # Who may not see the others has to know what the group is for.
        with suppress(Forbidden):
            others = [service for service in await mesh.services() if service.group == group]
    if len(others) > 1:
        raise CommandError(
            f"the group {group} has other members, which would get the traffic: name another with "
            "--as",
            Exit.USAGE,
        )
    return group


async def _measure(target: Target, group: str, plan: Plan) -> Summary:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = error_console()
    disable = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        task = progress.add_task("measuring", total=plan.seconds, rate="")

        def show(routed: int) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            done = max(0.01, min(plan.seconds, elapsed - plan.warm_up))
            progress.update(task, completed=done, rate=f"{routed / done:,.0f}/s")

        return await measure(target, group, plan, show)


def _write_csv(file: Path, figures: dict[str, Any]) -> None:
    row = [figures[column] for column in CSV_COLUMNS]
    if str(file) == "-":
        _write_rows(sys.stdout, [CSV_COLUMNS, row])
        return
    try:
        new = not file.exists() or file.stat().st_size == 0
        with file.open("a", newline="", encoding="utf-8") as stream:
            _write_rows(stream, [CSV_COLUMNS, row] if new else [row])
    except OSError as error:
        raise CommandError(f"can't write {file}: {error.strerror or error}") from None


def _write_rows(stream: Any, rows: Sequence[Sequence[Any]]) -> None:  # noqa: ANN401 - text
    csv.writer(stream, lineterminator="\n").writerows(rows)
