"""What each action of the rooms does."""

from __future__ import annotations

from typing import Any

from services.chat.messages import CreateRoom, ListRooms
from tests.gateways.houses import RoomsHouse
from tests.gateways.talkers import Talker


async def ask(client: Talker, action: str, **properties: Any) -> str:
    """Return the message of the answer."""
    request = {"action": action, **properties}
    answer = await client.ask(request)
    assert answer["action"] == ("RESPONSE" if answer["message"] == "OK" else "ERROR")
    assert answer["request"] == request
    message: str = answer["message"]
    return message


async def room_names(rooms: RoomsHouse) -> set[str]:
    return {room.name for room in (await rooms.world.chat.rooms(ListRooms())).rooms}


async def test_a_message_goes_to_all_in_the_room_and_to_nobody_else(rooms: RoomsHouse) -> None:
    alice, bob = await rooms.come_as("Alice", "a"), await rooms.come_as("Bob", "a", "b")
    eve = await rooms.come_as("Eve", "b")
    assert await ask(alice, "SEND MESSAGE", room_id="a", text="for a") == "OK"
    expected = {"action": "GET MESSAGE", "room_id": "a", "author": "Alice", "text": "for a"}
    assert await bob.hear() == expected
    assert await alice.hear() == expected
    await ask(bob, "SEND MESSAGE", room_id="b", text="for b")
    assert (await eve.hear())["text"] == "for b"


async def test_the_answer_comes_before_the_senders_own_message(rooms: RoomsHouse) -> None:
    alice = await rooms.come_as("Alice", "a")
    for number in range(50):
        request = {"action": "SEND MESSAGE", "room_id": "a", "text": str(number)}
        assert (await alice.ask(request))["action"] == "RESPONSE"
        assert (await alice.hear())["text"] == str(number)


async def test_all_see_the_same_order(rooms: RoomsHouse) -> None:
    clients = [await rooms.come_as(f"user {number}", "a") for number in range(4)]
    for number in range(10):
        for client in clients:
            await client.say({"action": "SEND MESSAGE", "room_id": "a", "text": str(number)})
    seen = []
    for client in clients:
        heard: list[tuple[str, str]] = []
        while len(heard) < 40:
            message = await client.hear()
            if message["action"] == "GET MESSAGE":
                heard.append((message["author"], message["text"]))
        seen.append(heard)
    assert len(set(seen[0])) == 40
    assert all(heard == seen[0] for heard in seen)


async def test_nobody_has_a_nickname_at_first(rooms: RoomsHouse) -> None:
    first, second = await rooms.come(), await rooms.come()
    for client in (first, second):
        await ask(client, "JOIN ROOM", room_id="a")
    await ask(first, "SEND MESSAGE", room_id="a", text="who am I?")
    assert (await second.hear())["author"] == "Anonymous"


async def test_a_nickname_is_free_again_when_its_client_has_gone(rooms: RoomsHouse) -> None:
    first, second = await rooms.come_as("Bob"), await rooms.come_as("Bobby")
    assert await ask(second, "LOGIN NICK", nickname="Bob") == "Nickname already in use"
    await first.close()
    while (said := await ask(second, "LOGIN NICK", nickname="Bob")) != "OK":
        assert said == "Nickname already in use"


async def test_a_nickname_is_free_again_when_its_client_has_another(rooms: RoomsHouse) -> None:
    first, second = await rooms.come_as("Bob"), await rooms.come()
    assert await ask(first, "LOGIN NICK", nickname="Robert") == "OK"
    assert await ask(second, "LOGIN NICK", nickname="Bob") == "OK"


