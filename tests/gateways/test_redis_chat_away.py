"""The chat or the broker away: an error at once, and clients go on when it is back."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateways.redis_chat.codes import ErrorCode
from tests.gateways.houses import Guest, RedisChatHouse


async def check_away(guest: Guest) -> None:
    for kind, data in (
        ("signIn", {"username": "Ann", "password": "a password"}),
        ("signUp", {"username": "Cat", "password": "a password"}),
        ("users", None),
        ("channelJoin", {"recipientUUID": ""}),
        ("channelMessage", {"message": "hello"}),
        ("channelMessages", {}),
        ("channelLeave", {"recipientUUID": "somebody"}),
        ("signOut", None),
    ):
        answer = await guest.ask(kind, data)
        assert answer == {
            "type": "error",
            "error": {
                "code": ErrorCode.AWAY,
                "message": "the chat is away at the moment; try again in a moment",
            },
        }


async def insist(guest: Guest, kind: str, data: Any) -> Any:
    """Ask until the chat is there again."""
    while (answer := await guest.ask(kind, data))["type"] == "error":
        assert answer["error"]["code"] == ErrorCode.AWAY
    return answer


async def check_as_before(ann: Guest, ben: Guest) -> None:
    """Both are in the public channel, and online."""
    await insist(ann, "channelMessage", {"message": "back?"})
    heard = await ben.talker.hear_until(lambda said: said["type"] == "channelMessage")
    assert heard["channelMessage"]["message"] == "back?"
    await insist(ben, "users", None)
    await ben.write("yes")
    heard = await ann.talker.hear_until(lambda said: said["type"] == "channelMessage")
    assert heard["channelMessage"]["message"] == "yes"
    users = (await ann.ask("users"))["users"]["users"]
    assert {user["Username"]: user["OnLine"] for user in users} == {"Ann": True, "Ben": True}


async def test_the_chat_comes_back(redis_chat: RedisChatHouse) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.join()
    await ben.join()
    await ann.hear()
    await redis_chat.world.stop_chat()
    await check_away(ann)
    await redis_chat.world.start_chat()
    await check_as_before(ann, ben)


@pytest.mark.parametrize("gently", [True, False])
async def test_the_broker_comes_back(redis_chat: RedisChatHouse, *, gently: bool) -> None:
    ann, ben = await redis_chat.come_as("Ann"), await redis_chat.come_as("Ben")
    await ann.join()
    await ben.join()
    await ann.hear()
    if gently:
        await redis_chat.world.mesh.stop_broker()
    else:
        redis_chat.world.mesh.kill_broker()
    await check_away(ann)
    await redis_chat.come_in()
    redis_chat.world.mesh.start_broker()
    await check_as_before(ann, ben)
