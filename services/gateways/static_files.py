"""A directory of files for browsers: a web client, say. GET and HEAD, nothing else."""

from __future__ import annotations

import mimetypes
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import trio

from services.gateways.http_front import Head, Response, say

__all__ = ["StaticFiles"]

_INDEX: Final = "index.html"

# Python's own table, not the machine's, so that a file is served alike everywhere; and what some
# versions of it have otherwise or not at all.
_KINDS: Final = mimetypes.MimeTypes(filenames=())
for _kind, _ending in (
    ("text/javascript", ".js"),
    ("text/javascript", ".mjs"),
    ("image/webp", ".webp"),
    ("font/woff2", ".woff2"),
):
    _KINDS.add_type(_kind, _ending)


class StaticFiles:
    """Answers requests from a directory.

    What is outside of it is not served, whatever the path says and wherever links in it lead; nor
    are hidden files.

    Args:
        directory: must be there.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve(strict=True)

    async def __call__(self, head: Head) -> Response:
        """Answer a request."""
        if head.method not in {"GET", "HEAD"}:
            return say(
                HTTPStatus.METHOD_NOT_ALLOWED, "there is GET and HEAD here", ("Allow", "GET, HEAD")
            )
        found = await trio.to_thread.run_sync(self._find, head.path)
        if found is None:
            return say(HTTPStatus.NOT_FOUND, "there is no such file")
        kind, encoding = _KINDS.guess_type(found.name)
        if kind is None or encoding is not None:
            kind = "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        # A browser asks again each time: what it gets is what there is.
        headers = (("Content-Type", kind), ("Cache-Control", "no-cache"))
        return Response(HTTPStatus.OK, headers, found)

    def _find(self, path: str) -> Path | None:
        """Return the file of a path, or None."""
        if not path.startswith("/"):
            return None
        parts = unquote(path).removeprefix("/").split("/")
        if parts[-1] == "":
            parts[-1] = _INDEX
        # An empty part, a hidden file, `..`; on Windows, `\` and a drive's letter lead elsewhere.
        if any(not part or part.startswith(".") or set(part) & set("\0\\:") for part in parts):
            return None
        try:
            found = self._root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError):  # Not there; a name too long; links in a circle.
            return None
        inside = found.is_relative_to(self._root) and found.is_file()
        return found if inside else None
