"""A rig for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.core.settings import LimitSettings, TimingSettings
from tests.transport.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.fixture
def tight() -> Iterator[Rig]:
    """A rig with small outboxes and short times."""
    with Rig(
        TimingSettings(goodbye_ms=2000, stall_ms=3000),
        LimitSettings(message_bytes=131_072, outbox_high_bytes=65_536, outbox_bytes=262_144),
    ) as rig:
        yield rig
