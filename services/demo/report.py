"""Who has heard what: whether it is right, as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from rich import box
from rich.table import Table
from rich.text import Text

from services.demo.talkers.systems import System
from services.demo.talkers.talker import Heard

__all__ = ["Report", "Said", "judge"]

Hearings = Mapping[System, Sequence[Heard]]


@attrs.frozen
class Said:
    """A message that has been acknowledged.

    Attributes:
        system: on which it was said.
        at: when it was sent, by the clock of `Heard`.
    """

    system: System
    author: str
    text: str
    at: float


def judge(said: Sequence[Said], heard: Hearings) -> list[str]:
    """Return what is not as it should be: nothing, when all is well.

    Args:
        said: with a text of its own each.
        heard: of each system. What nobody has said is somebody else's.
    """
    problems = [
        problem
        for system, hearing in heard.items()
        for problem in _judge_one(system, said, hearing)
    ]
    texts = {one.text for one in said}
    orders = {
        system: list(dict.fromkeys(one.text for one in hearing if one.text in texts))
        for system, hearing in heard.items()
    }
    if not problems:
        first, *others = orders
        problems += [
            f"{other.label} has shown the messages in another order than {first.label}"
            for other in others
            if orders[other] != orders[first]
        ]
    return problems


def _judge_one(system: System, said: Sequence[Said], hearing: Sequence[Heard]) -> Iterator[str]:
    for one in said:
        authors = [heard.author for heard in hearing if heard.text == one.text]
        what = f"{one.text!r} of {one.author}, said on {one.system.label},"
        if not authors:
            yield f"{what} has not been seen on {system.label}"
        elif len(authors) > 1:
            yield f"{what} has been seen {len(authors)} times on {system.label}"
        elif authors[0] != one.author:
            yield f"{what} has been seen on {system.label} as said by {authors[0]}"


@attrs.frozen
class Report:
    """How the conversation went.

    Attributes:
        said: all that has been acknowledged.
        heard: of each system, all that has come, in its order.
        problems: what was not as it should be.
    """

    said: Sequence[Said]
    heard: Hearings
    problems: Sequence[str]

    def in_order(self) -> list[Said]:
        """Return what was said, in the order in which the first system has shown it."""
        hearing = next(iter(self.heard.values()))
        places = {one.text: place for place, one in reversed(list(enumerate(hearing)))}
        return sorted(self.said, key=lambda said: places.get(said.text, len(hearing)))

    def slowest(self) -> float:
        """Return the longest that a message has taken to any of the systems, in milliseconds."""
        return max(
            (
                _milliseconds(said, heard)
                for said in self.said
                for heard in self._seen(said).values()
            ),
            default=0.0,
        )

    def table(self) -> Table:
        """Return who has seen what, and how many milliseconds after it was sent."""
        table = Table(
            title="Who saw what, and after how many milliseconds",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("Said on")
        table.add_column("By")
        table.add_column("Message")
        for system in self.heard:
            table.add_column(system.label, justify="right")
        for said in self.in_order():
            seen = self._seen(said)
            table.add_row(
                said.system.label,
                said.author,
                said.text,
                *(_cell(said, seen.get(system)) for system in self.heard),
            )
        return table

    def verdict(self) -> str:
        """Return all of it in a sentence."""
        if self.problems:
            return "Not all was seen as it should be."
        return (
            f"Each of the {len(self.said)} messages was seen on all {len(self.heard)} systems, "
            f"with its author, in the same order; the slowest took {self.slowest():.0f} ms."
        )

    def as_object(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "messages": [
                {
                    "system": said.system.value,
                    "author": said.author,
                    "text": said.text,
                    "seen": {
                        system.value: {
                            "author": heard.author,
                            "ms": round(_milliseconds(said, heard), 1),
                        }
                        for system, heard in self._seen(said).items()
                    },
                }
                for said in self.in_order()
            ],
            "problems": list(self.problems),
        }

    def _seen(self, said: Said) -> dict[System, Heard]:
        found = {}
        for system, hearing in self.heard.items():
            heard = next((one for one in hearing if one.text == said.text), None)
            if heard is not None:
                found[system] = heard
        return found


def _cell(said: Said, heard: Heard | None) -> Text:
    if heard is None:
        return Text("not seen", style="bold red")
    style = "green" if heard.author == said.author else "bold red"
    return Text(f"{_milliseconds(said, heard):.0f}", style=style)


def _milliseconds(said: Said, heard: Heard) -> float:
    return (heard.at - said.at) * 1000
