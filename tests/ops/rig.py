"""The ops port's application over the real dispatcher, without a socket."""

from __future__ import annotations

import httpx

from broker.core.settings import Settings
from broker.ops.access import Access
from broker.ops.app import OpsApp
from broker.ops.feed import Feed
from broker.ops.readiness import STARTING, Readiness
from broker.ops.snapshots import Snapshots
from broker.ops.source import Source
from tests.core.memory_mesh import MemoryMesh

__all__ = ["EPOCH", "Rig"]

EPOCH = 1_000_000_000.0


class Rig:
    """A broker in memory, and its ops application."""

    def __init__(self, settings: Settings | None = None, token_sha256: str | None = None) -> None:
        self.mesh = MemoryMesh(settings)
        self.readiness = Readiness()
        self.readiness.remove(STARTING)
        self.source = Source(self.mesh.dispatcher, self.readiness, EPOCH, EPOCH + 5)
        self.snapshots = Snapshots(self.source, lambda: self.mesh.now)
        self.feed = Feed(self.snapshots)
        self.app = OpsApp(self.source, self.feed, Access(token_sha256, ()))

    async def get(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
        host: str = "127.0.0.1:8421",
    ) -> httpx.Response:
        """Ask for something."""
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, headers=headers)
