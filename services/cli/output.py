"""Where a command writes to: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import trio
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from services.cli.text import plain

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "error_console",
    "note",
    "on_terminal",
    "output_console",
    "print_json",
    "print_line",
    "print_object",
    "print_table",
    "wait_until_unread",
    "waiting",
]

# Wider than any table: nothing is cut off in what a program reads.
_UNBOUNDED: Final = 100_000


class _Console(Console):
    """A console that leaves it to `run_client` what to do when nobody reads any more."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def output_console() -> Console:
    """A console on stdout; coloured on a terminal only, and not with NO_COLOR."""
    return _Console(highlight=False, markup=False, emoji=False)


def error_console() -> Console:
    """A console on stderr."""
    return _Console(stderr=True, highlight=False, markup=False, emoji=False)


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def note(text: str) -> None:
    """Say something on stderr that is no result."""
    click.echo(plain(text), err=True)


def print_line(text: Text | str) -> None:
    """Write one line to stdout, at once, of whatever length."""
    if isinstance(text, str) or not on_terminal():
        click.echo(str(text))
    else:
        output_console().print(text, soft_wrap=True)


def print_json(text: str) -> None:
    """Write JSON to stdout, at once; highlighted on a terminal. It must be safe to show already."""
    if on_terminal():
        highlighted = JSONHighlighter()(text)
        output_console().print(highlighted, soft_wrap=True)
    else:
        click.echo(text)


def print_object(value: Mapping[str, Any]) -> None:
    """Write one line of JSON to stdout, at once."""
    print_json(plain(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def print_table(table: Table) -> None:
    """Write a table to stdout; where no person looks, uncut and without trailing space."""
    if on_terminal():
        output_console().print(table)
        return
    console = Console(
        file=StringIO(), width=_UNBOUNDED, no_color=True, highlight=False, markup=False
    )
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show on a terminal that something takes its time."""
    console = error_console()
    if not console.is_terminal:
        yield
        return
    with console.status(Text(plain(text))):
        yield


async def wait_until_unread() -> None:
    """Wait until whoever reads stdout through a pipe has gone; without a pipe, for ever.

    Raises:
        BrokenPipeError: they have gone.
    """
    try:
        number = sys.stdout.fileno()
        pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, ValueError):
        pipe = False
    if not pipe or not hasattr(select, "poll"):
        await trio.sleep_forever()
    # The writing end of a pipe is never readable: what wakes it is the error alone.
    await trio.lowlevel.wait_readable(number)
    raise BrokenPipeError
