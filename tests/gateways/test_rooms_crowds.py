"""Many clients in one room, and one that is too slow for it."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from services.chat.messages import MAX_TEXT_BYTES
from services.gateways.websocket_server import Limits
from tests.gateways.houses import RoomsHouse, rooms_house
from tests.gateways.talkers import PATIENCE, in_thread

CLIENTS = 200
SPEAKERS = 20


def crowd(port: int) -> list[list[str]]:
    """What each of many clients hears, when some of them speak at the same moment."""

    async def ask(client: ClientConnection, **request: Any) -> list[str]:
        """Return the texts that are heard before the answer."""
        await client.send(json.dumps(request))
        heard: list[str] = []
        while (said := json.loads(await client.recv()))["action"] == "GET MESSAGE":
            heard.append(said["text"])
        assert said["message"] == "OK"
        return heard

    async def one(index: int, doors: asyncio.Semaphore, ready: asyncio.Barrier) -> list[str]:
        async with connect(f"ws://127.0.0.1:{port}/chat", proxy=None, open_timeout=None) as client:
            async with doors:
                await ask(client, action="LOGIN NICK", nickname=f"user {index}")
                await ask(client, action="JOIN ROOM", room_id="crowd")
            await ready.wait()
            heard: list[str] = []
            if index < SPEAKERS:
                text = f"by {index}"
                heard += await ask(client, action="SEND MESSAGE", room_id="crowd", text=text)
            while len(heard) < SPEAKERS:
                heard.append(json.loads(await client.recv())["text"])
            return heard

    async def run() -> list[list[str]]:
        # Not all at the same moment: each has to be written down by a database.
        doors, ready = asyncio.Semaphore(8), asyncio.Barrier(CLIENTS)
        return await asyncio.gather(*(one(index, doors, ready) for index in range(CLIENTS)))

    return asyncio.run(run())


async def test_200_clients_hear_the_same_in_the_same_order(rooms: RoomsHouse) -> None:
    heard = await in_thread(partial(crowd, rooms.port))
    assert set(heard[0]) == {f"by {index}" for index in range(SPEAKERS)}
    assert heard == [heard[0]] * CLIENTS


def join_and_say_no_more(slow: socket.socket, port: int) -> None:
    """Come in as `Slow`, and then never read again."""
    slow.settimeout(PATIENCE)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", port))
    slow.sendall(
        b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert slow.recv(1000).startswith(b"HTTP/1.1 101 ")
    for request in (
        {"action": "LOGIN NICK", "nickname": "Slow"},
        {"action": "JOIN ROOM", "room_id": "a"},
    ):
        data = json.dumps(request).encode()
        slow.sendall(bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data)
        assert b"RESPONSE" in slow.recv(1000)


async def test_a_slow_client_is_closed_and_leaves_its_nickname(tmp_path: Path) -> None:
    limits = Limits(max_outbox_bytes=2 * MAX_TEXT_BYTES)
    async with rooms_house(tmp_path, limits) as rooms:
        with socket.socket() as slow:
            await in_thread(partial(join_and_say_no_more, slow, rooms.port))
            ann, ben = await rooms.come_as("Ann", "a"), await rooms.come_as("Ben", "a")
            text = "x" * MAX_TEXT_BYTES
            request = {"action": "SEND MESSAGE", "room_id": "a", "text": text}
            taken = {"action": "LOGIN NICK", "nickname": "Slow"}
            while True:
                assert (await ann.ask(request))["action"] == "RESPONSE"
                assert (await ann.hear())["text"] == text
                assert (await ben.hear())["text"] == text
                answer = await ben.ask(taken)
                if answer["message"] == "OK":
                    break
                assert answer["message"] == "Nickname already in use"
