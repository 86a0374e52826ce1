"""Text that came over the wire, made fit for a terminal.

Names, ids and data are written by other clients. On a terminal their control characters would be
orders (move the cursor, change the title, clear the screen), and bidirectional ones would show one
name as another. So whatever is not printable is shown as the escape that JSON has for it.
"""

from __future__ import annotations

import msgspec

__all__ = ["compact_json", "plain", "pretty_json"]


def plain(text: str) -> str:
    r"""Return the text with everything that is not printable as `\uXXXX`.

    That takes in control characters (ESC among them, and the line break), bidirectional and
    invisible ones, and spaces that pass for the ordinary one.

    Example:
        >>> plain("a\x1b[31m")
        'a\\u001b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape(character) for character in text
    )


def compact_json(data: bytes) -> str:
    """Return JSON on one line, safe to show, still JSON, its numbers as they were written."""
    return plain(_format(data, -1))


def pretty_json(data: bytes) -> str:
    """Return JSON over several lines; else as `compact_json`."""
    return "\n".join(map(plain, _format(data, 2).split("\n")))


def _format(data: bytes, indent: int) -> str:
    return msgspec.json.format(data, indent=indent).decode("utf-8", "replace")


def _escape(character: str) -> str:
    # Past U+FFFF, JSON takes two escapes, as UTF-16 does.
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