async def test_ones_own_nickname_once_more_is_no_error(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Bob")
    assert await ask(client, "LOGIN NICK", nickname="Bob") == "OK"


async def test_nicknames_that_look_alike_are_the_same(rooms: RoomsHouse) -> None:
    await rooms.come_as("Bob")
    client = await rooms.come()
    assert await ask(client, "LOGIN NICK", nickname="BOB") == "Nickname already in use"


async def test_the_name_of_an_account_is_nobodys_nickname(rooms: RoomsHouse) -> None:
    await rooms.world.chat.register("Alice", "a password")
    client = await rooms.come()
    assert await ask(client, "LOGIN NICK", nickname="Alice") == "Nickname already in use"
    assert await ask(client, "LOGIN NICK", nickname="Anonymous") == "Nickname already in use"


async def test_a_client_stays_in_its_rooms_under_a_new_nickname(rooms: RoomsHouse) -> None:
    client, other = await rooms.come_as("Bob", "a"), await rooms.come_as("Alice", "a")
    assert await ask(client, "LOGIN NICK", nickname="Robert") == "OK"
    assert await ask(client, "SEND MESSAGE", room_id="a", text="me again") == "OK"
    assert (await other.hear())["author"] == "Robert"
    assert (await client.hear())["author"] == "Robert"


async def test_whoever_was_anonymous_stays_in_the_rooms_with_a_nickname(rooms: RoomsHouse) -> None:
    client, other = await rooms.come(), await rooms.come_as("Alice", "a")
    await ask(client, "JOIN ROOM", room_id="a")
    await ask(client, "LOGIN NICK", nickname="Bob")
    await ask(other, "SEND MESSAGE", room_id="a", text="hello Bob")
    assert (await client.hear())["text"] == "hello Bob"


async def test_1_and_the_string_1_are_two_rooms(rooms: RoomsHouse) -> None:
    by_number, by_text = await rooms.come_as("Ann", 1), await rooms.come_as("Ben", "1")
    both = await rooms.come_as("Cat", 1, "1")
    await ask(both, "SEND MESSAGE", room_id=1, text="number")
    assert (await both.hear())["room_id"] == 1
    await ask(both, "SEND MESSAGE", room_id="1", text="text")
    assert (await both.hear())["room_id"] == "1"
    assert await by_number.hear() == {
        "action": "GET MESSAGE",
        "room_id": 1,
        "author": "Cat",
        "text": "number",
    }
    assert (await by_text.hear())["text"] == "text"


async def test_who_has_left_hears_no_more(rooms: RoomsHouse) -> None:
    alice, bob = await rooms.come_as("Alice", "a", "b"), await rooms.come_as("Bob", "a", "b")
    assert await ask(bob, "LEFT ROOM", room_id="a") == "OK"
    await ask(alice, "SEND MESSAGE", room_id="a", text="is Bob there?")
    await ask_and_skip(alice, room_id="b", text="Bob?")
    assert (await bob.hear())["text"] == "Bob?"


async def ask_and_skip(client: Talker, **properties: Any) -> None:
    """Send a message; drop what is heard before the answer."""
    await client.say({"action": "SEND MESSAGE", **properties})
    await client.hear_until(lambda message: message["action"] == "RESPONSE")


async def test_a_room_has_to_be_joined_to_write_in_it(rooms: RoomsHouse) -> None:
    await rooms.come_as("Alice", "a")
    client = await rooms.come_as("Bob")
    for room_id in ("a", "nowhere"):
        said = await ask(client, "SEND MESSAGE", room_id=room_id, text="hello")
        assert said == "You are not in this room: join it first"
        said = await ask(client, "LEFT ROOM", room_id=room_id)
        assert said == "You are not in this room: join it first"


async def test_joining_twice_is_an_error_and_changes_nothing(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice", "a")
    assert await ask(client, "JOIN ROOM", room_id="a") == "You are in this room already"
    await ask(client, "SEND MESSAGE", room_id="a", text="once")
    assert (await client.hear())["text"] == "once"
    assert await ask(client, "LEFT ROOM", room_id="a") == "OK"


async def test_an_empty_room_goes_away(rooms: RoomsHouse) -> None:
    alice, bob = await rooms.come_as("Alice", "a"), await rooms.come_as("Bob", "a")
    await ask(alice, "LEFT ROOM", room_id="a")
    assert "a" in await room_names(rooms)
    await ask(bob, "LEFT ROOM", room_id="a")
    assert "a" not in await room_names(rooms)


async def test_a_room_goes_away_with_the_last_connection(rooms: RoomsHouse) -> None:
    alice = await rooms.come_as("Alice", "a")
    await alice.close()
    while "a" in await room_names(rooms):
        pass


async def test_nothing_is_kept_for_who_has_gone(rooms: RoomsHouse) -> None:
    alice = await rooms.come_as("Alice", "public")
    bob = await rooms.come_as("Bob", "public")
    assert rooms.followers() == 2
    await alice.close()
    while rooms.server.connections > 1:
        await ask(bob, "LOGIN NICK", nickname="Bob")
    assert rooms.followers() == 1


async def test_a_room_of_others_stays_when_it_is_empty(rooms: RoomsHouse) -> None:
    await rooms.world.chat.create_room(CreateRoom("theirs"))
    client = await rooms.come_as("Alice", "theirs", "public")
    for room_id in ("theirs", "public"):
        assert await ask(client, "LEFT ROOM", room_id=room_id) == "OK"
    assert {"theirs", "public"} <= await room_names(rooms)


async def test_a_room_with_a_password_stays_closed(rooms: RoomsHouse) -> None:
    await rooms.world.chat.create_room(CreateRoom("locked", password="a password"))
    client = await rooms.come_as("Alice")
    said = await ask(client, "JOIN ROOM", room_id="locked")
    assert said == "The room has a password, for which there is no place here"


async def test_a_private_room_of_others_stays_closed(rooms: RoomsHouse) -> None:
    chat = rooms.world.chat
    one, other = await chat.register("one", "a password"), await chat.register("other", "another")
    private = await chat.private_room(one.user.id, other.user.id)
    client = await rooms.come_as("Alice")
    assert await ask(client, "JOIN ROOM", room_id=private.name) == "There is no such room"


async def test_messages_from_elsewhere_come_too(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice", "public")
    entered = await rooms.world.chat.register("Kim", "a password")
    room = await rooms.world.chat.room(name="public")
    await rooms.world.chat.post(room.id, entered.user.id, "from afar")
    assert await client.hear() == {
        "action": "GET MESSAGE",
        "room_id": "public",
        "author": "Kim",
        "text": "from afar",
    }


async def test_nothing_of_before_comes_on_joining(rooms: RoomsHouse) -> None:
    alice = await rooms.come_as("Alice", "a")
    await ask(alice, "SEND MESSAGE", room_id="a", text="early")
    bob = await rooms.come_as("Bob", "a")
    await ask_and_skip(alice, room_id="a", text="late")
    assert (await bob.hear())["text"] == "late"


async def test_a_text_comes_as_it_was_sent(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice", "a")
    for text in ("", " ", "<b>'; DROP TABLE users; --</b>", "\u0000", "\U0001f600 \u05d0", "\r\n"):
        assert await ask(client, "SEND MESSAGE", room_id="a", text=text) == "OK"
        assert (await client.hear())["text"] == text


async def test_room_names_in_any_script(rooms: RoomsHouse) -> None:
    client = await rooms.come_as("Alice")
    for room_id in (
        "Обсуждение",
        "会議",
        "غرفة",
        "'; DROP TABLE rooms; --",
        "<b>",
        "#1",
        "##1",
        -5,
    ):
        assert await ask(client, "JOIN ROOM", room_id=room_id) == "OK"
        assert await ask(client, "SEND MESSAGE", room_id=room_id, text="hello") == "OK"
        assert (await client.hear())["room_id"] == room_id


async def test_a_removed_room_can_be_joined_anew(rooms: RoomsHouse) -> None:
    chat = rooms.world.chat
    owner = (await chat.register("owner", "a password")).user
    room = await chat.create_room(CreateRoom("theirs", creator_id=owner.id))
    client = await rooms.come_as("Alice", "theirs", "public")
    await chat.remove_room(room.id, owner.id)
    # The removal and this message come to the gateway in this order.
    public = await chat.room(name="public")
    await chat.post(public.id, owner.id, "it is gone")
    await client.hear()
    said = await ask(client, "SEND MESSAGE", room_id="theirs", text="hello")
    assert said == "You are not in this room: join it first"
    assert await ask(client, "JOIN ROOM", room_id="theirs") == "OK"
