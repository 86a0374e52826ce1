"""A mesh in memory, and a command's way to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.cli.target import Target
from services.testing import TestMesh
from tests.cli.commands import target_of


@pytest.fixture
async def mesh() -> AsyncIterator[TestMesh]:
    async with TestMesh() as mesh:
        yield mesh


@pytest.fixture
def target(mesh: TestMesh) -> Target:
    return target_of(mesh)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: object) -> None:
    """Nobody's own contexts and variables play a part."""
    for name in ("URL", "TOKEN", "CONTEXT", "GROUP"):
        monkeypatch.delenv(f"SWITCHBOARD_{name}", raising=False)
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
