"""What is wrong gets an ERROR of the document's shape, and the connection stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chat.messages import MAX_TEXT_BYTES
from tests.gateways.hostile import NAUGHTY_TEXTS, NOT_JSON, NOT_OBJECTS, WRONG_TYPES
from tests.gateways.houses import RoomsHouse
from tests.gateways.talkers import Talker

MIB = 1024 * 1024


async def check_refused(client: Talker, request: Any, message: str) -> None:
    answer = await client.ask(request)
    assert answer == {"action": "ERROR", "request": request, "message": message}


async def check_at_work(client: Talker) -> None:
    """Whatever came before, this client can go on."""
    for action in ("JOIN ROOM", "LEFT ROOM"):
        answer = await client.ask({"action": action, "room_id": "still here"})
        assert answer["action"] == "RESPONSE"


@pytest.mark.parametrize("case", NOT_JSON)
async def test_what_is_no_json_is_echoed_as_text(rooms: RoomsHouse, case: str) -> None:
    client = await rooms.come()
    message = NOT_JSON[case]
    answer = await client.ask_raw(message)
    assert answer["action"] == "ERROR"
    if isinstance(message, bytes):
        assert answer["message"] == "A message is text, not binary"
        assert answer["request"] == (message.decode() if message.startswith(b"{") else None)
    else:
        assert answer["message"] == "The message is not JSON"
        assert answer["request"] == message
    await check_at_work(client)


async def test_what_is_no_object_is_echoed(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    for message in NOT_OBJECTS:
        await client.say_raw(message)
        said = await client.hear_raw()
        # As it came, to the letter.
        assert said == (
            f'{{"action":"ERROR","request":{message},"message":"The message is not a JSON object"}}'
        )
    await check_at_work(client)


async def test_a_request_is_echoed_to_the_letter(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    more = '"n": 1.0e2, "n": 12345678901234567890123, "s":"\\ud800"'
    request = f'{{ "action":"JOIN ROOM","room_id":"a", {more} }}'
    await client.say_raw(request)
    assert await client.hear_raw() == (
        f'{{"action":"RESPONSE","request":{request},"message":"OK"}}'
    )


async def test_unknown_actions(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    known = "'LOGIN NICK', 'JOIN ROOM', 'LEFT ROOM', 'SEND MESSAGE'"
    for action in ("EXPLODE", "", "login nick", "GET MESSAGE", "\ud800", *WRONG_TYPES):
        expected = f"Unknown action {json.dumps(action, separators=(',', ':'))}: there are {known}"
        await check_refused(client, {"action": action}, expected)
    await check_refused(client, {}, "'action' is missing")
    await check_refused(client, {"type": "JOIN ROOM"}, "'action' is missing")
    await check_at_work(client)


@pytest.mark.parametrize(
    ("action", "names"),
    [
        ("LOGIN NICK", ["nickname"]),
        ("JOIN ROOM", ["room_id"]),
        ("LEFT ROOM", ["room_id"]),
        ("SEND MESSAGE", ["room_id", "text"]),
    ],
)
async def test_missing_and_wrong_properties(
    rooms: RoomsHouse, action: str, names: list[str]
) -> None:
    client = await rooms.come_as("Alice", "a")
    right = {"action": action, "room_id": "a", "text": "hello", "nickname": "Bob"}
    for name in names:
        request: dict[str, Any] = {key: value for key, value in right.items() if key != name}
        await check_refused(client, request, f"'{name}' is missing")
        wanted = "a string or an integer" if name == "room_id" else "a string"
        for value in WRONG_TYPES if name == "room_id" else (*WRONG_TYPES, 1):
            await check_refused(client, right | {name: value}, f"'{name}' must be {wanted}")
        await check_refused(
            client, right | {name: "a\ud800"}, f"'{name}' has half a surrogate pair in it"
        )
    await check_at_work(client)


@pytest.mark.parametrize(
    "room_id", ["", " ", " a", "a\n", "\u0000", "a" * 129, 10**200, "a\u202e", "\u200b"]
)
async def test_room_ids_that_cannot_be_names(rooms: RoomsHouse, room_id: str | int) -> None:
    client = await rooms.come()
    answer = await client.ask({"action": "JOIN ROOM", "room_id": room_id})
    if room_id == "\u200b":  # Not seen, but no harm either, and some scripts need its like.
        return
    assert answer["action"] == "ERROR"
    assert answer["message"].startswith("A room's name ")
    await check_at_work(client)


@pytest.mark.parametrize("nickname", ["", " ", " Bob", "Bob\n", "\u0000", "B" * 65, "B\u202e"])
async def test_nicknames_that_cannot_be_names(rooms: RoomsHouse, nickname: str) -> None:
    client = await rooms.come()
    answer = await client.ask({"action": "LOGIN NICK", "nickname": nickname})
    assert answer["action"] == "ERROR"
    assert answer["message"].startswith("A username ")
    await check_at_work(client)


async def test_markup_and_sql_are_but_text(rooms: RoomsHouse) -> None:
    client = await rooms.come()
    for text in NAUGHTY_TEXTS:
        for request in (
            {"action": "LOGIN NICK", "nickname": text},
            {"action": "JOIN ROOM", "room_id": text},
            {"action": "SEND MESSAGE", "room_id": text, "text": text},
        ):
            answer = await client.ask(request)
            assert answer == {"action": "RESPONSE", "request": request, "message": "OK"}
        expected = {"action": "GET MESSAGE", "room_id": text, "author": text, "text": text}
        assert await client.hear() == expected


async def test_the_longest_text_goes_through_and_a_longer_one_not(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice", "a")
    # As many bytes in JSON on the mesh as there can be.
    for text in ("x" * MAX_TEXT_BYTES, "\u0001" * MAX_TEXT_BYTES, "\u05d0" * (MAX_TEXT_BYTES // 2)):
        answer = await client.ask({"action": "SEND MESSAGE", "room_id": "a", "text": text})
        assert answer["message"] == "OK"
        assert (await client.hear())["text"] == text
    for text in ("x" * (MAX_TEXT_BYTES + 1), "\u05d0" * (MAX_TEXT_BYTES // 2 + 1)):
        answer = await client.ask({"action": "SEND MESSAGE", "room_id": "a", "text": text})
        assert answer["action"] == "ERROR"
        assert answer["request"]["text"] == text
    await check_at_work(client)


@pytest.mark.parametrize("name", ["text", "room_id", "nickname", "action", "more"])
async def test_a_message_of_a_mebibyte_is_an_error(rooms: RoomsHouse, name: str) -> None:
    client = await rooms.come_as("Alice", "a")
    action = "LOGIN NICK" if name == "nickname" else "SEND MESSAGE"
    request = {"action": action, "room_id": "a", "text": "hello"} | {name: "x" * MIB}
    answer = await client.ask(request)
    assert answer["request"] == request
    assert answer["action"] == ("RESPONSE" if name == "more" else "ERROR")
    assert len(answer["message"]) < 300
    if name in {"text", "room_id", "nickname"}:
        assert answer["message"] == f"'{name}' is too long"
    if name == "more":
        assert (await client.hear())["text"] == "hello"
    await check_at_work(client)


async def test_a_bad_client_is_nobody_elses_business(rooms: RoomsHouse) -> None:
    good, bad = await rooms.come_as("Alice", "a"), await rooms.come()
    for message in NOT_JSON.values():
        await bad.say_raw(message)
    await check_at_work(good)
    for _ in NOT_JSON:
        assert (await bad.hear())["action"] == "ERROR"
