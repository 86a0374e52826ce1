"""A broker that does not let a client in says what is wrong, and is not asked again."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from broker.core.authentication import hash_token
from broker.core.settings import Settings, TokenSettings
from services.sdk import IdentifyFailed, Service
from services.testing import TestMesh, virtual_time
from services.testing.mesh import Framing

SETTINGS = Settings(tokens=(TokenSettings(hash_token("for-maths-only"), groups=("maths",)),))

CASES: list[tuple[dict[str, Any], str]] = [
    ({"token": "wrong"}, "data.token: is not known here"),
    ({"token": ""}, "data.token: is not known here"),
    ({"token": "for-maths-only"}, "data.group: .* may not join 'web'"),
    ({"group": "$broker"}, r"data.group: names that begin with \$ are the broker's own"),
    ({"group": "x" * 129}, "data.group: expected str of length <= 128"),
    ({"name": "x" * 129}, "data.name: expected str of length <= 128"),
    ({"concurrency": 0}, "data.concurrency: expected int >= 1"),
    ({"meta": {"much": "x" * 5000}}, "MESSAGE_TOO_BIG: a message may have at most 4096 bytes"),
]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("framing", ["stream", "websocket"])
@pytest.mark.parametrize(("options", "text"), CASES)
def test_what_is_wrong_is_said(
    options: dict[str, Any], text: str, framing: Framing, backend: str
) -> None:
    async def run() -> None:
        async with TestMesh(SETTINGS, framing=framing) as mesh:
            started = anyio.current_time()
            for insist in (False, True):
                with pytest.raises(IdentifyFailed, match=text):
                    await mesh.client(**{"group": "web", "insist": insist, **options})
            assert anyio.current_time() == started

    anyio.run(run, backend=backend, backend_options=virtual_time(backend))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_service_is_told_as_well(backend: str) -> None:
    async def run() -> None:
        async with TestMesh(SETTINGS) as mesh:
            with pytest.raises(IdentifyFailed, match="are the broker's own"):
                await mesh.run(Service("$physics"), insist=True)

    anyio.run(run, backend=backend, backend_options=virtual_time(backend))  # type: ignore[arg-type]
