"""What the demo tells while it goes on: on stderr, in lines, with a moving sign on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from services.demo.fleet import Member
from services.demo.report import Said
from services.demo.talkers.systems import System

__all__ = ["Screen"]


class Screen:
    """Writes lines.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on a terminal that something goes on, for the body of a `with`."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(Text(what)):
            yield

    def tell(self, text: str, style: str = "") -> None:
        """Write a line."""
        self._console.print(Text(text, style), soft_wrap=True)

    # The programs.

    def ready(self, member: Member, seconds: float) -> None:
        """One is ready."""
        where = ", ".join(member.addresses) or "on the mesh"
        self._row(member.name, f"{where}  ({seconds:.1f} s)")

    def ended(self, member: Member, how: str, pause: float) -> None:
        """One has ended."""
        self._row(member.name, f"has ended ({how}); it is started again in {pause:g} s", "yellow")

    def back(self, member: Member) -> None:
        """One is ready again."""
        where = ", ".join(member.addresses) or "on the mesh"
        self._row(member.name, f"is back: {where}", "green")

    # The conversation.

    def entered(self, system: System, name: str) -> None:
        """Somebody is there."""
        self._row(system.value, f"{name} comes in")

    def said(self, said: Said) -> None:
        """Somebody has said something."""
        self._row(said.system.value, f"{said.author}: {said.text}")

    def _row(self, name: str, text: str, style: str = "") -> None:
        line = Text.assemble((f"{name:<10}  ", "cyan"), (text, style))
        self._console.print(line, soft_wrap=True)
