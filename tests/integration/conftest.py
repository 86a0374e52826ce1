"""Fixtures: a broker, and two bystanders who notice nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
import trio

from broker.core.settings import LimitSettings, TimingSettings, TokenSettings
from broker.server import Server
from tests.integration.bystanders import Bystanders
from tests.integration.mesh import Broker, make_settings


class StartBroker(Protocol):
    """Starts a broker with some settings of its own; it runs until the test is over."""

    async def __call__(
        self,
        timing: TimingSettings | None = None,
        limits: LimitSettings | None = None,
        tokens: tuple[TokenSettings, ...] | None = None,
    ) -> Broker: ...


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path short enough for a Unix socket, which has room for 107 bytes."""
    return tmp_path_factory.mktemp("s") / "s"


@pytest.fixture
async def start_broker(nursery: trio.Nursery, socket_path: Path) -> AsyncIterator[StartBroker]:
    async with AsyncExitStack() as stack:

        async def start(
            timing: TimingSettings | None = None,
            limits: LimitSettings | None = None,
            tokens: tuple[TokenSettings, ...] | None = None,
        ) -> Broker:
            server = Server(make_settings(str(socket_path), timing, limits, tokens))
            await nursery.start(server.run)
            return Broker(server, str(socket_path), nursery, stack)

        yield start


@pytest.fixture
async def broker(start_broker: StartBroker) -> Broker:
    """A broker with the default settings."""
    return await start_broker()


@pytest.fixture
async def bystanders(broker: Broker) -> Bystanders:
    """Two healthy services, one behind each door, that talk to each other."""
    return await Bystanders.join(broker)
