"""The examples of the document of the Redis chat, word for word.

The document has some of them without a quotation mark or a comma, which stand here where they
belong. What is a placeholder in it ("User UUID") is the real thing here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateways.houses import Guest, RedisChatHouse


def has_shape(example: Any, got: Any) -> bool:
    """Whether all that the example has is there; there may be more."""
    if isinstance(example, dict):
        return isinstance(got, dict) and all(
            name in got and has_shape(value, got[name]) for name, value in example.items()
        )
    if isinstance(example, list):
        return isinstance(got, list) and all(has_shape(example[0], one) for one in got)
    return type(example) is type(got)


async def test_ready_as_documented(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come()
    got = await client.hear()
    assert has_shape(
        {
            "type": "ready",
            "ready": {
                "sessionUUID": "Session UUID"
            }
        },
        got,
    )  # fmt: skip
    assert got.keys() == {"type", "ready"}
    assert got["type"] == "ready"


async def test_error_as_documented(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come_in()
    got = await client.ask_raw("this is no JSON")
    assert has_shape(
        {
            "type": "error",
            "error": {
                "code": 1,
                "message": "Error message"
            }
        },
        got,
    )  # fmt: skip
    assert got["type"] == "error"
    assert got["error"]["code"] == 1


@pytest.mark.parametrize("spelling", ["signId", "signIn"])
async def test_sign_in_as_documented(redis_chat: RedisChatHouse, spelling: str) -> None:
    client = await redis_chat.come()
    session_uuid = (await client.hear())["ready"]["sessionUUID"]
    got = await client.ask(
        {
            "SUUID": session_uuid,
            "type": "signIn",
            spelling: {
                "username": "User name",
                "password": "User password"
            }
        }
    )  # fmt: skip
    assert got["type"] == "authorized"
    assert has_shape(
        {
            "type": "authorized",
            "authorized": {
                "userUUID": "user UUID",
                "accessKey": "User Access Key"
            }
        },
        got,
    )  # fmt: skip


async def test_sign_up_as_documented(redis_chat: RedisChatHouse) -> None:
    client = await redis_chat.come()
    session_uuid = (await client.hear())["ready"]["sessionUUID"]
    got = await client.ask(
        {
            "SUUID": session_uuid,
            "type": "signUp",
            "signUp": {
                "username": "User name",
                "password": "User password"
            }
        }
    )  # fmt: skip
    # The document has the number 1 here for the user's UUID, which is a string everywhere else.
    assert got["type"] == "authorized"
    assert got["authorized"].keys() == {"userUUID", "accessKey"}
    assert all(isinstance(value, str) for value in got["authorized"].values())


async def test_sign_out_as_documented(redis_chat: RedisChatHouse) -> None:
    user = await redis_chat.come_as("User name")
    got = await user.talker.ask(
        {
            "SUUID": "",
            "type": "signOut",
            "userUUID": user.uuid,
            "userAccessKey": user.key
        }
    )  # fmt: skip
    assert got == {
        "type": "unauthorized",
        "unauthorized": {
            "userUUID": user.uuid
        }
    }  # fmt: skip


async def test_users_as_documented(redis_chat: RedisChatHouse) -> None:
    user = await redis_chat.come_as("Username")
    got = await user.talker.ask(
        {
            "SUUID": "",
            "type": "users",
            "userUUID": user.uuid,
            "userAccessKey": user.key
        }
    )  # fmt: skip
    assert got == {
        "type": "users",
        "users": {
            "total": 1,
            "received": 1,
            "users": [
                {
                    "UUID": user.uuid,
                    "Username": "Username",
                    # In place of the document's "Password", the browser client's other spelling.
                    "username": "Username",
                    "OnLine": True
                }
            ]
        }
    }  # fmt: skip


async def both(redis_chat: RedisChatHouse) -> tuple[Guest, Guest]:
    return await redis_chat.come_as("username"), await redis_chat.come_as("another")


async def test_channel_join_as_documented(redis_chat: RedisChatHouse) -> None:
    user, other = await both(redis_chat)
    await other.write("text", user.uuid)
    got = await user.talker.ask(
        {
            "SUUID": "",
            "userUUID": user.uuid,
            "userAccessKey": user.key,
            "type": "channelJoin",
            "channelJoin": {
                "recipientUUID": other.uuid
            }
        }
    )  # fmt: skip
    assert got["type"] == "channelJoin"
    assert len(got["channelJoin"]["messages"]) == len(got["channelJoin"]["users"]) == 1
    assert has_shape(
        {
            "type": "channelJoin",
            "channelJoin": {
                "messages": [
                    {
                        "UUID": "Message UUID",
                        "senderUUID": "User UUID",
                        "recipientUUID": "User UUID",
                        "message": "text",
                        "created_at": "time"
                    }
                ],
                "users": [
                    {
                        "UUID": "User UUID",
                        "username": "username"
                    }
                ]
            }
        },
        got,
    )  # fmt: skip


async def test_channel_message_as_documented(redis_chat: RedisChatHouse) -> None:
    user, other = await both(redis_chat)
    got = await user.talker.ask(
        {
            "SUUID": "",
            "userUUID": user.uuid,
            "userAccessKey": user.key,
            "type": "channelMessage",
            "channelMessage": {
                "recipientUUID": other.uuid,
                "message": "Message text"
            }
        }
    )  # fmt: skip
    assert got["type"] == "channelMessage"
    expected = {
        "UUID": got["channelMessage"]["UUID"],
        "senderUUID": user.uuid,
        "recipientUUID": other.uuid,
        "message": "Message text"
    }  # fmt: skip
    assert expected.items() <= got["channelMessage"].items()


async def test_channel_messages_as_documented(redis_chat: RedisChatHouse) -> None:
    user, other = await both(redis_chat)
    await user.write("newer by one than what is left out", other.uuid)
    await user.write("newest", other.uuid)
    got = await user.talker.ask(
        {
            "SUUID": "",
            "userUUID": user.uuid,
            "userAccessKey": user.key,
            "type": "channelMessages",
            "channelMessages": {
                "recipientUUID": other.uuid,
                "offset": 1,
                "limit": 1
            }
        }
    )  # fmt: skip
    assert got["type"] == "channelRead"
    assert has_shape(
        {
            "type": "channelRead",
            "channelMessages": {
                "messagesTotal": 1,
                "messagesReceived": 1,
                "messages": [
                    {
                        "senderUUID": "User UUID",
                        "recipientUUID": "User UUID",
                        "message": "Message text",
                        "createdAt": "created time"
                    }
                ]
            }
        },
        got,
    )  # fmt: skip
    [message] = got["channelMessages"]["messages"]
    assert message["message"] == "newer by one than what is left out"


async def test_channel_leave_as_documented(redis_chat: RedisChatHouse) -> None:
    user, other = await both(redis_chat)
    await user.join(other.uuid)
    got = await user.talker.ask(
        {
            "SUUID": "",
            "userUUID": user.uuid,
            "userAccessKey": user.key,
            "type": "channelLeave",
            "channelLeave": {
                "recipientUUID": other.uuid
            }
        }
    )  # fmt: skip
    assert got == {
        "type": "channelLeave",
        "channelLeave": {
            "recipientUUID": other.uuid
        }
    }  # fmt: skip
