"""The chat service about messages, typing, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chat.messages import (
    MAX_TEXT_BYTES,
    ChatError,
    ChatEvent,
    JoinRoom,
    ListMessages,
    Posted,
    PresenceChanged,
    Statistics,
    Typing,
    Visits,
)
from services.chat.model import Message
from tests.chat.chat_world import START, chat_world, person, place, refused


async def test_a_message_is_stored_and_told(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.gateway("another") as another:
        bob = await person(gateway, "bob")
        message = await gateway.chat.post(1, bob.id, "hello\0 <b>")
        assert message == Message(1, 1, 0, bob.id, "bob", "hello\0 <b>", START)
        for ears in (gateway, another):
            posted = await ears.hears_until(ChatEvent.MESSAGE_POSTED, Posted)
            assert posted.message == message
            assert (posted.room.id, posted.room.name) == (1, "public")
        assert await another.chat.message(message.id) == message


async def test_a_message_that_is_posted_again_is_told_again_and_stored_once(
    tmp_path: Path,
) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        message = await gateway.chat.post(1, bob.id, "hello", "a key")
        assert await gateway.chat.post(1, bob.id, "hello", "a key") == message
        for _ in range(2):
            told = await gateway.hears(ChatEvent.MESSAGE_POSTED, Posted)
            assert told.message == message
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.post(1, eve.id, "hello", "a key")
        assert (await gateway.chat.messages(ListMessages())).total == 1


async def test_what_is_not_there_has_no_messages(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        for absent in (77, 0, -1, 2**80):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.post(absent, bob.id, "hello")
            with refused(ChatError.NO_USER):
                await gateway.chat.post(1, absent, "hello")
            with refused(ChatError.NO_ROOM):
                await gateway.chat.messages(ListMessages(room_id=absent))
            with refused(ChatError.NO_MESSAGE):
                await gateway.chat.message(absent)
        await gateway.hears_nothing()


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT_BYTES + 1), "é" * (MAX_TEXT_BYTES // 2 + 1)])
async def test_a_long_text_is_refused(text: str, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        with refused(ChatError.TEXT_TOO_LONG):
            await gateway.chat.post(1, bob.id, text)
        await gateway.hears_nothing()


@pytest.mark.parametrize("text", ["", "x" * MAX_TEXT_BYTES, "\0" * MAX_TEXT_BYTES])
async def test_a_text_of_any_length_below_is_kept(text: str, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        for _ in range(3):
            await gateway.chat.post(1, bob.id, text)
            told = await gateway.hears(ChatEvent.MESSAGE_POSTED, Posted)
            assert told.message.text == text
        found: list[Message] = []
        while len(found) < 3:
            page = await gateway.chat.messages(ListMessages(room_id=1, after=len(found) - 1))
            assert page.messages
            found += page.messages
        assert [(message.number, message.text) for message in found] == [
            (number, text) for number in range(3)
        ]


async def test_a_protected_room_is_for_those_in_it(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        room = await place(gateway, "games", bob, "a password")
        await gateway.chat.join(JoinRoom("s", bob.id, id=room.id, password="a password"))
        message = await gateway.chat.post(room.id, bob.id, "hello")
        assert await gateway.chat.message(message.id, bob.id) == message
        for other in (eve.id, None):
            with refused(ChatError.NO_MESSAGE):
                await gateway.chat.message(message.id, other)
            with refused(ChatError.NOT_IN_ROOM):
                await gateway.chat.messages(ListMessages(room.id, other))
        with refused(ChatError.NOT_IN_ROOM):
            await gateway.chat.post(room.id, eve.id, "hello")
        page = await gateway.chat.messages(ListMessages(room.id, trusted=True))
        assert page.messages == (message,)
        # Not among those of all public rooms.
        assert (await gateway.chat.messages(ListMessages())).total == 0
        await gateway.chat.leave("s", room.id)
        with refused(ChatError.NOT_IN_ROOM):
            await gateway.chat.post(room.id, bob.id, "hello")


async def test_a_private_room_is_for_its_participants(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve, mallory = [await person(gateway, name) for name in ("bob", "eve", "mallory")]
        room = await gateway.chat.private_room(bob.id, eve.id)
        # They need not have come in.
        message = await gateway.chat.post(room.id, bob.id, "hello")
        told = await gateway.hears_until(ChatEvent.MESSAGE_POSTED, Posted)
        assert told.room.participants == (bob.id, eve.id)
        assert (await gateway.chat.messages(ListMessages(room.id, eve.id))).messages == (message,)
        for other in (mallory.id, None):
            with refused(ChatError.NO_MESSAGE):
                await gateway.chat.message(message.id, other)
            with refused(ChatError.NOT_ALLOWED):
                await gateway.chat.messages(ListMessages(room.id, other))
        with refused(ChatError.NOT_ALLOWED):
            await gateway.chat.post(room.id, mallory.id, "hello")
        assert (await gateway.chat.messages(ListMessages())).total == 0


async def test_messages_are_asked_for_by_pages(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob, eve = await person(gateway, "bob"), await person(gateway, "eve")
        for number in range(6):
            await gateway.chat.post(1, (bob, eve)[number % 2].id, str(number))

        async def find(which: ListMessages) -> tuple[str, int]:
            page = await gateway.chat.messages(which)
            return "".join(message.text for message in page.messages), page.total

        assert await find(ListMessages(1)) == ("012345", 6)
        assert await find(ListMessages(1, after=3)) == ("45", 2)
        assert await find(ListMessages(1, after=-99)) == ("012345", 6)
        assert await find(ListMessages(1, after=2**80)) == ("", 0)
        assert await find(ListMessages(1, newest_first=True, offset=1, limit=2)) == ("43", 6)
        assert await find(ListMessages(user_id=eve.id)) == ("135", 3)
        # A number is one of a room.
        assert await find(ListMessages(after=3)) == ("012345", 6)
        assert await find(ListMessages(1, offset=-1, limit=2**80)) == ("012345", 6)
        assert await find(ListMessages(1, offset=2**80, limit=-1)) == ("", 6)


async def test_typing_is_told(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        with refused(ChatError.NOT_IN_ROOM):
            await gateway.chat.typing(1, bob.id, started=True)
        for absent in (77, 2**80):
            with refused(ChatError.NO_ROOM):
                await gateway.chat.typing(absent, bob.id, started=True)
        await gateway.chat.join(JoinRoom("s", bob.id, id=1))
        await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
        await gateway.chat.typing(1, bob.id, started=True)
        await gateway.chat.typing(1, bob.id, started=False)
        assert await gateway.hears(ChatEvent.TYPING_STARTED, Typing) == Typing(1, bob.id, True)
        assert await gateway.hears(ChatEvent.TYPING_STOPPED, Typing) == Typing(1, bob.id, False)


async def test_visits_are_counted_by_the_day(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway):
        assert await gateway.chat.visit() == Visits(1, 1)
        assert await gateway.chat.visit() == Visits(2, 2)
        world.now += 24 * 60 * 60 * 1000
        assert (await gateway.chat.statistics()).visits == Visits(0, 2)
        assert await gateway.chat.visit() == Visits(1, 3)


async def test_everything_is_counted(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        await gateway.chat.claim_guest("s", "eve")
        await gateway.chat.post(1, bob.id, "hello")
        assert await gateway.chat.statistics() == Statistics(
            users=2, accounts=1, online=1, rooms=1, messages=1, visits=Visits(0, 0)
        )
