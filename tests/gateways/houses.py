"""The gateways on trio with a chat behind them, and the clients that come to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from services.gateways.redis_chat.gateway import RedisChatGateway
from services.gateways.redis_chat.main import PATH as REDIS_CHAT_PATH
from services.gateways.rooms.gateway import RoomsGateway
from services.gateways.rooms.main import PATH as ROOMS_PATH
from services.gateways.websocket_gateway import Listening, WebSocketGateway, serving
from services.gateways.websocket_server import Limits
from tests.gateways.talkers import PATIENCE, Talker, talker
from tests.gateways.world import World, world

__all__ = ["RedisChatHouse", "RoomsHouse", "redis_chat_house", "rooms_house"]


class House:
    """A gateway that listens.

    Attributes:
        gateway: the gateway itself.
        world: the chat behind it.
        server: the gateway's.
        port: where it is.
    """

    def __init__(
        self,
        gateway: RoomsGateway | RedisChatGateway,
        world: World,
        listening: Listening,
        path: str,
        stack: AsyncExitStack,
    ) -> None:
        self.gateway = gateway
        self.world = world
        self.server = listening.server
        self.port = listening.port
        self.path = path
        self._stack = stack

    def followers(self) -> int:
        """How many clients follow the room `public`, whose id is 1."""
        return len(self.gateway._following.places(1))

    async def come(self) -> Talker:
        """A client, for the rest of the test."""
        return await self._stack.enter_async_context(talker(self.port, self.path))


class RoomsHouse(House):
    """The rooms."""

    async def come_as(self, nickname: str, *room_ids: str | int) -> Talker:
        """A client with a nickname, in some rooms."""
        made = await self.come()
        answer = await made.ask({"action": "LOGIN NICK", "nickname": nickname})
        assert answer["message"] == "OK"
        for room_id in room_ids:
            answer = await made.ask({"action": "JOIN ROOM", "room_id": room_id})
            assert answer["message"] == "OK"
        return made


class Guest:
    """A client of the Redis chat who has signed in."""

    def __init__(self, talker: Talker, username: str, authorized: dict[str, str]) -> None:
        self.talker = talker
        self.username = username
        self.uuid = authorized["userUUID"]
        self.key = authorized["accessKey"]

    def request(self, kind: str, data: Any = None, **more: Any) -> dict[str, Any]:
        """Make a request, with the properties that each has."""
        made = {"SUUID": "", "type": kind, "userUUID": self.uuid, "userAccessKey": self.key}
        return made | ({} if data is None else {kind: data}) | more

    async def ask(self, kind: str, data: Any = None, **more: Any) -> Any:
        return await self.talker.ask(self.request(kind, data, **more))

    async def hear(self) -> Any:
        return await self.talker.hear()

    async def join(self, recipient: Any = "") -> Any:
        """Join a channel, and return the answer."""
        answer = await self.ask("channelJoin", {"recipientUUID": recipient})
        assert answer["type"] == "channelJoin", answer
        told = await self.hear()
        assert told["type"] == "sys", told
        return answer["channelJoin"]

    async def write(self, text: str, recipient: Any = "") -> Any:
        """Send a message, and return the answer."""
        answer = await self.ask("channelMessage", {"recipientUUID": recipient, "message": text})
        assert answer["type"] == "channelMessage", answer
        return answer["channelMessage"]


class RedisChatHouse(House):
    """The Redis chat."""

    async def come_in(self) -> Talker:
        """A client that has been told that all is ready."""
        made = await self.come()
        assert (await made.hear())["type"] == "ready"
        return made

    async def come_as(self, username: str, password: str = "a password") -> Guest:
        """A client who has signed in."""
        made = await self.come_in()
        answer = await made.ask(
            {"type": "signIn", "signIn": {"username": username, "password": password}}
        )
        assert answer["type"] == "authorized", answer
        assert (await made.hear())["type"] == "sys"
        return Guest(made, username, answer["authorized"])


@asynccontextmanager
async def rooms_house(directory: Path, limits: Limits | None = None) -> AsyncIterator[RoomsHouse]:
    async with world(directory) as behind, AsyncExitStack() as stack:
        gateway = RoomsGateway(await behind.gateway_mesh("rooms"))
        listening = await stack.enter_async_context(_opened(gateway, ROOMS_PATH, limits))
        yield RoomsHouse(gateway, behind, listening, ROOMS_PATH, stack)


@asynccontextmanager
async def redis_chat_house(
    directory: Path, limits: Limits | None = None
) -> AsyncIterator[RedisChatHouse]:
    async with world(directory) as behind, AsyncExitStack() as stack:
        gateway = RedisChatGateway(await behind.gateway_mesh("redis_chat"))
        listening = await stack.enter_async_context(_opened(gateway, REDIS_CHAT_PATH, limits))
        yield RedisChatHouse(gateway, behind, listening, REDIS_CHAT_PATH, stack)


@asynccontextmanager
async def _opened(
    gateway: WebSocketGateway, path: str, limits: Limits | None
) -> AsyncIterator[Listening]:
    async with serving(gateway, path, "127.0.0.1", 0, limits=limits) as listening:
        with trio.fail_after(2 * PATIENCE):
            yield listening
