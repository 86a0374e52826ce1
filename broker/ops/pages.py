"""The files of the live page, read once."""

from __future__ import annotations

from importlib import resources
from typing import Final

import attrs

__all__ = ["SECURITY_HEADERS", "Page", "load_pages"]

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What comes with every answer. Names of clients are shown on the page: should one ever get into
its markup after all, no script in it would run."""

_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@attrs.frozen
class Page:
    """A file."""

    content: bytes
    media_type: str


def load_pages() -> dict[str, Page]:
    """Return the files by their paths: only what is there now can ever be asked for."""
    pages: dict[str, Page] = {}
    for file in resources.files("broker.ops").joinpath("dashboard").iterdir():
        media_type = _MEDIA_TYPES.get(f".{file.name.rpartition('.')[2]}")
        if media_type is not None and file.is_file():
            pages[f"/{file.name}"] = Page(file.read_bytes(), media_type)
    if "/index.html" in pages:
        pages["/"] = pages.pop("/index.html")
    return pages
