"""Mirage: every endpoint of its document, by a client of python-socketio."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from services.chat.messages import CreateRoom
from tests.gateways.asyncio_gateways import messages_in, mirage
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio

TRANSPORTS = [("websocket",), ("polling",), ("polling", "websocket")]


async def enter(client: Ears, username: str, room_name: str) -> None:
    await client.say("join_room_route", {"username": username, "room_name": room_name})
    joined = await client.next("joined_room", "error")
    assert joined == {"message": "Joined room", "room_name": room_name}


async def create(client: Ears, username: str, room_name: str) -> None:
    await client.say("create_room", {"room_name": room_name, "username": username})
    created = await client.next("room_created", "error")
    assert created == {"message": "Room created", "room_name": room_name}


async def send(client: Ears, username: str, room_name: str, message: str) -> int:
    data = {"username": username, "room_name": room_name, "message": message}
    await client.say("send_message", data)
    sent = await client.next("message_sent", "error")
    assert sent["message"] == "Message sent successfully", sent
    return int(sent["id"])


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
@on_asyncio
async def test_connect_and_disconnect_by_each_transport(
    tmp_path: Path, transports: tuple[str, ...]
) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as witness:
        await enter(witness, "witness", "public")
        async with connected(house.port, transports) as client:
            await enter(client, "alice", "public")
            await send(client, "alice", "public", "here I am")
            assert (await client.next("new_message"))["message"] == "here I am"
        # Who has disconnected is in no room any more.
        users = ["alice", "witness"]
        while users != ["witness"]:
            await witness.say("get_users_in_room_route", {"room_name": "public"})
            users = await witness.next("room_users")


@on_asyncio
async def test_get_rooms_lists_the_rooms_that_the_user_has_joined(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await house.world.chat.create_room(CreateRoom("elsewhere"))
        await create(client, "alice", "garden")
        await client.say("get_rooms")
        assert await client.next("room_list") == ["garden"]
        await enter(client, "alice", "public")
        await client.say("get_rooms")
        assert await client.next("room_list") == ["public", "garden"]


@on_asyncio
async def test_get_rooms_lists_all_rooms_to_whoever_has_no_name_yet_or_asks_for_all(
    tmp_path: Path,
) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        chat = house.world.chat
        alice = (await chat.register("alice", "secret")).user
        bob = (await chat.register("bob", "secret")).user
        await chat.private_room(alice.id, bob.id)
        await chat.create_room(CreateRoom("open"))
        await chat.create_room(CreateRoom("closed", password="open sesame"))
        everything = ["public", "open", "closed"]
        await client.say("get_rooms")
        assert await client.next("room_list") == everything
        await enter(client, "carol", "open")
        await client.say("get_rooms", {"all": True})
        assert await client.next("room_list") == everything


@on_asyncio
async def test_create_room_adds_the_creator(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        await client.say("get_users_in_room_route", {"room_name": "garden"})
        assert await client.next("room_users") == ["alice"]


@on_asyncio
async def test_create_room_says_when_the_room_exists_already(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        await client.say("create_room", {"room_name": "garden", "username": "alice"})
        assert await client.next("error", "room_created") == {
            "error": "there is a room 'garden'",
            "code": "ROOM_EXISTS",
        }


@pytest.mark.parametrize("suffix", ["_route", ""])
@on_asyncio
async def test_join_leave_and_list_users_with_and_without_the_suffix(
    tmp_path: Path, suffix: str
) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as bob,
    ):
        await create(alice, "alice", "garden")
        await bob.say(f"join_room{suffix}", {"username": "bob", "room_name": "garden"})
        joined = await bob.next("joined_room", "error")
        assert joined == {"message": "Joined room", "room_name": "garden"}
        await alice.say(f"get_users_in_room{suffix}", {"room_name": "garden"})
        assert await alice.next("room_users", "error") == ["alice", "bob"]
        await bob.say(f"leave_room{suffix}", {"username": "bob", "room_name": "garden"})
        left = await bob.next("left_room", "error")
        assert left == {"message": "Left room", "room_name": "garden"}
        await alice.say(f"get_users_in_room{suffix}", {"room_name": "garden"})
        assert await alice.next("room_users", "error") == ["alice"]


@on_asyncio
async def test_a_protected_room_takes_its_password_and_no_other(tmp_path: Path) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as bob,
    ):
        made = {"room_name": "vault", "username": "alice", "password": "open sesame"}
        await alice.say("create_room", made)
        await alice.next("room_created")
        for wrong in ({}, {"password": "sesame"}, {"password": ""}):
            await bob.say("join_room_route", {"username": "bob", "room_name": "vault"} | wrong)
            error = await bob.next("error", "joined_room")
            assert error["code"] == "WRONG_PASSWORD"
        right = {"username": "bob", "room_name": "vault", "password": "open sesame"}
        await bob.say("join_room_route", right)
        await bob.next("joined_room")
        assert await send(bob, "bob", "vault", "in") == 0


@on_asyncio
async def test_a_name_alone_opens_no_protected_room(tmp_path: Path) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as impostor,
    ):
        made = {"room_name": "vault", "username": "alice", "password": "open sesame"}
        await alice.say("create_room", made)
        await alice.next("room_created")
        await send(alice, "alice", "vault", "a secret")
        await enter(impostor, "alice", "public")
        where = {"room_name": "vault"}
        for event, data in (
            ("get_all_messages", where),
            ("get_new_messages", where | {"last_message_id": -1}),
            ("send_message", where | {"username": "alice", "message": "me too"}),
        ):
            error = (await impostor.ask(event, data, answers=("error", "all_messages")))[1]
            assert error["code"] == "NOT_IN_ROOM"
        assert [message.text for message in await messages_in(house.world, "vault")] == ["a secret"]


@on_asyncio
async def test_send_message_stores_it_and_emits_it_to_the_users_of_the_room(tmp_path: Path) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as bob,
        connected(house.port) as outside,
    ):
        await create(alice, "alice", "garden")
        await enter(bob, "bob", "garden")
        await enter(outside, "carol", "public")
        assert await send(alice, "alice", "garden", "hello") == 0
        heard = await bob.next("new_message")
        assert heard == await alice.next("new_message")
        time = datetime.datetime.fromisoformat(heard.pop("timestamp"))
        assert time.utcoffset() == datetime.timedelta(0)
        said = {"id": 0, "username": "alice", "message": "hello"}
        assert heard == said | {"room_name": "garden"}
        # What carol hears next is not that.
        await send(bob, "bob", "public", "to all")
        assert (await outside.next("new_message"))["message"] == "to all"


@on_asyncio
async def test_a_message_of_another_system_is_emitted_too(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as alice:
        await enter(alice, "alice", "public")
        chat = house.world.chat
        bob = (await chat.register("bob", "secret")).user
        public = await chat.room(name="public")
        await chat.post(public.id, bob.id, "from elsewhere")
        heard = await alice.next("new_message")
        assert (heard["username"], heard["message"]) == ("bob", "from elsewhere")


@on_asyncio
async def test_get_new_messages_gives_those_after_the_last_one_seen(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        where = {"room_name": "garden"}
        await client.say("get_new_messages", where | {"last_message_id": -1})
        assert await client.next("new_messages") == {"messages": [], "errors": []}
        for text in ("zero", "one", "two"):
            await send(client, "alice", "garden", text)
        await client.say("get_new_messages", where | {"last_message_id": -1})
        first = (await client.next("new_messages"))["messages"]
        assert [(m["id"], m["username"], m["message"]) for m in first] == [
            (0, "alice", "zero"),
            (1, "alice", "one"),
            (2, "alice", "two"),
        ]
        await client.say("get_new_messages", where | {"last_message_id": 1})
        assert (await client.next("new_messages"))["messages"] == first[2:]
        await client.say("get_new_messages", where | {"last_message_id": 2})
        assert (await client.next("new_messages"))["messages"] == []
        # Without a number: from the first one on, as at the beginning.
        await client.say("get_new_messages", where)
        assert (await client.next("new_messages"))["messages"] == first


@on_asyncio
async def test_get_all_messages_gives_the_history_in_order(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        texts = [f"number {count}" for count in range(25)]
        for text in texts:
            await send(client, "alice", "garden", text)
        await client.say("get_all_messages", {"room_name": "garden"})
        history = await client.next("all_messages")
        assert [(message["id"], message["message"]) for message in history] == list(
            enumerate(texts)
        )
        assert all(set(m) == {"id", "username", "message", "timestamp"} for m in history)


@on_asyncio
async def test_a_long_history_is_given_by_its_end_and_by_polling_from_its_beginning(
    tmp_path: Path,
) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        chat = house.world.chat
        room = await chat.room(name="garden")
        alice = await chat.user(username="alice")
        for count in range(50):
            await chat.post(room.id, alice.id, f"{count} " + "x" * 60_000)
        await client.say("get_all_messages", {"room_name": "garden"})
        numbers = [message["id"] for message in await client.next("all_messages")]
        assert numbers == list(range(50 - len(numbers), 50))
        assert 20 < len(numbers) < 50
        seen: list[int] = []
        while len(seen) < 50:
            last = seen[-1] if seen else -1
            where = {"room_name": "garden", "last_message_id": last}
            await client.say("get_new_messages", where)
            page = (await client.next("new_messages"))["messages"]
            seen += [message["id"] for message in page]
        assert seen == list(range(50))


@on_asyncio
async def test_get_metrics_counts_connections(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house:
        async with connected(house.port) as client:
            await client.say("get_metrics")
            assert await client.next("metrics") == {"today": 1, "total": 1}
        async with connected(house.port) as client:
            await client.say("get_metrics")
            assert await client.next("metrics") == {"today": 2, "total": 2}
            await client.say("get_metrics")
            assert await client.next("metrics") == {"today": 2, "total": 2}


@on_asyncio
async def test_decryption_error_is_told_to_those_who_poll(tmp_path: Path) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as bob,
    ):
        await create(alice, "alice", "garden")
        await enter(bob, "bob", "garden")
        await send(alice, "alice", "garden", "gibberish to bob")
        await bob.say("get_new_messages", {"room_name": "garden", "last_message_id": -1})
        (message,) = (await bob.next("new_messages"))["messages"]
        # As the public client reports it: the message as it came, with some more.
        report = message | {"receiver": "bob", "room_name": "garden", "id": message["id"] + 1}
        await bob.say("decryption_error", report)
        await send(bob, "bob", "garden", "what?")
        await alice.say("get_new_messages", {"room_name": "garden", "last_message_id": 0})
        answer = await alice.next("new_messages")
        assert answer["errors"] == [{"id": 1, "username": "alice", "receiver": "bob"}]
        # Once the message after it has been seen, it is no news any more.
        await alice.say("get_new_messages", {"room_name": "garden", "last_message_id": 1})
        assert (await alice.next("new_messages"))["errors"] == []
        assert [event for event, _ in bob.heard if event == "error"] == []


@on_asyncio
async def test_encrypted_messages_pass_untouched(tmp_path: Path) -> None:
    texts = [
        "gAAAAABm+/9v==\n",
        "  white space  ",
        "<script>alert('hi')</script> ' OR 1=1; DROP TABLE messages; --",
        "\u202eright to left\u202c \U0001f980 e\u0301 \ufeff",
        "\u0000\u0001\u001f\u007f",
        "a" * 64 * 1024,
    ]
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        for text in texts:
            await send(client, "alice", "garden", text)
            assert (await client.next("new_message"))["message"] == text
        await client.say("get_all_messages", {"room_name": "garden"})
        history = await client.next("all_messages")
        assert [message["message"] for message in history] == texts


@on_asyncio
async def test_one_clients_messages_are_in_the_order_in_which_it_sent_them(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as client:
        await create(client, "alice", "garden")
        texts = [f"number {count}" for count in range(200)]
        for text in texts:
            data = {"username": "alice", "room_name": "garden", "message": text}
            await client.say("send_message", data)
        heard = [(await client.next("new_message"))["message"] for _ in texts]
        assert heard == texts


@on_asyncio
async def test_what_has_arrived_before_a_client_disconnects_is_not_lost(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as witness:
        await enter(witness, "witness", "public")
        async with connected(house.port) as client:
            await enter(client, "alice", "public")
            data = {"username": "alice", "room_name": "public", "message": "bye"}
            # It is acknowledged when it has come, before it is answered.
            await client.client.call("send_message", data)
        assert (await witness.next("new_message"))["message"] == "bye"


@on_asyncio
async def test_several_connections_may_have_the_same_name(tmp_path: Path) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as first,
        connected(house.port) as second,
    ):
        await enter(first, "alice", "public")
        await enter(second, "alice", "public")
        await send(second, "alice", "public", "again")
        assert (await first.next("new_message"))["username"] == "alice"
