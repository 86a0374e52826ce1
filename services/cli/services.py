"""`switchboard services`: who is connected, once or live."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import attrs
import click
import msgspec
import trio
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.exits import Exit
from services.cli.help import epilog
from services.cli.output import (
    on_terminal,
    output_console,
    print_line,
    print_object,
    print_table,
    wait_until_unread,
)
from services.cli.reconnecting import tell_states
from services.cli.running import run_client
from services.cli.target import Target, connects
from services.cli.text import compact_json, plain
from services.sdk import (
    Backoff,
    Change,
    ConnectionLost,
    Down,
    Mesh,
    RequestError,
    ServiceInfo,
    Snapshot,
    Up,
)

__all__ = ["list_services", "services", "since", "watch_services"]

# Of those who have left, so many are shown with the reason.
_LEFT: Final = 5


@click.command(
    epilog=epilog(
        "switchboard services",
        "switchboard services --group billing",
        "switchboard services --json | jq -r .id",
        "switchboard services --watch",
    )
)
@click.option("-g", "--group", "groups", multiple=True, metavar="GROUP", help="Only its members.")
@click.option("-w", "--watch", is_flag=True, help="Live, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch on a terminal: how often requests in flight are looked at.",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each service or change.")
@connects
def services(
    target: Target, groups: tuple[str, ...], watch: bool, interval: float, as_json: bool
) -> None:
    """List who is connected: group, name, id, since when, and requests in flight.

    With --watch, on a terminal: a table that is kept up to date. Else a line for each that comes
    (+) or goes (-, with the reason), after those who are there already.
    """
    if watch:
        run_client(partial(watch_services, target, groups, interval, as_json=as_json))
    else:
        run_client(partial(list_services, target, groups, as_json=as_json))


async def list_services(target: Target, groups: Sequence[str] = (), *, as_json: bool) -> Exit:
    """Show who is connected now, without this client itself."""
    async with target.connect() as mesh:
        found = _chosen(await mesh.services(), groups, mesh)
    if as_json:
        for service in found:
            print_object(_as_object(service))
    else:
        print_table(_table(found))
    return Exit.DONE


async def watch_services(
    target: Target, groups: Sequence[str], interval: float, *, as_json: bool
) -> Exit:
    """Show who comes and goes, until cancelled."""
    async with target.connect(reconnect=Backoff()) as mesh, trio.open_nursery() as nursery:
        nursery.start_soon(wait_until_unread)
        if on_terminal() and not as_json:
            screen = _Screen(mesh, groups)
            nursery.start_soon(screen.poll, interval)
            await screen.run()
        else:
            nursery.start_soon(tell_states, mesh, "all who are there now follow")
            await _print_changes(mesh, groups, as_json=as_json)
    return Exit.DONE


async def _print_changes(mesh: Mesh, groups: Sequence[str], *, as_json: bool) -> None:
    async with mesh.watch() as changes:
        async for change in changes:
            for sign, service, reason in _events(change):
                if not _chosen([service], groups, mesh):
                    continue
                if as_json:
                    about = {"change": "down" if sign == "-" else "up", **_as_object(service)}
                    print_object(about if reason is None else {**about, "reason": reason})
                else:
                    print_line(_line(sign, service, reason))


def _events(change: Change) -> Iterable[tuple[str, ServiceInfo, str | None]]:
    match change:
        case Snapshot(services):
            return [("+", service, None) for service in services]
        case Up(service):
            return [("+", service, None)]
        case Down(service, reason):
            return [("-", service, reason)]


def _line(sign: str, service: ServiceInfo, reason: str | None) -> Text:
    return Text.assemble(
        (sign, "red" if sign == "-" else "green"),
        " ",
        (plain(service.group), "bold"),
        " ",
        (plain(service.id), "dim"),
        f" {plain(service.name)}" if service.name else "",
        "" if reason is None else f"  {plain(reason)}",
    )


class _Screen:
    """A table on a terminal that is kept up to date."""

    def __init__(self, mesh: Mesh, groups: Sequence[str]) -> None:
        self._mesh = mesh
        self._groups = groups
        self._known: dict[str, ServiceInfo] = {}
        self._left: deque[Text] = deque(maxlen=_LEFT)
        self._problem = ""
        self._live = Live(console=output_console(), auto_refresh=False)

    async def run(self) -> None:
        """Follow the changes."""
        with self._live:
            async with self._mesh.watch() as changes:
                async for change in changes:
                    self._take(change)
                    self._draw()

    async def poll(self, interval: float) -> None:
        """Look at the requests in flight, of which there are no events."""
        while True:
            await trio.sleep(interval)
            try:
                for service in await self._mesh.services():
                    if service.id in self._known:
                        self._known[service.id] = service
                self._problem = ""
            except (ConnectionLost, RequestError) as error:
                self._problem = str(error)
            self._draw()

    def _take(self, change: Change) -> None:
        match change:
            case Snapshot(services):
                self._known = {service.id: service for service in services}
            case Up(service):
                self._known[service.id] = service
            case Down(service, reason):
                self._known.pop(service.id, None)
                if _chosen([service], self._groups, self._mesh):
                    self._left.appendleft(_line("-", service, reason))

    def _draw(self) -> None:
        parts: list[Any] = [_table(_chosen(self._known.values(), self._groups, self._mesh))]
        parts += self._left
        if self._problem:
            parts.append(Text(plain(self._problem), "red"))
        self._live.update(Group(*parts), refresh=True)


def _chosen(
    services: Iterable[ServiceInfo], groups: Sequence[str], mesh: Mesh
) -> list[ServiceInfo]:
    """Those of the groups, in order; without this client itself."""
    found = [
        service
        for service in services
        if service.id != mesh.id and (not groups or service.group in groups)
    ]
    return sorted(found, key=lambda service: (service.group, service.since, service.id))


def _table(services: Sequence[ServiceInfo]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("GROUP", no_wrap=True, style="green")
    table.add_column("NAME", no_wrap=True)
    table.add_column("ID", no_wrap=True, style="dim", min_width=8)
    table.add_column("SINCE", no_wrap=True, justify="right")
    table.add_column("IN FLIGHT", no_wrap=True, justify="right")
    table.add_column("OF", no_wrap=True, justify="right")
    table.add_column("META", no_wrap=True, ratio=1)
    now = datetime.now(UTC)
    for service in services:
        concurrency = service.concurrency
        full = concurrency is not None and service.in_flight >= concurrency
        meta = compact_json(msgspec.json.encode(service.meta)) if service.meta else ""
        table.add_row(
            Text(plain(service.group)),
            Text(plain(service.name or "")),
            Text(plain(service.id)),
            since(service.since, now),
            Text(str(service.in_flight), "bold red" if full else ""),
            "" if concurrency is None else str(concurrency),
            Text(meta),
        )
    return table


def since(begun: datetime, now: datetime) -> str:
    """Say how long ago something began, in its two largest units.

    Example:
        >>> since(datetime(2026, 1, 1), datetime(2026, 1, 2, 3, 4))
        '1d3h'
    """
    seconds = max(0, int((now - begun).total_seconds()))
    for unit, smaller, size in (("d", "h", 86_400), ("h", "m", 3600), ("m", "s", 60)):
        if seconds >= size:
            rest = seconds % size // {"h": 3600, "m": 60, "s": 1}[smaller]
            return f"{seconds // size}{unit}{rest}{smaller}"
    return f"{seconds}s"


def _as_object(service: ServiceInfo) -> dict[str, Any]:
    shown = attrs.asdict(service)
    shown["since"] = service.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return shown
