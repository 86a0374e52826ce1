"""The chat or the broker away: an ERROR at once, and clients go on when it is back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateways.houses import RoomsHouse
from tests.gateways.talkers import Talker

AWAY = "The chat is away at the moment; try again in a moment"

REQUESTS = (
    {"action": "LOGIN NICK", "nickname": "Robert"},
    {"action": "JOIN ROOM", "room_id": "b"},
    {"action": "LEFT ROOM", "room_id": "a"},
    {"action": "SEND MESSAGE", "room_id": "a", "text": "hello"},
)


async def insist(client: Talker, request: Any) -> None:
    """Ask until the chat is there again."""
    while (answer := await client.ask(request))["message"] != "OK":
        assert answer["message"] == AWAY


async def check_as_before(alice: Talker, bob: Talker) -> None:
    """Both are in room `a`, and nobody else may be called Bob."""
    await insist(alice, {"action": "SEND MESSAGE", "room_id": "a", "text": "back?"})
    assert (await alice.hear())["text"] == "back?"
    assert (await bob.hear())["text"] == "back?"
    await bob.say({"action": "SEND MESSAGE", "room_id": "a", "text": "yes"})
    assert (await alice.hear())["author"] == "Bob"


async def test_the_chat_comes_back(rooms: RoomsHouse) -> None:
    alice, bob = await rooms.come_as("Alice", "a"), await rooms.come_as("Bob", "a")
    await rooms.world.stop_chat()
    for request in REQUESTS:
        answer = await alice.ask(request)
        assert answer == {"action": "ERROR", "request": request, "message": AWAY}
    await rooms.world.start_chat()
    await check_as_before(alice, bob)


@pytest.mark.parametrize("gently", [True, False])
async def test_the_broker_comes_back(rooms: RoomsHouse, *, gently: bool) -> None:
    alice, bob = await rooms.come_as("Alice", "a"), await rooms.come_as("Bob", "a")
    if gently:
        await rooms.world.mesh.stop_broker()
    else:
        rooms.world.mesh.kill_broker()
    for request in REQUESTS:
        answer = await alice.ask(request)
        assert answer == {"action": "ERROR", "request": request, "message": AWAY}
    newcomer = await rooms.come()
    assert (await newcomer.ask(REQUESTS[1]))["message"] == AWAY
    rooms.world.mesh.start_broker()
    await check_as_before(alice, bob)
    answer = await newcomer.ask({"action": "LOGIN NICK", "nickname": "Bob"})
    assert answer["message"] == "Nickname already in use"
