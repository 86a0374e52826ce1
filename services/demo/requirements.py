"""What the demo needs besides what Switchboard itself does, looked for without importing it."""

from __future__ import annotations

import importlib.util
from typing import Final

__all__ = ["missing_packages"]

# Modules, and the packages that bring them.
_NEEDED: Final = {
    "aiohttp": "aiohttp",
    "argon2": "argon2-cffi",
    "fastapi": "fastapi",
    "fastapi_offline": "fastapi-offline",
    "httpx": "httpx",
    "socketio": "python-socketio",
    "sqlalchemy": "sqlalchemy",
    "uvicorn": "uvicorn",
}


def missing_packages() -> list[str]:
    """Return the packages that are not installed."""
    return [
        package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None
    ]
