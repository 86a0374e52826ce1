"""The chat service about users, names and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chat.messages import (
    ANONYMOUS_NAME,
    MAX_PASSWORD_LENGTH,
    MAX_USERNAME_LENGTH,
    ChatError,
    ChatEvent,
    JoinRoom,
    PresenceChanged,
)
from services.chat.model import User, UserKind
from tests.chat.chat_world import START, chat_world, person, refused

DAY_MS = 24 * 60 * 60 * 1000

BAD_NAMES = (
    "",
    "   ",
    " bob",
    "bob ",
    "bo\nb",
    "bo\0b",
    "bo\u202eb",
    "\u200b",
    "\u00ad\u2060",
    "x" * (MAX_USERNAME_LENGTH + 1),
    "x" * 100_000,
)


async def test_registering_makes_an_account_and_signs_in(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        registered = await gateway.chat.register("Bob", "a password")
        assert (registered.user.username, registered.user.kind) == ("Bob", UserKind.ACCOUNT)
        assert registered.user.created == START
        assert await gateway.hears(ChatEvent.USER_CREATED, User) == registered.user
        assert await gateway.chat.authenticate(registered.token) == registered.user
        assert registered.expires == START + 30 * DAY_MS


async def test_a_name_is_registered_once(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        await person(gateway, "Bob")
        for alike in ("Bob", "bob", "\uff22ob", "Bo\u200bb"):
            with refused(ChatError.NAME_TAKEN):
                await gateway.chat.register(alike, "another password")
        await gateway.hears_nothing()


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_bad_name_is_refused(name: str, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        with refused(ChatError.BAD_NAME):
            await gateway.chat.register(name, "a password")
        with refused(ChatError.BAD_NAME):
            await gateway.chat.claim_guest("s", name)


@pytest.mark.parametrize("name", ["Bob Smith", "Ольга", "美雪", "محمد", "👪", "O'Neil", "<b>"])
async def test_names_may_be_of_any_script(name: str, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        user = await person(gateway, name)
        assert await gateway.chat.user(username=name) == user


async def test_nobody_is_called_anonymous(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        for name in (ANONYMOUS_NAME, "anonymous", "ANONYM\u200bOUS"):
            with refused(ChatError.NAME_TAKEN):
                await gateway.chat.register(name, "a password")
            with refused(ChatError.NAME_TAKEN):
                await gateway.chat.claim_guest("s", name)


@pytest.mark.parametrize("password", ["", "x" * (MAX_PASSWORD_LENGTH + 1)])
async def test_a_bad_password_is_refused(password: str, tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        with refused(ChatError.BAD_PASSWORD):
            await gateway.chat.register("bob", password)


async def test_signing_in_takes_the_password(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        one = await gateway.chat.log_in("bob", "a password")
        other = await gateway.chat.log_in("BOB", "a password")
        assert one.user == other.user == bob
        assert one.token != other.token
        for name, password in (
            ("bob", "A password"),
            ("bob", ""),
            ("bob", "x" * 100_000),
            ("nobody", "a password"),
            ("", ""),
            ("bo\0b", "a password"),
        ):
            with refused(ChatError.WRONG_PASSWORD):
                await gateway.chat.log_in(name, password)


async def test_guests_have_no_password(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        await gateway.chat.claim_guest("s", "eve")
        with refused(ChatError.WRONG_PASSWORD):
            await gateway.chat.log_in("eve", "")


async def test_a_token_ends_in_time_and_by_signing_out(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway):
        one = await gateway.chat.register("bob", "a password")
        world.now += 1
        other = await gateway.chat.log_in("bob", "a password")
        third = await gateway.chat.log_in("bob", "a password")
        await gateway.chat.log_out(third.token)
        for bad in (third.token, "", "unknown", "\0", "x" * 100_000):
            with refused(ChatError.BAD_TOKEN):
                await gateway.chat.authenticate(bad)
            with refused(ChatError.BAD_TOKEN):
                await gateway.chat.log_out(bad)
        world.now = one.expires
        with refused(ChatError.BAD_TOKEN):
            await gateway.chat.authenticate(one.token)
        assert (await gateway.chat.authenticate(other.token)).username == "bob"


async def test_tokens_and_passwords_are_not_stored(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await gateway.chat.register("bob", "correct horse battery staple")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"bob" in stored
    assert b"correct horse" not in stored
    assert bob.token.encode() not in stored


async def test_a_user_is_found(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        bob = await person(gateway, "bob")
        assert await gateway.chat.user(id=bob.id) == bob
        assert await gateway.chat.user(uuid=bob.uuid) == bob
        assert await gateway.chat.user(username="BOB") == bob
        for query in ({"id": 77}, {"id": 2**80}, {"uuid": "x"}, {"username": "x\0"}, {}):
            with refused(ChatError.NO_USER):
                await gateway.chat.user(**query)


async def test_users_are_listed(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        users = [await person(gateway, f"user {number}") for number in range(3)]
        guest = await gateway.chat.claim_guest("s", "guest")
        await gateway.chat.claim_guest("t", None)
        page = await gateway.chat.users()
        assert (page.users, page.total) == ((*users, guest), 4)
        page = await gateway.chat.users(1, 1, accounts_only=True)
        assert (page.users, page.total) == ((users[1],), 3)
        for offset, limit in ((-5, 2**70), (0, 5000)):
            assert (await gateway.chat.users(offset, limit)).users == (*users, guest)
        for offset, limit in ((2**70, 5), (0, -1)):
            assert (await gateway.chat.users(offset, limit)).users == ()


async def test_a_guest_is_told_of_once(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        eve = await gateway.chat.claim_guest("s", "eve")
        assert eve.online
        assert (await gateway.hears(ChatEvent.USER_CREATED, User)).id == eve.id
        assert await gateway.chat.claim_guest("t", "EVE") == eve
        assert (await gateway.chat.claim_guest("u", None)).username == ANONYMOUS_NAME
        await gateway.hears_nothing()


async def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (world, gateway), world.gateway("another") as another:
        await person(gateway, "bob")
        await gateway.chat.claim_guest("s", "eve", exclusive=True)
        for name in ("bob", "eve"):
            for chat, session in ((gateway.chat, "t"), (another.chat, "s")):
                with refused(ChatError.NAME_TAKEN):
                    await chat.claim_guest(session, name)
        with refused(ChatError.NAME_TAKEN):
            await gateway.chat.register("eve", "a password")
        await gateway.chat.close_session("s")
        await another.chat.claim_guest("s", "eve", exclusive=True)


async def test_who_changes_the_name_in_a_room_is_told_of(tmp_path: Path) -> None:
    async with chat_world(tmp_path) as (_, gateway):
        eve = await gateway.chat.claim_guest("s", "eve")
        await gateway.chat.join(JoinRoom("s", eve.id, id=1))
        await gateway.hears(ChatEvent.USER_CREATED, User)
        await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
        mallory = await gateway.chat.claim_guest("s", "mallory")
        await gateway.hears(ChatEvent.USER_CREATED, User)
        left = await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
        assert (left.left, left.joined) == ((eve.id,), ())
        joined = await gateway.hears(ChatEvent.PRESENCE_CHANGED, PresenceChanged)
        assert (joined.left, joined.joined) == ((), (mallory.id,))
        assert joined.users == left.users == (mallory,)
