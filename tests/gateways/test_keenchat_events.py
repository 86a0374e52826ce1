"""Keenchat's events: every one of its document, by a client of python-socketio."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chat.messages import CreateRoom, JoinRoom
from tests.gateways.asyncio_gateways import Keenchat, keenchat
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio


async def identify(client: Ears, token: str) -> None:
    await client.say("identify", token)
    name, said = await client.next_of("identified", "identity failure")
    assert (name, said) == ("identified", None)


async def go(client: Ears, channel_id: int | None) -> None:
    await client.say("change channel", {"id": channel_id})


async def crowd(client: Ears, channel_id: int, users: list[int]) -> None:
    """Wait until a channel movement says that these users are in a channel."""
    while True:
        moved = await client.next("channel movement")
        assert set(moved) == {"channel_id", "users"}
        if moved == {"channel_id": channel_id, "users": users}:
            return


async def make_channel(house: Keenchat, token: str, title: str) -> int:
    made = await house.http.post("/channel", params={"auth": token}, json={"title": title})
    return int(made.json()["id"])


@pytest.mark.parametrize("transports", [("websocket",), ("polling",)], ids="+".join)
@on_asyncio
async def test_connection_by_each_transport_and_as_an_event(
    tmp_path: Path, transports: tuple[str, ...]
) -> None:
    async with keenchat(tmp_path) as house, connected(house.events, transports) as client:
        # Some clients send it by themselves. It is not answered.
        await client.say("connection")
        _, token = await house.sign_up("bob")
        await identify(client, token)
        assert [event for event, _ in client.heard] == ["post user"]


@on_asyncio
async def test_post_user_tells_of_new_users_of_any_system(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        made = await house.http.post("/user", json={"username": "bob", "password": "secret"})
        assert await client.next("post user") == made.json()
        guest = await house.world.chat.claim_guest("a session", "guest")
        assert await client.next("post user") == {"id": guest.id, "username": "guest"}


@on_asyncio
async def test_post_message_tells_of_new_messages_of_any_system(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        user_id, token = await house.sign_up("bob")
        body = {"channel_id": 1, "message_text": "hello"}
        posted = await house.http.post("/message", params={"auth": token}, json=body)
        assert await client.next("post message") == posted.json()
        message = await house.world.chat.post(1, user_id, "from elsewhere")
        heard = await client.next("post message")
        assert heard == {
            "id": message.id,
            "channel_id": 1,
            "user_id": user_id,
            "message_text": "from elsewhere",
            "time": message.time,
        }


@on_asyncio
async def test_messages_are_told_once_each_in_their_order(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        user_id, _ = await house.sign_up("bob")
        texts = [f"number {count}" for count in range(100)]
        for text in texts:
            await house.world.chat.post(1, user_id, text)
        heard = [(await client.next("post message"))["message_text"] for _ in texts]
        assert heard == texts


@on_asyncio
async def test_what_is_not_public_is_not_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        chat = house.world.chat
        bob, _ = await house.sign_up("bob")
        eve, _ = await house.sign_up("eve")
        private = await chat.private_room(bob, eve)
        protected = await chat.create_room(CreateRoom("closed", password="open sesame"))
        await chat.join(JoinRoom("b", bob, id=private.id))
        await chat.join(JoinRoom("e", eve, id=protected.id, password="open sesame"))
        await chat.typing(private.id, bob, started=True)
        await chat.typing(protected.id, eve, started=True)
        await chat.post(private.id, bob, "between us")
        await chat.post(protected.id, eve, "among us")
        # Told later than all of that, and by the same way.
        await chat.join(JoinRoom("b", bob, id=1))
        await crowd(client, 1, [bob])
        await chat.typing(1, bob, started=True)
        assert await client.next("start typing") == {"user_id": bob, "channel_id": 1}
        assert {event for event, _ in client.heard} == {"post user"}


@on_asyncio
async def test_identify_with_a_token_and_with_another(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        _, token = await house.sign_up("bob")
        await client.say("identify", "wrong")
        name, said = await client.next_of("identified", "identity failure")
        assert (name, said["code"]) == ("identity failure", "BAD_TOKEN")
        await identify(client, token)
        await identify(client, token)


@on_asyncio
async def test_change_channel_moves_a_user_and_tells_everybody(tmp_path: Path) -> None:
    async with (
        keenchat(tmp_path) as house,
        connected(house.events) as client,
        connected(house.events) as witness,
    ):
        bob, token = await house.sign_up("bob")
        eve, eves = await house.sign_up("eve")
        one = await make_channel(house, token, "one")
        two = await make_channel(house, token, "two")
        await identify(client, token)
        await go(client, one)
        await crowd(witness, one, [bob])
        await identify(witness, eves)
        await go(witness, one)
        await crowd(client, one, [bob, eve])
        await go(client, two)
        await crowd(witness, one, [eve])
        await crowd(witness, two, [bob])
        await go(client, None)
        await crowd(witness, two, [])
        # A channel that is not there: one stays where one is.
        await go(witness, 999)
        assert (await witness.next("error"))["code"] == "NO_ROOM"
        assert [user.id for user in (await house.world.chat.room_users(one)).users] == [eve]


@on_asyncio
async def test_start_and_stop_typing_are_told_to_everybody(tmp_path: Path) -> None:
    async with (
        keenchat(tmp_path) as house,
        connected(house.events) as client,
        connected(house.events) as witness,
    ):
        bob, token = await house.sign_up("bob")
        await identify(client, token)
        await go(client, 1)
        told = {"user_id": bob, "channel_id": 1}
        for event in ("start typing", "stop typing"):
            await client.say(event, {"channel_id": 1})
            assert await witness.next(event) == told
            assert await client.next(event) == told
        two = await make_channel(house, token, "two")
        await client.say("start typing", {"channel_id": two})
        assert (await client.next("error"))["code"] == "NOT_IN_ROOM"


@pytest.mark.parametrize("way", ["unidentify", "change channel", "disconnect"])
@on_asyncio
async def test_who_goes_types_no_more_and_is_not_there_any_more(tmp_path: Path, way: str) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as witness:
        bob, token = await house.sign_up("bob")
        async with connected(house.events) as client:
            await identify(client, token)
            await go(client, 1)
            await crowd(witness, 1, [bob])
            await client.say("start typing", {"channel_id": 1})
            await witness.next("start typing")
            if way != "disconnect":
                await client.say(way, {"id": None})
                assert await witness.next("stop typing") == {"user_id": bob, "channel_id": 1}
                await crowd(witness, 1, [])
        if way == "disconnect":
            assert await witness.next("stop typing") == {"user_id": bob, "channel_id": 1}
            await crowd(witness, 1, [])


@on_asyncio
async def test_unidentify_makes_a_client_a_stranger_again(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        _, token = await house.sign_up("bob")
        await client.say("unidentify")
        await identify(client, token)
        await client.say("unidentify")
        await go(client, 1)
        assert (await client.next("error"))["code"] == "BAD_TOKEN"
        await identify(client, token)
        await go(client, 1)
        await client.next("channel movement")


@on_asyncio
async def test_a_user_on_two_connections_is_there_until_the_last_one_goes(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as first:
        bob, token = await house.sign_up("bob")
        await identify(first, token)
        await go(first, 1)
        await crowd(first, 1, [bob])
        async with connected(house.events) as second:
            await identify(second, token)
            await go(second, 1)
            await go(second, None)
            await identify(second, token)
        users = (await house.world.chat.room_users(1)).users
        assert [user.id for user in users] == [bob]


@on_asyncio
async def test_refresh_page_is_told_to_everybody(tmp_path: Path) -> None:
    async with (
        keenchat(tmp_path) as house,
        connected(house.events) as client,
        connected(house.events) as other,
    ):
        _, token = await house.sign_up("bob")
        await identify(client, token)
        house.gateway.refresh_page()
        for each in (client, other):
            assert await each.next("refresh page") is None


@on_asyncio
async def test_a_channel_that_goes_away_takes_nobody_with_it(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        bob, token = await house.sign_up("bob")
        channel_id = await make_channel(house, token, "soon gone")
        await identify(client, token)
        await go(client, channel_id)
        await crowd(client, channel_id, [bob])
        await client.say("start typing", {"channel_id": channel_id})
        await client.next("start typing")
        await house.http.delete(f"/channel/{channel_id}", params={"auth": token})
        await go(client, 1)
        await crowd(client, 1, [bob])
        assert [event for event, _ in client.heard if event == "error"] == []
