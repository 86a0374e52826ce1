"""`switchboard drain`: let a service, or the whole broker, come to its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import click
import msgspec

from services.cli.exits import CommandError, Exit
from services.cli.help import ASKING_EXITS, epilog
from services.cli.options import timeout_option
from services.cli.output import print_json, print_line, waiting
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.text import compact_json, plain
from services.sdk import Forbidden, NoRoute, UnknownEvent

__all__ = ["drain", "order_drain"]

_BROKER: Final = "$broker"


@click.command(
    epilog=epilog(
        "switchboard drain billing",
        "switchboard drain --id e88d471e-21b0-48be-8c13-70c147f94f7b",
        "switchboard drain --broker --yes",
        exits={**ASKING_EXITS, Exit.FAILED: "the broker can't, or the token may not"},
    )
)
@click.argument("group", required=False)
@click.option("--id", metavar="ID", help="One connection, as `switchboard services` shows it.")
@click.option("--broker", is_flag=True, help="The whole broker: it ends when all have left.")
@click.option("-y", "--yes", is_flag=True, help="With --broker: do not ask.")
@timeout_option("How long to wait for the broker's answer.")
@click.option("--json", "as_json", is_flag=True, help="Show the broker's answer as JSON.")
@connects
def drain(
    *,
    target: Target,
    group: str | None,
    id: str | None,
    broker: bool,
    yes: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Let a service, or the broker, come to its end: GROUP, one connection, or all of them.

    They get no new requests, those in hand finish, and then they are told to leave. A service that
    is restarted by its supervisor thus loses nothing.
    """
    if (group is not None) + (id is not None) + broker != 1:
        raise click.UsageError("say one of them: GROUP, --id ID, or --broker")
    data: dict[str, Any] = {"broker": True}
    if group is not None:
        data = {"group": group}
    elif id is not None:
        data = {"id": id}
    elif not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("--broker ends the broker: add --yes where nobody can be asked")
        click.confirm(f"Drain the whole broker at {plain(target.url)}?", abort=True, err=True)
    run_client(partial(order_drain, target, data, timeout, as_json=as_json))


async def order_drain(
    target: Target, data: Mapping[str, Any], timeout: float, *, as_json: bool
) -> Exit:
    """Tell the broker, and show what it answers."""
    what = str(data.get("group") or data.get("id") or "the broker")
    async with target.connect() as mesh:
        try:
            with waiting(f"draining {what}"):
                answer = await mesh.request(
                    "DRAIN", data, to=_BROKER, timeout=timeout, returns=msgspec.Raw
                )
        except UnknownEvent:
            raise CommandError(
                "this broker can't drain: it is too old for that. SIGTERM drains the whole broker; "
                "a service drains itself when it gets SIGTERM"
            ) from None
        except Forbidden as error:
            raise CommandError(f"{error.message}; use a token that may drain") from None
        except NoRoute as error:
            raise CommandError(
                f"{error.message or what}; `switchboard services` lists who is there"
            ) from None
    if as_json:
        print_json(compact_json(bytes(answer)))
    else:
        print_line(f"draining {plain(what)}")
    return Exit.DONE
