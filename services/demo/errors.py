"""Why the demo cannot go on."""

from __future__ import annotations

__all__ = ["DemoError"]


class DemoError(Exception):
    """The demo cannot go on, and says in a line why, and what to do."""
