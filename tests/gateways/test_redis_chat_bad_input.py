"""What is wrong gets an error of the document's shape, and the connection stays."""

from __future__ import annotations

from typing import Any

import pytest

from services.chat.messages import MAX_TEXT_BYTES
from services.gateways.redis_chat.codes import ErrorCode
from tests.gateways.hostile import NAUGHTY_TEXTS, NOT_JSON, NOT_OBJECTS, WRONG_TYPES
from tests.gateways.houses import Guest, RedisChatHouse

MIB = 1024 * 1024


def check(answer: Any, code: ErrorCode) -> None:
    assert answer["type"] == "error", answer
    assert answer.keys() == {"type", "error"}
    assert answer["error"].keys() == {"code", "message"}
    assert answer["error"]["code"] == code, answer
    assert 0 < len(answer["error"]["message"]) < 300


async def check_at_work(guest: Guest) -> None:
    assert (await guest.ask("users"))["type"] == "users"


@pytest.mark.parametrize("case", NOT_JSON)
async def test_what_is_no_json(redis_chat: RedisChatHouse, case: str) -> None:
    guest = await redis_chat.come_as("Ann")
    check(await guest.talker.ask_raw(NOT_JSON[case]), ErrorCode.NOT_JSON)
    await check_at_work(guest)


async def test_what_is_no_object(redis_chat: RedisChatHouse) -> None:
    guest = await redis_chat.come_as("Ann")
    for message in NOT_OBJECTS:
        check(await guest.talker.ask_raw(message), ErrorCode.NOT_JSON)
    await check_at_work(guest)


async def test_unknown_types(redis_chat: RedisChatHouse) -> None:
    guest = await redis_chat.come_as("Ann")
    for kind in ("", "explode", "SIGNIN", "ready", "error", "sys", "channelRead", "\ud800"):
        check(await guest.talker.ask(guest.request(kind)), ErrorCode.UNKNOWN_TYPE)
    for kind in WRONG_TYPES:
        check(await guest.talker.ask({"type": kind}), ErrorCode.UNKNOWN_TYPE)
    check(await guest.talker.ask({}), ErrorCode.BAD_REQUEST)
    check(await guest.talker.ask({"action": "users"}), ErrorCode.BAD_REQUEST)
    check(await guest.talker.ask({"type": "x" * MIB}), ErrorCode.UNKNOWN_TYPE)
    await check_at_work(guest)


RIGHT: dict[str, Any] = {
    "signIn": {"username": "Ann", "password": "a password"},
    "signUp": {"username": "Ben", "password": "a password"},
    "signOut": None,
    "users": None,
    "channelJoin": {"recipientUUID": ""},
    "channelMessage": {"recipientUUID": "", "message": "hello"},
    "channelMessages": {"recipientUUID": ""},
    "channelLeave": {"recipientUUID": "somebody"},
}
WITH_DATA = [kind for kind, data in RIGHT.items() if data is not None]
WITH_KEY = [kind for kind in RIGHT if kind not in {"signIn", "signUp"}]


@pytest.mark.parametrize("kind", WITH_KEY)
async def test_missing_and_wrong_keys(redis_chat: RedisChatHouse, kind: str) -> None:
    guest = await redis_chat.come_as("Ann")
    for name in ("userUUID", "userAccessKey"):
        request = guest.request(kind, RIGHT[kind])
        del request[name]
        check(await guest.talker.ask(request), ErrorCode.BAD_REQUEST)
        for value in (*WRONG_TYPES, 1, "\ud800", "x" * 5000):
            request = guest.request(kind, RIGHT[kind]) | {name: value}
            check(await guest.talker.ask(request), ErrorCode.BAD_REQUEST)
        for value in ("x", "\0", "' OR 1=1 --"):
            request = guest.request(kind, RIGHT[kind]) | {name: value}
            check(await guest.talker.ask(request), ErrorCode.NOT_SIGNED_IN)
    await check_at_work(guest)


