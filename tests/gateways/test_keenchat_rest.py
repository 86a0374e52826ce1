"""Keenchat's REST API: every endpoint of its document, by httpx."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from services.chat.messages import CreateRoom
from services.chat.model import Room
from tests.gateways.asyncio_gateways import Keenchat, keenchat
from tests.gateways.world import on_asyncio

BOB = {"username": "bob", "password": "a password"}


async def make_channel(house: Keenchat, token: str, title: str) -> int:
    made = await house.http.post("/channel", params={"auth": token}, json={"title": title})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


async def post(house: Keenchat, token: str, channel_id: int, text: str) -> dict[str, Any]:
    body = {"channel_id": channel_id, "message_text": text}
    posted = await house.http.post("/message", params={"auth": token}, json=body)
    assert posted.status_code == 201, posted.text
    message: dict[str, Any] = posted.json()
    return message


async def texts(house: Keenchat, **params: Any) -> list[str]:
    listed = await house.http.get("/message", params=params)
    assert listed.status_code == 200, listed.text
    return [message["message_text"] for message in listed.json()]


@on_asyncio
async def test_post_user_makes_a_user_and_never_sends_the_password(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        made = await house.http.post("/user", json=BOB)
        assert made.status_code == 201
        user = made.json()
        assert user == {"id": user["id"], "username": "bob"}
        assert isinstance(user["id"], int)
        assert made.headers["Location"] == f"/user/{user['id']}"
        got = await house.http.get(made.headers["Location"])
        assert (got.status_code, got.json()) == (200, user)
        listed = await house.http.get("/user")
        assert listed.json() == [user]
        for answer in (made, got, listed):
            assert "password" not in answer.text


@on_asyncio
async def test_post_auth_gives_a_token_for_valid_credentials(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        user = (await house.http.post("/user", json=BOB)).json()
        answer = await house.http.post("/auth", json=BOB)
        assert answer.status_code == 200
        token = answer.json()
        assert token == {"token_value": token["token_value"], "user_id": user["id"]}
        # Each time another one, and all of them are good.
        again = (await house.http.post("/auth", json=BOB)).json()["token_value"]
        assert again != token["token_value"]
        for value in (token["token_value"], again):
            await make_channel(house, value, f"channel of {value}")


@on_asyncio
async def test_get_user_lists_guests_of_other_systems_too_since_messages_name_them(
    tmp_path: Path,
) -> None:
    async with keenchat(tmp_path) as house:
        await house.http.post("/user", json=BOB)
        guest = await house.world.chat.claim_guest("a session", "guest")
        public = await house.world.chat.room(name="public")
        await house.world.chat.post(public.id, guest.id, "hello")
        (message,) = (await house.http.get("/message")).json()
        users = (await house.http.get("/user")).json()
        assert {"id": message["user_id"], "username": "guest"} in users
        assert (await house.http.get("/user", params={"username": "bob"})).json() == users[:1]
        assert (await house.http.get("/user", params={"username": "nobody"})).json() == []


@on_asyncio
async def test_channels_are_made_got_changed_and_removed(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        auth = {"auth": token}
        body = {"title": "General", "description": "General discussion."}
        made = await house.http.post("/channel", params=auth, json=body)
        assert made.status_code == 201
        channel = made.json()
        assert channel == {"id": channel["id"]} | body
        url = made.headers["Location"]
        assert (await house.http.get(url)).json() == channel
        assert (await house.http.get("/channel")).json()[-1] == channel

        # The whole resource, as generic clients send it, and a part of it.
        whole = channel | {"title": "Special"}
        changed = await house.http.put(url, params=auth, json=whole)
        assert (changed.status_code, changed.json()) == (200, whole)
        part = await house.http.put(url, params=auth, json={"description": "Other discussion."})
        assert part.json() == whole | {"description": "Other discussion."}
        assert (await house.http.get(url)).json() == part.json()

        await post(house, token, channel["id"], "soon gone")
        removed = await house.http.delete(url, params=auth)
        assert (removed.status_code, removed.content) == (204, b"")
        assert (await house.http.get(url)).status_code == 404
        assert await texts(house) == []


@on_asyncio
async def test_only_who_has_made_a_channel_may_change_it(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, bobs = await house.sign_up("bob")
        _, eves = await house.sign_up("eve")
        channel_id = await make_channel(house, bobs, "bob's")
        public = await house.world.chat.room(name="public")
        for token, id in ((eves, channel_id), (bobs, public.id)):
            url, auth = f"/channel/{id}", {"auth": token}
            changed = await house.http.put(url, params=auth, json={"title": "eve's"})
            removed = await house.http.delete(url, params=auth)
            for refused in (changed, removed):
                assert (refused.status_code, refused.json()["code"]) == (403, "NOT_ALLOWED")
        assert (await house.http.get(f"/channel/{channel_id}")).json()["title"] == "bob's"


@on_asyncio
async def test_what_changes_something_takes_a_token_that_is_good(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        channel_id = await make_channel(house, token, "bob's")
        body = {"title": "x", "channel_id": channel_id, "message_text": "x"}
        for method, url in (
            ("POST", "/channel"),
            ("PUT", f"/channel/{channel_id}"),
            ("DELETE", f"/channel/{channel_id}"),
            ("POST", "/message"),
        ):
            for params in ({}, {"auth": ""}, {"auth": "wrong"}, {"auth": token + "x"}):
                refused = await house.http.request(
                    method, url, params=params, json=None if method == "DELETE" else body
                )
                assert refused.status_code == 401, (method, params)
                assert refused.json()["code"] == "BAD_TOKEN"
        assert await texts(house) == []


@on_asyncio
async def test_post_message_writes_it_as_the_tokens_user(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        user_id, token = await house.sign_up("bob")
        channel_id = await make_channel(house, token, "General")
        before = time.time_ns() // 1_000_000
        body = {"channel_id": channel_id, "message_text": "hello"}
        posted = await house.http.post("/message", params={"auth": token}, json=body)
        assert posted.status_code == 201
        message = posted.json()
        moment = message.pop("time")
        assert isinstance(moment, int)
        # Milliseconds; the machine's clock may be set meanwhile.
        assert abs(moment - before) < 3_600_000
        assert message == body | {"id": message["id"], "user_id": user_id}
        got = await house.http.get(posted.headers["Location"])
        assert (got.status_code, got.json()) == (200, message | {"time": moment})


@on_asyncio
async def test_nobody_writes_with_somebody_elses_token(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        bob, _ = await house.sign_up("bob")
        eve, token = await house.sign_up("eve")
        channel_id = await make_channel(house, token, "General")
        body = {"channel_id": channel_id, "message_text": "I am bob", "user_id": bob}
        refused = await house.http.post("/message", params={"auth": token}, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "NOT_ALLOWED")
        own = await house.http.post(
            "/message", params={"auth": token}, json=body | {"user_id": eve}
        )
        assert own.json()["user_id"] == eve


@on_asyncio
async def test_get_message_filters_by_channel_and_user(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        bob, bobs = await house.sign_up("bob")
        eve, eves = await house.sign_up("eve")
        one = await make_channel(house, bobs, "one")
        two = await make_channel(house, bobs, "two")
        for token, channel_id, text in (
            (bobs, one, "bob in one"),
            (eves, one, "eve in one"),
            (bobs, two, "bob in two"),
        ):
            await post(house, token, channel_id, text)
        assert await texts(house) == ["bob in one", "eve in one", "bob in two"]
        assert await texts(house, channel_id=one) == ["bob in one", "eve in one"]
        assert await texts(house, user_id=bob) == ["bob in one", "bob in two"]
        assert await texts(house, channel_id=one, user_id=eve) == ["eve in one"]
        for nowhere in (0, -1, 999, 2**63, 10**30):
            assert await texts(house, channel_id=nowhere) == []
            assert await texts(house, user_id=nowhere) == []


@on_asyncio
async def test_pages_of_messages_count_back_from_the_newest(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        channel_id = await make_channel(house, token, "General")
        for number in range(7):
            await post(house, token, channel_id, str(number))
        assert await texts(house, limit=3) == ["4", "5", "6"]
        assert await texts(house, limit=3, offset=3) == ["1", "2", "3"]
        assert await texts(house, limit=3, offset=6) == ["0"]
        assert await texts(house, offset=7) == []
        listed = await house.http.get("/message", params={"limit": 2})
        assert listed.headers["X-Total-Count"] == "7"


@on_asyncio
async def test_lists_of_users_and_channels_have_pages(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        tokens = [(await house.sign_up(f"user {number}"))[1] for number in range(4)]
        for number in range(4):
            await make_channel(house, tokens[0], f"channel {number}")
        for url, key, names in (
            ("/user", "username", [f"user {number}" for number in range(4)]),
            ("/channel", "title", ["public", *(f"channel {number}" for number in range(4))]),
        ):
            page = await house.http.get(url, params={"limit": 2, "offset": 1})
            assert [entry[key] for entry in page.json()] == names[1:3]
            assert page.headers["X-Total-Count"] == str(len(names))


@on_asyncio
async def test_ten_thousand_channels_are_listed(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        titles = [f"channel {count}" for count in range(10_000)]
        await house.world.add_rooms(titles)
        listed = (await house.http.get("/channel")).json()
        assert [channel["title"] for channel in listed] == ["public", *titles]


@on_asyncio
async def test_rooms_that_are_not_public_are_no_channels(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        bob, token = await house.sign_up("bob")
        eve, _ = await house.sign_up("eve")
        chat = house.world.chat
        private = await chat.private_room(bob, eve)
        protected = await chat.create_room(
            CreateRoom("closed", password="open sesame", creator_id=bob)
        )
        assert [room["title"] for room in (await house.http.get("/channel")).json()] == ["public"]
        secret = await chat.post(private.id, bob, "between us")
        assert (await house.http.get(f"/message/{secret.id}")).status_code == 404
        assert await texts(house) == []
        await check_hidden(house, token, private)
        await check_hidden(house, token, protected)


async def check_hidden(house: Keenchat, token: str, room: Room) -> None:
    """See that a room is as good as not there, even to its own people."""
    auth, url = {"auth": token}, f"/channel/{room.id}"
    body = {"title": "x", "channel_id": room.id, "message_text": "x"}
    for answer in (
        await house.http.get(url),
        await house.http.put(url, params=auth, json=body),
        await house.http.delete(url, params=auth),
        await house.http.post("/message", params=auth, json=body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_ROOM")
    assert await texts(house, channel_id=room.id) == []


@on_asyncio
async def test_the_pages_about_the_api_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        described = (await house.http.get("/openapi.json")).json()
        assert set(described["paths"]) == {
            "/auth",
            "/user",
            "/user/{id}",
            "/channel",
            "/channel/{id}",
            "/message",
            "/message/{id}",
        }
        page = await house.http.get("/docs")
        assert page.status_code == 200
        assert "//" not in page.text.replace("://" + httpx.URL(house.url).netloc.decode(), "")
        for script in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert f"/{script}" in page.text
            got = await house.http.get(f"/static-offline-docs/{script}")
            assert got.status_code == 200


@on_asyncio
async def test_pages_of_other_origins_may_use_it_where_that_is_allowed(tmp_path: Path) -> None:
    origin = "https://chat.example.org"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    async with keenchat(tmp_path, [origin]) as house:
        answer = await house.http.options("/channel/1", headers=preflight)
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        other = await house.http.get("/user", headers={"Origin": "https://elsewhere.example.org"})
        assert "Access-Control-Allow-Origin" not in other.headers
    (tmp_path / "closed").mkdir()
    async with keenchat(tmp_path / "closed") as house:
        answer = await house.http.get("/user", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
