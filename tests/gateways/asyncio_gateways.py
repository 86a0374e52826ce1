"""The gateways on asyncio, each on a chat of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx

from services.chat.messages import ListMessages
from services.chat.model import Message
from services.gateways.keenchat.gateway import KeenchatGateway, Ports
from services.gateways.mirage.gateway import MirageGateway
from tests.gateways.world import World, world

__all__ = ["Keenchat", "Mirage", "keenchat", "messages_in", "mirage"]

_HOST = "127.0.0.1"


@attrs.frozen
class Mirage:
    """A Mirage gateway that listens.

    Attributes:
        world: what is behind it.
        port: for Socket.IO.
    """

    world: World
    port: int


@asynccontextmanager
async def mirage(directory: Path, origins: Sequence[str] = ()) -> AsyncIterator[Mirage]:
    """Run a Mirage gateway for the body of an `async with`."""
    async with world(directory) as behind:
        gateway = MirageGateway(await behind.gateway_mesh("mirage"), origins)
        async with gateway.serving(_HOST, 0) as port:
            yield Mirage(behind, port)


@attrs.frozen
class Keenchat:
    """A Keenchat gateway that listens.

    Attributes:
        world: what is behind it.
        gateway: itself.
        events: the port for Socket.IO.
        url: of the REST API.
        http: a client for it.
    """

    world: World
    gateway: KeenchatGateway
    events: int
    url: str
    http: httpx.AsyncClient

    async def sign_up(self, username: str, password: str = "a password") -> tuple[int, str]:
        """Make a user; return the id, and a token."""
        credentials = {"username": username, "password": password}
        made = await self.http.post("/user", json=credentials)
        token = await self.http.post("/auth", json=credentials)
        return made.json()["id"], token.json()["token_value"]


@asynccontextmanager
async def keenchat(directory: Path, origins: Sequence[str] = ()) -> AsyncIterator[Keenchat]:
    """Run a Keenchat gateway for the body of an `async with`."""
    async with world(directory) as behind:
        gateway = KeenchatGateway(await behind.gateway_mesh("keenchat"), origins)
        async with gateway.serving(_HOST, Ports(0, 0)) as ports:
            url = f"http://{_HOST}:{ports.rest}"
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield Keenchat(behind, gateway, ports.events, url, client)


async def messages_in(behind: World, room_name: str) -> Sequence[Message]:
    """Return the messages of a room, as they are stored."""
    room = await behind.chat.room(name=room_name)
    return (await behind.chat.messages(ListMessages(room.id, trusted=True))).messages
