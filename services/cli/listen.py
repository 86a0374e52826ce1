"""`switchboard listen`: events as they come, until Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import attrs
import click
import msgspec
import trio
from rich.text import Text

from services.cli.exits import Exit
from services.cli.help import STANDARD_EXITS, epilog
from services.cli.output import note, print_json, print_line, wait_until_unread
from services.cli.reconnecting import tell_states
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.text import compact_json, plain
from services.sdk import Backoff, Event, Mesh, MeshError, UnknownEvent
from services.sdk.listeners import compile_pattern

__all__ = ["Listening", "follow", "listen"]

# What may come while a slow terminal or pipe takes its time.
_BUFFER: Final = 65_536


@attrs.frozen
class Listening:
    """What to listen to, and how to show it.

    Attributes:
        patterns: of the names of events; any of them.
        groups: the senders' groups; empty for any.
        count: stop after so many; None for never.
        as_json: a line of JSON for each.
        insist: wait for a broker that is not there yet.
    """

    patterns: Sequence[str] = ("*",)
    groups: Sequence[str] = ()
    count: int | None = None
    as_json: bool = False
    insist: bool = False


@click.command(
    epilog=epilog(
        "switchboard listen",
        "switchboard listen 'USER_*' ORDER_PAID",
        "switchboard listen --group billing --group web",
        "switchboard listen --as web   # what is sent to the group web, too",
        "switchboard listen --json | jq .data",
        exits={**STANDARD_EXITS, Exit.FAILED: "more came than could be written"},
    )
)
@click.argument("patterns", nargs=-1, metavar="[EVENT]...")
@click.option("-g", "--group", "groups", multiple=True, metavar="GROUP", help="Only from it.")
@click.option("-n", "--count", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--insist", is_flag=True, help="Wait for a broker that is not there yet.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each event.")
@connects
def listen(
    *,
    target: Target,
    patterns: tuple[str, ...],
    groups: tuple[str, ...],
    count: int | None,
    insist: bool,
    as_json: bool,
) -> None:
    """Show events as they come, until Ctrl-C: all of them, or those that an EVENT fits.

    In an EVENT, * stands for any run of characters; put it in single quotes.

    What is heard is what is sent to everyone, and to the group that this client is a member of (see
    --as). As a member of a service's group it is handed requests too: it answers each with
    UNKNOWN_EVENT at once, so that nobody waits; but the service does not get those.

    A lost connection is made again; what happened meanwhile is not heard.
    """
    for pattern in patterns:
        if pattern.startswith("$"):
            raise click.UsageError(
                f"{plain(pattern)}: the broker's own events are not sent to everyone; "
                "`switchboard services --watch` shows who comes and goes"
            )
    listening = Listening(patterns or ("*",), groups, count, as_json, insist)
    run_client(partial(follow, target, listening))


async def follow(target: Target, listening: Listening) -> Exit:
    """Show events until there are enough."""
    options = {"reconnect": Backoff(), "insist": listening.insist, "echo": None}
    if listening.insist:
        note(f"waiting for {target.url}")
    async with target.connect(**options, on_error=_report) as mesh:
        note(f"listening on {target.url} as a member of {mesh.group}; Ctrl-C ends it")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_states, mesh, "what was sent meanwhile was not heard")
            nursery.start_soon(wait_until_unread)
            await _show_events(mesh, listening)
            nursery.cancel_scope.cancel()
    return Exit.DONE


async def _show_events(mesh: Mesh, listening: Listening) -> None:
    wanted = _filter(listening)
    shown = 0
    # With one listener for all patterns, an event that fits two of them comes once.
    async with mesh.listen("*", buffer=_BUFFER) as events:
        async for event in events:
            if event.timeout is not None:
                # A listener counts as a handler; without a word, the requester would wait.
                with contextlib.suppress(MeshError):
                    await mesh.reply(event, error=UnknownEvent("this client only listens"))
            if wanted(event):
                _show(event, as_json=listening.as_json)
                shown += 1
                if shown == listening.count:
                    return


def _filter(listening: Listening) -> Callable[[Event], bool]:
    tests = [compile_pattern(pattern) for pattern in listening.patterns]
    groups = frozenset(listening.groups)

    def wanted(event: Event) -> bool:
        if groups and event.source.group not in groups:
            return False
        return any(test(event.name) for test in tests)

    return wanted


def _report(error: MeshError) -> None:
    note(f"note: {error}")


def _show(event: Event, *, as_json: bool) -> None:
    now = datetime.now(UTC)
    data: msgspec.Raw = event.parse(msgspec.Raw)
    shown = compact_json(bytes(data))
    if as_json:
        about: dict[str, object] = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": event.name,
            "id": event.id,
            "source": {"id": event.source.id, "group": event.source.group},
        }
        if event.timeout is not None:
            about["timeout"] = round(event.timeout * 1000)
        head = compact_json(msgspec.json.encode(about))
        print_json(f'{head[:-1]},"data":{shown}}}')
        return
    local = now.astimezone().strftime("%H:%M:%S.%f")[:-3]
    request = f" (request, {event.timeout:g} s)" if event.timeout is not None else ""
    print_line(
        Text.assemble(
            (local, "dim"),
            " ",
            (plain(event.name), "bold cyan"),
            (request, "yellow"),
            " from ",
            (plain(event.source.group), "green"),
            " ",
            (plain(event.source.id[:8]), "dim"),
            "" if shown == "null" else f" {shown}",
        )
    )
