"""How `switchboard top` shows a look: on a terminal, as text, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
from rich.console import Group
from rich.table import Table
from rich.text import Text

from services.cli.output import print_line, print_table
from services.cli.text import plain
from services.cli.top_sample import GroupLoad, Rates

__all__ = ["SORTS", "as_object", "print_view", "view"]

SORTS: Final = ("in-flight", "load", "members", "group")

# What a count is called, and that of STATS which it is.
_NOW: Final = {
    "connections": "connections",
    "identified": "identified",
    "groups": "groups",
    "in flight": "requests_in_flight",
}
_EACH_SECOND: Final = {
    "frames in/s": "frames_in",
    "frames out/s": "frames_out",
    "requests/s": "requests",
    "failed/s": "failed",
    "refused/s": "refused",
    "opened/s": "opened",
    "closed/s": "closed",
}


@attrs.frozen
class View:
    """What there is to show, part by part."""

    lines: Sequence[Text]
    table: Table

    def __rich__(self) -> Group:
        """All of it, for a live screen."""
        return Group(*self.lines, self.table)


def view(url: str, rates: Rates | None, sort: str, rows: int | None, problem: str) -> View:
    """Make the screen.

    Args:
        url: of the broker.
        rates: the last look; None where there was none yet.
        sort: one of `SORTS`.
        rows: how many groups at most.
        problem: why there is nothing newer.
    """
    lines = [Text.assemble(("switchboard top", "bold"), f"  {plain(url)}")]
    if problem:
        lines.append(Text(plain(problem), "red"))
    if rates is None:
        return View(lines, Table(box=None))
    sample = rates.sample
    facts = [f"round trip {sample.round_trip * 1000:.2f} ms"]
    if rates.busy is not None:
        facts.append(f"broker busy {rates.busy:.0%}")
    counts = sample.counts or {
        "identified": len(sample.services),
        "groups": len(rates.groups),
        "requests_in_flight": sum(group.in_flight for group in rates.groups),
    }
    facts += [f"{name} {_number(counts[key])}" for name, key in _NOW.items() if key in counts]
    lines.append(Text("   ".join(facts)))
    if rates.per_second:
        each = (f"{name} {_number(rates.per_second[key])}" for name, key in _EACH_SECOND.items())
        lines.append(Text("   ".join(each)))
    if sample.why:
        lines.append(Text(sample.why, "yellow"))
    lines.append(Text())
    return View(lines, _table(rates, sort, rows))


def print_view(shown: View) -> None:
    """Write it to stdout."""
    for line in shown.lines:
        print_line(line)
    print_table(shown.table)


def as_object(rates: Rates) -> dict[str, Any]:
    """Return a look for programs."""
    sample = rates.sample
    return {
        "seconds": round(rates.seconds, 3),
        "round_trip_ms": round(sample.round_trip * 1000, 3),
        "busy": None if rates.busy is None else round(rates.busy, 3),
        "rates": {name: round(value, 1) for name, value in rates.per_second.items()} or None,
        "statistics": sample.counts,
        "note": sample.why or None,
        "groups": [attrs.asdict(group) for group in _sorted(rates.groups, SORTS[0])],
    }


def _table(rates: Rates, sort: str, rows: int | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold reverse")
    table.add_column("GROUP", no_wrap=True, min_width=16)
    for column in ("MEMBERS", "IN FLIGHT", "OF", "LOAD", "BUSIEST"):
        table.add_column(column, justify="right", no_wrap=True)
    groups = _sorted(rates.groups, sort)
    for group in groups[:rows]:
        load = _load(group)
        table.add_row(
            Text(plain(group.name), "green"),
            str(group.members),
            _number(group.in_flight),
            "" if group.capacity is None else _number(group.capacity),
            Text("" if load is None else f"{load:.0%}", "bold red" if load == 1 else ""),
            _number(group.busiest),
        )
    if rows is not None and len(groups) > rows:
        table.add_row(Text(f"… {len(groups) - rows} more", "dim"))
    return table


def _sorted(groups: Sequence[GroupLoad], sort: str) -> list[GroupLoad]:
    keys: Mapping[str, Any] = {
        "in-flight": lambda group: -group.in_flight,
        "load": lambda group: -(_load(group) or 0),
        "members": lambda group: -group.members,
        "group": lambda _group: 0,
    }
    return sorted(groups, key=lambda group: (keys[sort](group), group.name))


def _load(group: GroupLoad) -> float | None:
    return None if not group.capacity else min(1.0, group.in_flight / group.capacity)


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))
