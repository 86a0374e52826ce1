"""`switchboard top`: what the broker has to do, live."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

import attrs
import click
import trio
from rich.live import Live

from services.cli.exits import Exit
from services.cli.help import epilog
from services.cli.output import (
    note,
    on_terminal,
    output_console,
    print_object,
    wait_until_unread,
)
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.top_sample import Rates, Sample, compare, take_sample
from services.cli.top_view import SORTS, as_object, print_view, view
from services.sdk import Backoff, Mesh, MeshError

__all__ = ["Watching", "top", "watch_load"]

# Lines of the screen that are not rows of the table.
_HEAD_LINES: Final = 9


@click.command(
    epilog=epilog(
        "switchboard top",
        "switchboard top --once",
        "switchboard top --sort members --interval 5",
        "switchboard top --once --json | jq .rates",
    )
)
@click.option("--once", is_flag=True, help="One look, an --interval long, and the end.")
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="From one look to the next.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default=SORTS[0],
    show_default=True,
    help="Which services come first.",
)
@click.option("--rows", type=click.IntRange(1), help="How many; on a terminal, what fits.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each look.")
@connects
def top(
    *,
    target: Target,
    once: bool,
    interval: float,
    sort: str,
    rows: int | None,
    as_json: bool,
) -> None:
    """Watch what the broker has to do: rates, requests in flight, the busiest services.

    Rates come from the broker's STATS, for which a token needs a permission. With any other one,
    there are the services and the round trip to the broker.
    """
    run_client(partial(watch_load, target, Watching(once, interval, sort, rows, as_json)))


@attrs.frozen
class Watching:
    """How to look: see the options."""

    once: bool
    interval: float
    sort: str
    rows: int | None
    as_json: bool


async def watch_load(target: Target, watching: Watching) -> Exit:
    """Look again and again, and show what has happened in between."""
    async with target.connect(reconnect=Backoff()) as mesh, trio.open_nursery() as nursery:
        nursery.start_soon(wait_until_unread)
        if watching.once:
            before = await take_sample(mesh)
            await trio.sleep(watching.interval)
            _print(target, compare(before, await take_sample(mesh)), watching)
        elif on_terminal() and not watching.as_json:
            await _live(target, mesh, watching)
        else:
            await _print_forever(target, mesh, watching)
        nursery.cancel_scope.cancel()
    return Exit.DONE


async def _live(target: Target, mesh: Mesh, watching: Watching) -> None:
    console = output_console()
    before: Sample | None = None
    rates: Rates | None = None
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            begun = trio.current_time()
            problem = ""
            try:
                sample = await take_sample(mesh)
            except MeshError as error:
                problem, before = str(error), None
            else:
                rates, before = compare(before, sample), sample
            rows = watching.rows or max(1, os.get_terminal_size().lines - _HEAD_LINES)
            live.update(view(target.url, rates, watching.sort, rows, problem), refresh=True)
            await trio.sleep(max(0.0, watching.interval - (trio.current_time() - begun)))


async def _print_forever(target: Target, mesh: Mesh, watching: Watching) -> None:
    before: Sample | None = None
    while True:
        try:
            sample = await take_sample(mesh)
        except MeshError as error:
            note(f"{error}; looking again in {watching.interval:g} s")
            before = None
        else:
            if before is not None:
                _print(target, compare(before, sample), watching)
            before = sample
        await trio.sleep(watching.interval)


def _print(target: Target, rates: Rates, watching: Watching) -> None:
    if watching.as_json:
        print_object(as_object(rates))
    else:
        print_view(view(target.url, rates, watching.sort, watching.rows, ""))
