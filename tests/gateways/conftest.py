"""Gateways with a chat behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateways.houses import RedisChatHouse, RoomsHouse, redis_chat_house, rooms_house


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[RoomsHouse]:
    """The gateway of the rooms."""
    async with rooms_house(tmp_path) as house:
        yield house


@pytest.fixture
async def redis_chat(tmp_path: Path) -> AsyncIterator[RedisChatHouse]:
    """The gateway of the Redis chat."""
    async with redis_chat_house(tmp_path) as house:
        yield house
