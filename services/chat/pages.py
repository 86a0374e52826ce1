"""Pages that fit into a frame of the mesh."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from services.chat.model import Message, Room

__all__ = ["MAX_PAGE_BYTES", "fit_page"]

Entry = TypeVar("Entry", Message, Room)

MAX_PAGE_BYTES: Final = 512 * 1024
"""Half of what a frame may have by default: room for the rest of an answer."""


def fit_page(entries: Iterable[Entry], max_bytes: int = MAX_PAGE_BYTES) -> tuple[Entry, ...]:
    """Return as many of the entries as fit, but at least one.

    It is their size as JSON that counts: a control character takes six bytes there.
    """
    page: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(msgspec.json.encode(entry))
        if page and size > max_bytes:
            break
        page.append(entry)
    return tuple(page)
