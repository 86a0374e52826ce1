"""DATA of a command: JSON from an argument, a file, or stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from services.cli.text import plain

__all__ = ["DATA_HELP", "read_data"]

DATA_HELP: Final = (
    "DATA is JSON: an argument in single quotes, @FILE, or - for stdin. Without it, null."
)

# Of a wrong line, so much is shown to each side of the place.
_CONTEXT: Final = 30


def read_data(argument: str | None) -> msgspec.Raw | None:
    """Return DATA as it was written, checked to be JSON.

    Raises:
        click.UsageError: it is no JSON, or the file can't be read.
    """
    if argument is None:
        return None
    try:
        if argument == "-":
            source, data = "stdin", sys.stdin.buffer.read()
        elif argument.startswith("@"):
            source, data = argument[1:], Path(argument[1:]).read_bytes()
        else:
            source, data = "DATA", argument.encode("utf-8", "surrogateescape")
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(plain(f"DATA: can't read {argument[1:]}: {reason}")) from None
    problem = _problem(data)
    if problem is None:
        return msgspec.Raw(data)
    lines = [f"{plain(source)} is no JSON: {problem}"]
    if source == "DATA":
        lines.append(_hint(argument))
    raise click.UsageError("\n".join(lines))


def _problem(data: bytes) -> str | None:
    """Say what is wrong, and show where; None where nothing is."""
    try:
        # The reader that the broker uses: it is stricter than Python's.
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        strict = str(error)
    else:
        return None
    if not data.strip():
        return "it is empty"
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} is not UTF-8"
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a \\u escape stands for half a surrogate pair, which is no character"
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        return f"{place}\n{_show(error.doc, error.pos)}"
    except RecursionError:
        pass
    return strict


def _show(text: str, position: int) -> str:
    """The line of the place, and a mark below it."""
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[begin : len(text) if end < 0 else end]
    column = position - begin
    first = max(0, column - _CONTEXT)
    before = plain(line[first:column])
    after = plain(line[column : column + _CONTEXT])
    return f"  {before}{after}\n  {' ' * len(before)}^"


def _hint(argument: str) -> str:
    """What the shell has probably done."""
    if argument[:1] in "{[":
        return (
            "The shell takes double quotes away: put single quotes around all of it, as in "
            """'{"id": 7}', or use @FILE or - (stdin)."""
        )
    return (
        "A text is JSON in double quotes, with single quotes around them for the shell, as in "
        f"""'{plain(json.dumps(argument[:40], ensure_ascii=False))}'."""
    )
