"""`switchboard emit`: send an event that awaits no reply."""

from __future__ import annotations

from functools import partial
from typing import Final, Literal

import attrs
import click
import msgspec

from services.cli.data import DATA_HELP, read_data
from services.cli.exits import CommandError, Exit
from services.cli.help import epilog
from services.cli.output import note, print_object
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.words import in_words_of_the_command
from services.sdk import Forbidden, MeshError, PeerGone, RequestError

__all__ = ["Emission", "emit", "emit_event"]


@attrs.frozen
class Emission:
    """An event, and whom it is for: everyone, where nothing else is said."""

    event: str
    data: msgspec.Raw | None = None
    group: str | None = None
    to: str | None = None
    one: bool = False
    sticky: str | None = None
    as_json: bool = False


@click.command(
    epilog=epilog(
        "switchboard emit CACHE_CLEAR",
        """switchboard emit USER_UPDATED '{"id": 7}' --group web""",
        "switchboard emit REPORT_READY @report.json --group mail --one",
        "jq -c .user dump.json | switchboard emit USER_UPDATED -",
    )
)
@click.argument("event")
@click.argument("data", required=False)
@click.option("-g", "--group", metavar="GROUP", help="Send it to the members of a group.")
@click.option("--to", metavar="ID", help="Send it to one connection.")
@click.option("--one", is_flag=True, help="With --group: to one of its members, not to all.")
@click.option("--sticky", metavar="KEY", help="With --group: to the member that this key goes to.")
@click.option("--json", "as_json", is_flag=True, help="Show the event's id as JSON.")
@connects
def emit(
    *,
    target: Target,
    event: str,
    data: str | None,
    group: str | None,
    to: str | None,
    one: bool,
    sticky: str | None,
    as_json: bool,
) -> None:
    """Send an event that awaits no reply: to everyone, to --group, or to one connection --to.

    It ends when the broker has handed the event on, or has said that nobody is there.
    """
    emission = Emission(event, read_data(data), group, to, one, sticky, as_json)
    run_client(partial(emit_event, target, emission))


emit.help = f"{emit.help}\n\n{DATA_HELP}"

_ONE: Final[Literal["ONE"]] = "ONE"


async def emit_event(target: Target, emission: Emission) -> Exit:
    """Send the event, and wait until it is known that the broker has handed it on."""
    problems: list[MeshError] = []
    async with target.connect(on_error=problems.append) as mesh:
        try:
            id = await mesh.emit(
                emission.event,
                emission.data,
                group=emission.group,
                to=emission.to,
                pick=_ONE if emission.one else None,
                key=emission.sticky,
            )
        except ValueError as error:
            raise CommandError(in_words_of_the_command(str(error)), Exit.USAGE) from None
        try:
            # The broker answers in order: an error for the event comes before this answer.
            await mesh.whoami()
        except (Forbidden, PeerGone):
            note("the broker took the event; whether it reached anybody is not known")
    for problem in problems:
        if isinstance(problem, RequestError):
            raise problem
    if emission.as_json:
        print_object({"id": id})
    return Exit.DONE
