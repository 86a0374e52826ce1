"""Mirage: what is wrong with an event is told by an `error`, and the connection goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.chat.messages import CreateRoom
from tests.gateways.asyncio_gateways import messages_in, mirage
from tests.gateways.bad_values import HUGE, NOT_OBJECTS, NOT_TEXTS, SCRIPTS, TEMPTATIONS
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio

VALID: dict[str, dict[str, Any]] = {
    "create_room": {"room_name": "another", "username": "alice"},
    "join_room_route": {"room_name": "garden", "username": "alice"},
    "leave_room_route": {"room_name": "garden", "username": "alice"},
    "get_users_in_room_route": {"room_name": "garden"},
    "send_message": {"room_name": "garden", "username": "alice", "message": "hello"},
    "get_new_messages": {"room_name": "garden", "last_message_id": -1},
    "get_all_messages": {"room_name": "garden"},
    "decryption_error": {"room_name": "garden", "username": "alice", "id": 0},
}
NOT_NUMBERS = ["1", None, 1.5, HUGE, -2]
ANSWERS = (
    "error",
    "room_list",
    "room_created",
    "joined_room",
    "left_room",
    "room_users",
    "message_sent",
    "new_messages",
    "all_messages",
    "metrics",
)


async def error_of(client: Ears, event: str, *arguments: Any) -> str:
    """Send an event, see that an error in the right shape answers it, and return its code."""
    name, error = await client.ask(event, *arguments, answers=ANSWERS)
    assert name == "error", (event, arguments, name, error)
    assert set(error) == {"error", "code"}
    assert isinstance(error["error"], str)
    return str(error["code"])


async def still_works(client: Ears) -> None:
    await client.say("get_metrics")
    assert await client.next("metrics", "error") == {"today": 1, "total": 1}


@on_asyncio
async def test_an_unknown_event_is_told(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        # Some are names of the library's own, which must not get there.
        for event in ("dance", "", "*", "connect", "disconnect", "message", "__disconnect_final"):
            assert await error_of(client, event) == "UNKNOWN_EVENT"
            assert await error_of(client, event, {"username": "alice"}) == "UNKNOWN_EVENT"
        await still_works(client)


@pytest.mark.parametrize("event", VALID)
@on_asyncio
async def test_data_that_is_no_object_is_told(tmp_path: Path, event: str) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await house.world.chat.create_room(CreateRoom("garden"))
        assert await error_of(client, event) == "BAD_REQUEST"
        for data in NOT_OBJECTS:
            assert await error_of(client, event, data) == "BAD_REQUEST"
        await still_works(client)


@pytest.mark.parametrize("event", VALID)
@on_asyncio
async def test_a_field_that_is_missing_or_wrong_is_told(tmp_path: Path, event: str) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await house.world.chat.create_room(CreateRoom("garden"))
        for field in VALID[event]:
            rest = {name: value for name, value in VALID[event].items() if name != field}
            if field != "last_message_id":
                assert await error_of(client, event, rest) == "BAD_REQUEST"
            is_text = isinstance(VALID[event][field], str)
            for value in [*(NOT_TEXTS if is_text else NOT_NUMBERS), ""]:
                assert await error_of(client, event, rest | {field: value}) == "BAD_REQUEST"
        await still_works(client)


@pytest.mark.parametrize("event", VALID)
@on_asyncio
async def test_half_a_character_is_told(tmp_path: Path, event: str) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await house.world.chat.create_room(CreateRoom("garden"))
        for field, value in VALID[event].items():
            if isinstance(value, str):
                for half in ("\ud800", "a\udfff", "\udc00\ud800"):
                    wrong = VALID[event] | {field: half}
                    assert await error_of(client, event, wrong) == "BAD_REQUEST"
        await still_works(client)


@on_asyncio
async def test_an_unknown_room_is_told(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        for event, data in VALID.items():
            if event != "create_room":
                wrong = data | {"room_name": "nowhere"}
                assert await error_of(client, event, wrong) == "NO_ROOM"
        await still_works(client)


@on_asyncio
async def test_a_room_between_two_others_is_unknown(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        chat = house.world.chat
        bob = (await chat.register("bob", "secret")).user
        carol = (await chat.register("carol", "secret")).user
        private = await chat.private_room(bob.id, carol.id)
        for event, data in VALID.items():
            if event != "create_room":
                wrong = data | {"room_name": private.name}
                assert await error_of(client, event, wrong) == "NO_ROOM"


@on_asyncio
async def test_the_name_of_an_account_is_nobody_elses(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await house.world.chat.register("Bob", "secret")
        for event in ("create_room", "join_room_route", "send_message"):
            for name in ("Bob", "bob", "\uff22ob"):
                data = VALID[event] | {"room_name": "public", "username": name}
                assert await error_of(client, event, data) == "NAME_TAKEN"
        assert await messages_in(house.world, "public") == ()


@on_asyncio
async def test_who_leaves_for_somebody_else_is_told_so(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await client.say("join_room_route", {"room_name": "public", "username": "alice"})
        await client.next("joined_room")
        other = {"room_name": "public", "username": "bob"}
        assert await error_of(client, "leave_room_route", other) == "NOT_ALLOWED"
        await client.say("get_users_in_room_route", {"room_name": "public"})
        assert await client.next("room_users") == ["alice"]


@on_asyncio
async def test_who_leaves_a_room_without_being_in_it_is_told_so(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        where = {"room_name": "public", "username": "alice"}
        assert await error_of(client, "leave_room_route", where) == "NOT_IN_ROOM"


@on_asyncio
async def test_names_that_nobody_could_read_are_told(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        for name in (" ", " a", "a\0b", "\u202eab", "a\nb", "x" * 129, "\u200b\0"):
            user = {"room_name": "public", "username": name}
            assert await error_of(client, "join_room_route", user) == "BAD_NAME"
            room = {"room_name": name, "username": "alice"}
            assert await error_of(client, "create_room", room) == "BAD_NAME"
        long = {"room_name": "vault", "username": "alice", "password": "x" * 257}
        assert await error_of(client, "create_room", long) == "BAD_PASSWORD"
        await still_works(client)


@pytest.mark.filterwarnings("ignore:Sending a large body directly")
@pytest.mark.parametrize("transports", [("websocket",), ("polling",)], ids="+".join)
@on_asyncio
async def test_a_message_that_is_too_long_is_told(
    tmp_path: Path, transports: tuple[str, ...]
) -> None:
    async with mirage(tmp_path) as house, connected(house.port, transports) as client:
        for length in (64 * 1024 + 1, 400_000, 1024 * 1024, 3_900_000):
            data = {"username": "alice", "room_name": "public", "message": "x" * length}
            assert await error_of(client, "send_message", data) == "TEXT_TOO_LONG"
        many = {"username": "alice", "room_name": "public", "message": "\u20ac" * 22_000}
        assert await error_of(client, "send_message", many) == "TEXT_TOO_LONG"
        await still_works(client)
        assert await messages_in(house.world, "public") == ()


@on_asyncio
async def test_markup_and_sql_are_text_like_any_other(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        for text in TEMPTATIONS:
            await client.say("create_room", {"room_name": text, "username": text})
            assert (await client.next("room_created", "error"))["room_name"] == text
            message = {"room_name": text, "username": text, "message": text}
            await client.say("send_message", message)
            assert (await client.next("message_sent", "error"))["id"] == 0
            heard = await client.next("new_message")
            assert (heard["room_name"], heard["username"], heard["message"]) == (text, text, text)
            await client.say("get_users_in_room_route", {"room_name": text})
            assert await client.next("room_users", "error") == [text]
        await client.say("get_rooms", {"all": True})
        assert await client.next("room_list") == ["public", *TEMPTATIONS]


@on_asyncio
async def test_names_in_any_script(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        for name in SCRIPTS:
            await client.say("create_room", {"room_name": name, "username": name})
            assert (await client.next("room_created", "error")).get("room_name") == name
            await client.say("get_users_in_room_route", {"room_name": name})
            assert await client.next("room_users", "error") == [name]


@on_asyncio
async def test_ten_thousand_rooms_are_listed(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        names = [f"room {count}" for count in range(10_000)]
        await house.world.add_rooms(names)
        await client.say("get_rooms")
        assert await client.next("room_list") == ["public", *names]
