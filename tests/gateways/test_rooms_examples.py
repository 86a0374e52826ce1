"""The examples of the document of the rooms, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateways.houses import RoomsHouse


def ok(request: Any) -> Any:
    return {"action": "RESPONSE", "request": request, "message": "OK"}


async def test_login_nick_as_documented(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    request = {
        'action': 'LOGIN NICK',
        'nickname': 'Bob'
    }  # fmt: skip
    assert await client.ask(request) == ok(request)


async def test_join_room_as_documented(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    request = {
        'action': 'JOIN ROOM',
        'room_id': 'secret'
    }  # fmt: skip
    assert await client.ask(request) == ok(request)


async def test_left_room_as_documented(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice", "flood")
    request = {
        'action': 'LEFT ROOM',
        'room_id': 'flood'
    }  # fmt: skip
    assert await client.ask(request) == ok(request)


@pytest.mark.parametrize("room_id", ["secret", 7])
async def test_send_message_as_documented(rooms: RoomsHouse, room_id: str | int) -> None:
    client = await rooms.come_as("Alice", room_id)
    message = "hello"
    request = {
        'action': 'SEND MESSAGE',
        'room_id': room_id,
        'text': message
    }  # fmt: skip
    assert await client.ask(request) == ok(request)


async def test_response_as_documented(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    answer = await client.ask({"action": "JOIN ROOM", "room_id": "secret"})
    assert answer == {

        'action': 'RESPONSE',
        'request': {
            'action': 'JOIN ROOM',
            'room_id': 'secret'
        },
        'message': 'OK',

    }  # fmt: skip


async def test_error_as_documented(rooms: RoomsHouse) -> None:
    await rooms.come_as("Bob")
    client = await rooms.come()
    answer = await client.ask({"action": "LOGIN NICK", "nickname": "Bob"})
    assert answer == {

        'action': 'ERROR',
        'request': {
            'action': 'LOGIN NICK',
            'nickname': 'Bob'
        },
        'message': 'Nickname already in use',

    }  # fmt: skip


async def test_get_message_as_documented(rooms: RoomsHouse) -> None:
    bob = await rooms.come_as("Bob", "secret")
    alice = await rooms.come_as("Alice", "secret")
    await alice.say({"action": "SEND MESSAGE", "room_id": "secret", "text": "What I've done?"})
    assert await bob.hear() == {

        'action': 'GET MESSAGE',
        'room_id': 'secret',
        'author': 'Alice',
        'text': 'What I\'ve done?',

    }  # fmt: skip