@pytest.mark.parametrize("kind", WITH_DATA)
async def test_missing_and_wrong_data(redis_chat: RedisChatHouse, kind: str) -> None:
    guest = await redis_chat.come_as("Ann")
    check(await guest.ask(kind), ErrorCode.BAD_REQUEST)
    for data in (*(value for value in WRONG_TYPES if not isinstance(value, dict)), 1, "text"):
        check(await guest.talker.ask(guest.request(kind) | {kind: data}), ErrorCode.BAD_REQUEST)
    for name in ("username", "password", "message"):
        if name not in RIGHT[kind]:
            continue
        without = {key: value for key, value in RIGHT[kind].items() if key != name}
        check(await guest.ask(kind, without), ErrorCode.BAD_REQUEST)
        for value in (*WRONG_TYPES, 1):
            check(await guest.ask(kind, RIGHT[kind] | {name: value}), ErrorCode.BAD_REQUEST)
        check(await guest.ask(kind, RIGHT[kind] | {name: "a\ud800"}), ErrorCode.BAD_REQUEST)
    await check_at_work(guest)


async def test_the_longest_text_goes_through_and_a_longer_one_not(
    redis_chat: RedisChatHouse,
) -> None:
    guest = await redis_chat.come_as("Ann")
    await guest.join()
    for text in ("x" * MAX_TEXT_BYTES, "\u0001" * MAX_TEXT_BYTES, "\u05d0" * (MAX_TEXT_BYTES // 2)):
        assert (await guest.write(text))["message"] == text
    for text in ("x" * (MAX_TEXT_BYTES + 1), "\u05d0" * (MAX_TEXT_BYTES // 2 + 1), "x" * MIB):
        check(await guest.ask("channelMessage", {"message": text}), ErrorCode.TOO_LONG)
    await check_at_work(guest)


async def test_a_mebibyte_in_any_property(redis_chat: RedisChatHouse) -> None:
    guest = await redis_chat.come_as("Ann")
    large = "x" * MIB
    for kind, name in (
        ("signIn", "username"),
        ("signIn", "password"),
        ("signUp", "username"),
        ("channelJoin", "recipientUUID"),
    ):
        data = RIGHT[kind] | {name: large}
        check(await guest.ask(kind, data), ErrorCode.BAD_REQUEST)
    for name in ("userUUID", "userAccessKey"):
        request = guest.request("users") | {name: large}
        check(await guest.talker.ask(request), ErrorCode.BAD_REQUEST)
    for name in ("SUUID", "more"):
        request = guest.request("users") | {name: large}
        assert (await guest.talker.ask(request))["type"] == "users"


async def test_markup_and_sql_are_but_text(redis_chat: RedisChatHouse) -> None:
    for text in NAUGHTY_TEXTS:
        guest = await redis_chat.come_as(text, text)
        await guest.join()
        sent = await guest.write(text)
        assert (sent["Message"], sent["Sender"]["Username"]) == (text, text)
        assert text in {user["Username"] for user in (await guest.ask("users"))["users"]["users"]}


async def test_texts_of_any_characters(redis_chat: RedisChatHouse) -> None:
    guest = await redis_chat.come_as("Ann")
    for text in ("", " ", "\0", "\r\n", "\u202e", "\U0001f600"):
        assert (await guest.write(text))["message"] == text


async def test_a_bad_client_is_nobody_elses_business(redis_chat: RedisChatHouse) -> None:
    good, bad = await redis_chat.come_as("Ann"), await redis_chat.come_in()
    for message in NOT_JSON.values():
        await bad.say_raw(message)
    await check_at_work(good)
    for _ in NOT_JSON:
        check(await bad.hear(), ErrorCode.NOT_JSON)


def test_each_code_has_its_own_number_from_1() -> None:
    assert [int(code) for code in ErrorCode] == list(range(1, len(ErrorCode) + 1))
