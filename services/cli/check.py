"""`switchboard check`: a probe, for health checks that run a command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import click
import trio

from services.cli.exits import Exit
from services.cli.failures import leaves
from services.cli.help import epilog
from services.cli.output import print_object
from services.cli.probe import probe
from services.cli.probe_findings import Expectations, Finding, Level
from services.cli.target import Target, connects
from services.cli.text import plain

__all__ = ["check", "show_finding"]

_EXITS: Final[Mapping[int, str]] = {
    Level.OK: "OK: the broker does its work, and in time",
    Level.WARNING: "WARNING: it does, but slower than --warn; or it is about to stop",
    Level.CRITICAL: "CRITICAL: it does not, or slower than --crit; also wrong usage",
}


@click.command(
    epilog=epilog(
        "switchboard check",
        "switchboard check --warn 50 --crit 500",
        "switchboard check --group billing --event PING_ME",
        "switchboard check --url unix:///run/switchboard.sock --timeout 2",
        exits=_EXITS,
    )
)
@click.option("--group", metavar="GROUP", help="Also ask one member of a group; needs --event.")
@click.option("--event", metavar="EVENT", help="What to ask it. Any answer but an error will do.")
@click.option(
    "--warn", type=click.FloatRange(0), metavar="MS", help="A slower round trip is a WARNING."
)
@click.option("--crit", type=click.FloatRange(0), metavar="MS", help="A slower one is CRITICAL.")
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(0.01, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For all of it; what takes longer is CRITICAL.",
)
@click.option("--json", "as_json", is_flag=True, help="Show what was found as JSON.")
@connects
def check(
    *,
    target: Target,
    group: str | None,
    event: str | None,
    warn: float | None,
    crit: float | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Probe a broker, for health checks: connect, identify, and send a request through it.

    The probe is a WebSocket client that has no code in common with the broker, so no fault can hide
    in what both share. (For tcp:// and tls:// it uses the same port: every listener of a broker
    speaks both.) The request goes to the probe itself: through the whole broker, and to nobody
    else. With --group and --event, a second one goes to a service.

    The round trip that --warn and --crit are about is the slowest of these. One line says what was
    found.
    """
    if (group is None) != (event is None):
        raise click.UsageError("--group and --event go together: whom to ask, and what")
    if warn is not None and crit is not None and warn > crit:
        raise click.UsageError("--warn is the lower of the two: a WARNING comes before CRITICAL")
    expectations = Expectations(group, event, warn, crit, timeout)
    try:
        finding = trio.run(probe, target, expectations)
    except BaseException as error:
        if any(isinstance(one, KeyboardInterrupt) for one in leaves(error)):
            sys.exit(Exit.INTERRUPTED)
        raise
    show_finding(finding, as_json=as_json)
    sys.exit(finding.level)


def show_finding(finding: Finding, *, as_json: bool) -> None:
    """Write it on one line."""
    if as_json:
        print_object(finding.as_object())
    else:
        click.echo(f"{finding.level.name} - {plain(finding.reason)}")
