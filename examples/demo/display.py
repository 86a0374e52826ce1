"""How the demo looks: frames as JSON, in a terminal of any width."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

# Wide enough for any line of a frame; wider only tears the lines apart.
_WIDEST = 78

_INDENT = "   "


class Display:
    """Writes to the terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._console.width = min(self._console.width, _WIDEST)

    def title(self, text: str) -> None:
        """Open the show."""
        self._console.print(Rule(Text(text, style="bold")))

    def fact(self, name: str, value: str) -> None:
        """Introduce somebody."""
        self._console.print(Text.assemble((f"{name:<10}", "dim"), value))

    def step(self, number: int, text: str) -> None:
        """Open a scene."""
        self._console.print()
        self._console.print(Text(f"{number}. {text}", style="bold"))

    def sends(self, who: str, frame: dict[str, Any]) -> None:
        """Show a frame that sets out."""
        self._console.print(Text.assemble(("-> ", "bold cyan"), (who, "cyan"), " sends"))
        self._frame(frame)

    def receives(self, who: str, frame: dict[str, Any]) -> None:
        """Show a frame that has arrived."""
        self._console.print(Text.assemble(("<- ", "bold green"), (who, "green"), " receives"))
        self._frame(frame)

    def receives_same(self, who: str, frame: dict[str, Any]) -> None:
        """Show a frame that has arrived as it was shown before, but for its source."""
        arrow = ("<- ", "bold green")
        self._console.print(Text.assemble(arrow, (who, "green"), " receives the same, with"))
        self._print(f'{_INDENT}"source": {json.dumps(frame.get("source"))}')

    def note(self, text: str) -> None:
        """Tell what happens beside the frames."""
        self._console.print(Padding(Text(text, style="dim"), (0, 0, 0, len(_INDENT)), expand=False))

    def asks(self, who: str, event: str, whom: str) -> None:
        """Show a request that sets out."""
        arrow = ("-> ", "bold cyan")
        self._console.print(Text.assemble(arrow, (who, "cyan"), f" asks {whom}: ", event))

    def answers(self, who: str, data: object) -> None:
        """Show a result."""
        self._console.print(Text.assemble(("<- ", "bold green"), (who, "green"), " answers"))
        self._print(f"{_INDENT}{json.dumps(data)}")

    def fails(self, who: str, code: str, text: str) -> None:
        """Show an error in the place of a result."""
        arrow = ("<- ", "bold yellow")
        self._console.print(Text.assemble(arrow, (code, "yellow"), f" for {who}"))
        self.note(text)

    def success(self, text: str) -> None:
        """End well."""
        self._console.print()
        self._console.print(Text(text, style="bold green"))

    def failure(self, text: str) -> None:
        """End badly."""
        self._console.print()
        self._console.print(Text(text, style="bold red"))

    def _frame(self, frame: dict[str, Any]) -> None:
        """Print a property a line, or more where its value is an object too long for one."""
        self._print(f"{_INDENT}{{")
        for number, (name, value) in enumerate(frame.items(), start=1):
            comma = "," if number < len(frame) else ""
            line = f"{_INDENT}  {json.dumps(name)}: {json.dumps(value)}{comma}"
            if len(line) > self._console.width and isinstance(value, dict):
                inner = json.dumps(value, indent=2).replace("\n", f"\n{_INDENT}  ")
                line = f"{_INDENT}  {json.dumps(name)}: {inner}{comma}"
            self._print(line)
        self._print(f"{_INDENT}}}")

    def _print(self, text: str) -> None:
        for line in text.split("\n"):
            content = line.lstrip(" ")
            # As a padding, the indentation is kept where the line has to be broken.
            indent = (0, 0, 0, len(line) - len(content))
            highlighted = JSONHighlighter()(Text(content, overflow="fold"))
            self._console.print(Padding(highlighted, indent, expand=False))
