"""Signing in, up and out; keys; the list of users."""

from __future__ import annotations

from typing import Any

from services.gateways.redis_chat.codes import ErrorCode
from tests.gateways.houses import Guest, RedisChatHouse
from tests.gateways.talkers import Talker


def sign(kind: str, username: str, password: str = "a password") -> dict[str, Any]:
    return {"type": kind, kind: {"username": username, "password": password}}


def code(answer: Any) -> ErrorCode:
    assert answer.keys() == {"type", "error"}, answer
    assert answer["error"].keys() == {"code", "message"}
    return ErrorCode(answer["error"]["code"])


async def users(guest: Guest) -> dict[str, bool]:
    """Who there is, and who of them is online."""
    answer = await guest.ask("users")
    assert answer["users"]["total"] == answer["users"]["received"] == len(answer["users"]["users"])
    return {user["Username"]: user["OnLine"] for user in answer["users"]["users"]}


async def check_in(client: Talker, request: Any) -> dict[str, str]:
    answer = await client.ask(request)
    assert answer["type"] == "authorized", answer
    assert (await client.hear())["type"] == "sys"
    authorized: dict[str, str] = answer["authorized"]
    return authorized


async def test_sign_in_makes_a_user_once(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come_in()
    first = await check_in(client, sign("signIn", "Ann"))
    again = await check_in(client, sign("signIn", "Ann"))
    assert first["userUUID"] == again["userUUID"]
    assert first["accessKey"] != again["accessKey"]


async def test_the_wrong_password_is_refused_and_makes_nobody(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    client = await redis_chat.come_in()
    for request in (sign("signIn", "Ann", "wrong"), sign("signIn", "ANN", "wrong")):
        assert code(await client.ask(request)) is ErrorCode.WRONG_PASSWORD
    assert await users(ann) == {"Ann": True}


async def test_sign_up_makes_a_user_and_a_second_time_not(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come_in()
    await check_in(client, sign("signUp", "Ann"))
    for request in (sign("signUp", "Ann"), sign("signUp", "Ann", "other"), sign("signUp", "ann")):
        assert code(await client.ask(request)) is ErrorCode.NAME_TAKEN
    await check_in(client, sign("signIn", "Ann"))


async def test_the_name_of_a_guest_who_is_there_is_not_to_be_had(
    redis_chat: RedisChatHouse,
) -> None:
    await redis_chat.world.chat.claim_guest("somebody's session", "Guest", exclusive=True)
    client = await redis_chat.come_in()
    for kind in ("signIn", "signUp"):
        assert code(await client.ask(sign(kind, "Guest"))) is ErrorCode.NAME_TAKEN


async def test_names_and_passwords_that_cannot_be_any(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come_in()
    for kind in ("signIn", "signUp"):
        for name in ("", " ", " Ann", "Ann\n", "\0", "A" * 65):
            assert code(await client.ask(sign(kind, name))) is ErrorCode.BAD_NAME
        for password in ("", "p" * 257):
            answer = await client.ask(sign(kind, "Ann", password))
            assert code(answer) is ErrorCode.BAD_PASSWORD
    assert code(await client.ask(sign("signUp", "Anonymous"))) is ErrorCode.NAME_TAKEN


async def test_sys_tells_who_has_signed_in_to_them_alone(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    await ann.join()
    client = await redis_chat.come_in()
    authorized = await client.ask(sign("signIn", "Ben"))
    assert await client.hear() == {
        "type": "sys",
        "sys": {
            "type": "signIn",
            "signIn": {"uuid": authorized["authorized"]["userUUID"], "username": "Ben"},
        },
    }
    # Ann hears of what she asks for, and nothing else.
    assert (await ann.ask("users"))["type"] == "users"


async def test_passwords_are_never_sent(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come_in()
    said: list[str] = []
    await client.say(sign("signUp", "Ann", "the-secret"))
    said += [await client.hear_raw(), await client.hear_raw()]
    for request in (
        {"type": "users", "userUUID": "", "accessKey": ""},
        {"type": "channelJoin", "userUUID": "", "accessKey": "", "channelJoin": {}},
    ):
        await client.say(request)
        said.append(await client.hear_raw())
    assert not [text for text in said if "assword" in text or "the-secret" in text]


async def test_users_are_online_while_they_are_signed_in(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    assert await users(ann) == {"Ann": True, "Ben": True}
    assert (await ben.ask("signOut"))["type"] == "unauthorized"
    assert await users(ann) == {"Ann": True, "Ben": False}
    await check_in(ben.talker, sign("signIn", "Ben"))
    assert await users(ann) == {"Ann": True, "Ben": True}
    await ben.talker.close()
    while (await users(ann))["Ben"]:
        pass


async def test_users_of_other_systems_with_an_account_are_listed(
    redis_chat: RedisChatHouse,
) -> None:
    await redis_chat.world.chat.register("Kim", "a password")
    await redis_chat.world.chat.claim_guest("somebody's session", "Guest")
    assert await users(await redis_chat.come_as("Ann")) == {"Kim": False, "Ann": True}


async def test_more_users_than_a_page_of_the_mesh_has(
    redis_chat: RedisChatHouse, monkeypatch: Any
) -> None:
    monkeypatch.setattr("services.gateways.redis_chat.gateway.MAX_PAGE", 2)
    for number in range(4):
        await redis_chat.world.chat.register(f"user {number}", "a password")
    assert len(await users(await redis_chat.come_as("Ann"))) == 5


async def test_a_key_has_to_be_the_users(redis_chat: RedisChatHouse) -> None:
    ann, eve = await redis_chat.come_as("Ann"), await redis_chat.come_as("Eve")
    stranger = await redis_chat.come_in()
    for client in (eve.talker, stranger):
        for uuid, key in (
            (ann.uuid, eve.key),
            (eve.uuid, ann.key),
            (ann.uuid, "made up"),
            (ann.uuid, ""),
            ("", eve.key),
            ("nobody", "nothing"),
        ):
            for kind in ("users", "channelJoin", "channelMessage", "signOut"):
                data = {"recipientUUID": "", "message": "it was Ann"}
                request = {"type": kind, "userUUID": uuid, "userAccessKey": key, kind: data}
                assert code(await client.ask(request)) is ErrorCode.NOT_SIGNED_IN
    assert (await ann.ask("users"))["type"] == "users"


async def test_a_connection_is_one_users(redis_chat: RedisChatHouse) -> None:
    ann, eve = await redis_chat.come_as("Ann"), await redis_chat.come_as("Eve")
    request = eve.request("users", userUUID=ann.uuid, userAccessKey=ann.key)
    assert code(await eve.talker.ask(request)) is ErrorCode.NOT_SIGNED_IN


async def test_a_key_is_good_on_another_connection(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    await ann.talker.close()
    back = Guest(await redis_chat.come_in(), "Ann", {"userUUID": ann.uuid, "accessKey": ann.key})
    await back.join()
    assert (await back.write("I am back"))["Sender"]["Username"] == "Ann"
    assert await users(back) == {"Ann": True}


async def test_the_key_may_be_called_access_key(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    request = {"SSUID": "", "type": "users", "userUUID": ann.uuid, "accessKey": ann.key}
    assert (await ann.talker.ask(request))["type"] == "users"


async def test_who_has_just_signed_in_may_ask_before_having_the_key(
    redis_chat: RedisChatHouse,
) -> None:
    # As the public browser client does, with what its storage has at first: nothing.
    client = await redis_chat.come_in()
    await client.say(sign("signIn", "Ann"))
    await client.say({"SSUID": "", "type": "users", "userUUID": "", "accessKey": ""})
    await client.say(
        {
            "SUUID": "",
            "type": "channelJoin",
            "userUUID": "",
            "accessKey": "",
            "channelJoin": {"recipientUUID": ""},
        }
    )
    heard = [(await client.hear())["type"] for _ in range(5)]
    assert heard == ["authorized", "sys", "users", "channelJoin", "sys"]
    stranger = await redis_chat.come_in()
    request = {"type": "users", "userUUID": "", "accessKey": ""}
    assert code(await stranger.ask(request)) is ErrorCode.NOT_SIGNED_IN


async def test_sign_out_ends_the_key_everywhere(redis_chat: RedisChatHouse) -> None:
    ann = await redis_chat.come_as("Ann")
    tab = Guest(await redis_chat.come_in(), "Ann", {"userUUID": ann.uuid, "accessKey": ann.key})
    await tab.join()
    other_device = await redis_chat.come_as("Ann")
    assert (await ann.ask("signOut"))["type"] == "unauthorized"
    for guest in (ann, tab):
        assert code(await guest.ask("users")) is ErrorCode.NOT_SIGNED_IN
        nothing = guest.request("users", userUUID="", userAccessKey="")
        assert code(await guest.talker.ask(nothing)) is ErrorCode.NOT_SIGNED_IN
    await other_device.join()
    await other_device.write("still here")
    # And does not come to the tab, which has nobody behind it any more.
    assert code(await tab.ask("users")) is ErrorCode.NOT_SIGNED_IN


async def test_a_key_that_has_ended_elsewhere_is_good_for_nothing(
    redis_chat: RedisChatHouse,
) -> None:
    ann = await redis_chat.come_as("Ann")
    await redis_chat.world.chat.log_out(ann.key)
    assert code(await ann.ask("users")) is ErrorCode.NOT_SIGNED_IN
    nothing = ann.request("users", userUUID="", userAccessKey="")
    assert code(await ann.talker.ask(nothing)) is ErrorCode.NOT_SIGNED_IN


async def test_another_user_on_the_same_connection_leaves_the_firsts_channels(
    redis_chat: RedisChatHouse,
) -> None:
    ann = await redis_chat.come_as("Ann")
    await ann.join()
    writer = await redis_chat.come_as("Writer")
    authorized = await check_in(ann.talker, sign("signIn", "Ben"))
    await writer.write("who hears that?")
    ben = Guest(ann.talker, "Ben", authorized)
    assert await users(ben) == {"Ann": False, "Writer": True, "Ben": True}
