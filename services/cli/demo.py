"""`switchboard demo`: four chat systems on one mesh, and a conversation through all of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs
import click

from services.cli.exits import CommandError, Exit
from services.cli.help import epilog
from services.cli.output import error_console, note, print_line, print_object, print_table
from services.cli.running import fail, run_to_end
from services.cli.text import plain
from services.demo.interrupting import run_until_signal
from services.demo.programs import port_names, wanted_ports
from services.demo.requirements import missing_packages

if TYPE_CHECKING:
    from services.demo.report import Report
    from services.demo.screen import Screen
    from services.demo.show import Show

__all__ = ["DemoOptions", "demo"]


@attrs.frozen
class DemoOptions:
    """How the demo is to go.

    Attributes:
        ports: numbers by name; 0 is the system's choice.
    """

    ports: Mapping[str, int]
    store: str | None = attrs.field(default=None, repr=False)
    stay: bool = False
    as_json: bool = False


@click.command(
    epilog=epilog(
        "switchboard demo",
        "switchboard demo --any-port",
        "switchboard demo --port mirage=5010 --port rooms=0",
        "switchboard demo --stay --store sqlite:///chat.db",
        exits={
            Exit.DONE: "everything was seen everywhere",
            Exit.FAILED: "something was not, or a program did not start",
            Exit.USAGE: "wrong usage",
            Exit.INTERRUPTED: "interrupted by Ctrl-C",
        },
    )
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=PORT",
    help=f"In place of a usual one: of {', '.join(port_names())}. 0 lets the system choose.",
)
@click.option("--any-port", is_flag=True, help="Let the system choose all other ports.")
@click.option(
    "--store",
    metavar="URL",
    envvar="SWITCHBOARD_CHAT_STORE",
    show_envvar=True,
    help="Where the chat is kept, as of services.chat; without it, in a folder that goes away.",
)
@click.option(
    "--stay", is_flag=True, help="Go on afterwards until Ctrl-C; say how to talk to each."
)
@click.option("--json", "as_json", is_flag=True, help="Show what was seen as JSON.")
def demo(
    *, ports: tuple[str, ...], any_port: bool, store: str | None, stay: bool, as_json: bool
) -> None:
    """Show four chat systems on one mesh.

    It starts a broker, the chat service and its four gateways, as processes of their own, and
    starts again what dies. Then four people talk, each on a system of their own, by its own
    protocol; at the end there is a table of who has seen what.

    Ctrl-C ends all of it in good order, a second one at once.
    """
    missing = missing_packages()
    if missing:
        fail(
            f"the demo needs {', '.join(missing)}: install them with "
            "pip install 'switchboard[chat]'",
            Exit.FAILED,
        )
    try:
        numbers = wanted_ports(ports, any_port=any_port)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--port") from None
    options = DemoOptions(numbers, store, stay, as_json)
    run_to_end(lambda: _run(options))


def _run(options: DemoOptions) -> int:
    # Not all that these need has to be installed where there is no demo.
    from services.demo.errors import DemoError  # noqa: PLC0415
    from services.demo.screen import Screen  # noqa: PLC0415
    from services.demo.show import open_show  # noqa: PLC0415

    def end_by_force() -> None:
        screen.tell("ended by force")
        show.fleet.kill()

    screen = Screen(error_console())
    try:
        with open_show(screen, options.ports, options.store) as show:
            return anyio.run(
                partial(
                    run_until_signal,
                    partial(_play, show, screen, options),
                    on_first=lambda: screen.tell("ending all; Ctrl-C again does it by force"),
                    on_second=end_by_force,
                ),
                backend="asyncio",
            )
    except DemoError as error:
        raise CommandError(str(error)) from error


async def _play(show: Show, screen: Screen, options: DemoOptions) -> int:
    async with AsyncExitStack() as stack:
        with screen.working("starting a broker, the chat, and four gateways"):
            await stack.enter_async_context(show.running())
        with screen.working("talking"):
            report = await show.converse()
        _print(show, report, as_json=options.as_json)
        if options.stay:
            _print_stay(show, as_json=options.as_json)
            await anyio.sleep_forever()
    return Exit.FAILED if report.problems else Exit.DONE


def _print(show: Show, report: Report, *, as_json: bool) -> None:
    if as_json:
        print_object({**report.as_object(), "programs": show.programs()})
        return
    print_line("")
    print_table(report.table())
    for problem in report.problems:
        print_line(plain(problem))
    print_line(report.verdict())


def _print_stay(show: Show, *, as_json: bool) -> None:
    note(f"all go on until Ctrl-C; their logs are in {show.directory}")
    if not as_json:
        for what, line in show.how_to_talk():
            print_line(f"\n{what}:\n  {line}")
