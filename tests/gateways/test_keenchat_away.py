"""Keenchat while the chat service or the broker is away: 503 at once, and later all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.gateways.asyncio_gateways import Keenchat, keenchat
from tests.gateways.socket_client import connected
from tests.gateways.world import on_asyncio

REQUESTS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/auth", {"username": "bob", "password": "a password"}),
    ("GET", "/user", None),
    ("GET", "/user/1", None),
    ("POST", "/user", {"username": "carol", "password": "a password"}),
    ("GET", "/channel", None),
    ("GET", "/channel/1", None),
    ("POST", "/channel", {"title": "another"}),
    ("PUT", "/channel/2", {"title": "another"}),
    ("DELETE", "/channel/2", None),
    ("GET", "/message", None),
    ("GET", "/message/1", None),
    ("POST", "/message", {"channel_id": 1, "message_text": "lost"}),
]


@pytest.mark.parametrize("what", ["chat", "broker"])
@on_asyncio
async def test_every_request_is_refused_at_once_and_works_again_later(
    tmp_path: Path, what: str
) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        bob, token = await house.sign_up("bob")
        await client.say("identify", token)
        await client.next("identified")
        await client.say("change channel", {"id": 1})
        assert await client.next("channel movement") == {"channel_id": 1, "users": [bob]}
        # That is told before the gateway itself has been answered; this comes after both.
        await client.say("stop typing", {"channel_id": 1})
        await client.next("stop typing")
        auth = {"auth": token}
        if what == "chat":
            await house.world.stop_chat()
        else:
            house.world.mesh.kill_broker()

        before = anyio.current_time()
        for method, url, body in REQUESTS:
            answer = await house.http.request(method, url, params=auth, json=body)
            assert answer.status_code == 503, (method, url, answer.text)
            assert answer.json()["code"] == "AWAY"
            assert answer.headers["Retry-After"] == "1"
        for event, data in (("change channel", {"id": None}), ("start typing", {"channel_id": 1})):
            await client.say(event, data)
            assert (await client.next("error"))["code"] == "AWAY"
        async with connected(house.events) as newcomer:
            await newcomer.say("identify", token)
            assert (await newcomer.next("identity failure"))["code"] == "AWAY"
        # A guard against waiting for a timeout of five seconds each, not a measurement.
        assert anyio.current_time() - before < 2 * len(REQUESTS)

        if what == "chat":
            await house.world.start_chat()
        else:
            house.world.mesh.start_broker()
        body = {"channel_id": 1, "message_text": "after"}
        posted = await insist(house, "POST", "/message", params=auth, json=body)
        assert await client.next("post message") == posted.json()
        assert client.is_connected
        # Who was in a channel still is.
        await until_present(house, bob)
        await client.say("start typing", {"channel_id": 1})
        assert await client.next("start typing", "error") == {"user_id": bob, "channel_id": 1}
        listed = (await house.http.get("/message")).json()
        assert [message["message_text"] for message in listed] == ["after"]


async def insist(house: Keenchat, method: str, url: str, **more: Any) -> httpx.Response:
    """Make a request until the chat is back."""
    with anyio.fail_after(20):
        while True:
            answer = await house.http.request(method, url, **more)
            if answer.status_code != 503:
                return answer
            await anyio.sleep(0.02)


async def until_present(house: Keenchat, user_id: int) -> None:
    """Wait until the gateway has told the chat service who is where."""
    with anyio.fail_after(20):
        while True:
            users = (await house.world.chat.room_users(1)).users
            if [user.id for user in users] == [user_id]:
                return
