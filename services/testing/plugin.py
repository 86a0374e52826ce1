"""Fixtures for pytest, for tests on trio (pytest-trio) and on either loop (anyio's plugin).

Installed with the package, pytest finds them by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.core.settings import Settings
from services.testing.mesh import Framing, TestMesh

__all__ = ["switchboard_framing", "switchboard_mesh", "switchboard_settings"]


@pytest.fixture
def switchboard_settings() -> Settings:
    """The settings of the broker behind `switchboard_mesh`: override it for others."""
    return Settings()


@pytest.fixture
def switchboard_framing() -> Framing:
    """The framing of `switchboard_mesh`: override or parametrize it for "websocket"."""
    return "stream"


@pytest.fixture
async def switchboard_mesh(
    switchboard_settings: Settings, switchboard_framing: Framing
) -> AsyncIterator[TestMesh]:
    """A `TestMesh` that lasts for the test."""
    async with TestMesh(switchboard_settings, framing=switchboard_framing) as mesh:
        yield mesh
