"""Mirage and Keenchat with Socket.IO's own client for JavaScript."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateways.asyncio_gateways import keenchat, mirage
from tests.gateways.node_client import install, node_client
from tests.gateways.socket_client import connected
from tests.gateways.world import on_asyncio

TRANSPORTS = [("websocket",), ("polling",), ("polling", "websocket")]
GARDEN = {"room_name": "garden"}


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client's script is."""
    return install(tmp_path_factory.mktemp("node"))


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
@on_asyncio
async def test_mirage_as_its_public_client_uses_it(
    tmp_path: Path, script: Path, transports: tuple[str, ...]
) -> None:
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as bob,
        node_client(script, house.port, *transports) as alice,
    ):
        who = {"username": "alice"}
        await alice.say("get_rooms")
        assert await alice.next("room_list", "error") == ["public"]
        made = GARDEN | who | {"password": "open sesame"}
        await alice.say("create_room", made)
        assert (await alice.next("room_created", "error"))["room_name"] == "garden"
        await alice.say("get_rooms")
        assert await alice.next("room_list", "error") == ["garden"]
        await bob.say("join_room_route", made | {"username": "bob"})
        assert (await bob.next("joined_room", "error"))["room_name"] == "garden"
        await alice.say("get_users_in_room_route", GARDEN)
        assert await alice.next("room_users", "error") == ["alice", "bob"]
        await alice.say("send_message", GARDEN | who | {"message": "gAAAAAB="})
        assert (await alice.next("message_sent", "error"))["id"] == 0
        assert (await bob.next("new_message"))["message"] == "gAAAAAB="
        await bob.say("send_message", GARDEN | {"username": "bob", "message": "h\u00e9 \U0001f980"})
        heard = [(await alice.next("new_message"))["message"] for _ in range(2)]
        assert heard == ["gAAAAAB=", "h\u00e9 \U0001f980"]
        await alice.say("get_new_messages", GARDEN | {"last_message_id": 0})
        (news,) = (await alice.next("new_messages", "error"))["messages"]
        assert (news["id"], news["username"]) == (1, "bob")
        await alice.say("get_all_messages", GARDEN)
        assert [m["id"] for m in await alice.next("all_messages", "error")] == [0, 1]
        await alice.say("decryption_error", news | GARDEN | {"receiver": "alice", "id": 2})
        await alice.say("get_metrics")
        assert await alice.next("metrics", "error") == {"today": 2, "total": 2}
        await alice.say("join_room_route", {"room_name": "nowhere"} | who)
        assert (await alice.next("error"))["code"] == "NO_ROOM"
        await alice.say("leave_room_route", GARDEN | who)
        assert (await alice.next("left_room", "error"))["room_name"] == "garden"


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
@on_asyncio
async def test_keenchat_from_identify_to_unidentify(
    tmp_path: Path, script: Path, transports: tuple[str, ...]
) -> None:
    async with (
        keenchat(tmp_path) as house,
        node_client(script, house.events, *transports) as client,
    ):
        user_id, token = await house.sign_up("bob")
        assert await client.next("post user") == {"id": user_id, "username": "bob"}
        await client.say("identify", "wrong")
        assert (await client.next("identified", "identity failure"))["code"] == "BAD_TOKEN"
        await client.say("identify", token)
        assert await client.next("identified", "identity failure") is None
        await client.say("change channel", {"id": 1})
        inside = {"channel_id": 1, "users": [user_id]}
        assert await client.next("channel movement", "error") == inside
        typing = {"channel_id": 1, "user_id": user_id}
        for event in ("start typing", "stop typing"):
            await client.say(event, {"channel_id": 1})
            assert await client.next(event, "error") == typing
        body = {"channel_id": 1, "message_text": "h\u00e9 \U0001f980"}
        posted = await house.http.post("/message", params={"auth": token}, json=body)
        assert await client.next("post message") == posted.json()
        house.gateway.refresh_page()
        assert await client.next("refresh page") is None
        await client.say("unidentify")
        assert await client.next("channel movement", "error") == inside | {"users": []}
