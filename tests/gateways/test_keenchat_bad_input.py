"""Keenchat: what is wrong with a request is told as JSON of one shape, and never by a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateways.asyncio_gateways import Keenchat, keenchat
from tests.gateways.bad_values import HUGE, NOT_OBJECTS, NOT_TEXTS, SCRIPTS, TEMPTATIONS
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio

JSON = {"Content-Type": "application/json"}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/auth"): {"username": "bob", "password": "a password"},
    ("POST", "/user"): {"username": "carol", "password": "a password"},
    ("POST", "/channel"): {"title": "General", "description": "Talk."},
    ("PUT", "/channel/1"): {"title": "General", "description": "Talk."},
    ("POST", "/message"): {"channel_id": 1, "message_text": "hello"},
}
IDS = [" ".join(key) for key in BODIES]
CODES = {"user": "NO_USER", "channel": "NO_ROOM", "message": "NO_MESSAGE"}
# What may be left out.
OPTIONAL = {("POST", "/channel", "description"), ("PUT", "/channel/1", "title")} | {
    ("PUT", "/channel/1", "description")
}


async def refused(house: Keenchat, method: str, url: str, **more: Any) -> tuple[int, str]:
    """Make a request that is refused in the right shape; return the status and the code."""
    answer = await house.http.request(method, url, **more)
    assert 400 <= answer.status_code < 500, (method, url, more, answer.text)
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"error", "code"}
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(("method", "url"), BODIES, ids=IDS)
@on_asyncio
async def test_a_body_that_is_no_object_is_told(tmp_path: Path, method: str, url: str) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        auth = {"auth": token}
        for value in NOT_OBJECTS:
            if not isinstance(value, bytes):
                status = await refused(house, method, url, params=auth, json=value)
                assert status == (422, "BAD_REQUEST")
        for content in (b"", b"{", b'{"a":', b"\xff\xfe", b"[" * 50_000, b'{"a":' + b"9" * 5000):
            more = {"params": auth, "content": content, "headers": JSON}
            assert (await refused(house, method, url, **more))[1] == "BAD_REQUEST"
        form = {"username": "bob"}
        assert await refused(house, method, url, params=auth, data=form) == (422, "BAD_REQUEST")


@pytest.mark.parametrize(("method", "url"), BODIES, ids=IDS)
@on_asyncio
async def test_a_field_that_is_missing_or_wrong_is_told(
    tmp_path: Path, method: str, url: str
) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        auth, body = {"auth": token}, BODIES[method, url]
        for field, value in body.items():
            rest = {name: other for name, other in body.items() if name != field}
            if (method, url, field) not in OPTIONAL:
                status = await refused(house, method, url, params=auth, json=rest)
                assert status == (422, "BAD_REQUEST")
            if isinstance(value, str):
                wrong = [bad for bad in NOT_TEXTS if not isinstance(bad, bytes)]
            else:
                wrong = ["1", None, 1.5, [], {}, True]
            for bad in wrong:
                if bad is None and method == "PUT":
                    continue
                status = await refused(house, method, url, params=auth, json=rest | {field: bad})
                assert status == (422, "BAD_REQUEST")
            if isinstance(value, str):
                # With the escape that JSON has for half of a character.
                half = json.dumps(rest | {field: "a\ud800"})
                more = {"params": auth, "content": half, "headers": JSON}
                assert await refused(house, method, url, **more) == (422, "BAD_REQUEST")


@on_asyncio
async def test_unknown_ids_are_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        auth = {"auth": token}
        for id in (0, -1, 999, 2**31, 2**63 - 1, 2**63, 10**30):
            for kind, code in CODES.items():
                assert await refused(house, "GET", f"/{kind}/{id}") == (404, code)
            url = f"/channel/{id}"
            body = {"title": "x", "channel_id": id, "message_text": "x"}
            for method, where in (("PUT", url), ("POST", "/message")):
                status = await refused(house, method, where, params=auth, json=body)
                assert status == (404, "NO_ROOM")
            assert await refused(house, "DELETE", url, params=auth) == (404, "NO_ROOM")
        for wrong in ("x", "1.5", "1e3", "%00", "1 OR 1=1", "9" * 5000, "\u0661x"):
            for kind in CODES:
                status = await refused(house, "GET", f"/{kind}/{wrong}")
                assert status == (422, "BAD_REQUEST"), wrong


@on_asyncio
async def test_wrong_queries_are_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        for url, name, wrong in (
            ("/message", "channel_id", ["x", "", "1.5", "1' OR '1'='1"]),
            ("/message", "user_id", ["x", "", "[]"]),
            ("/message", "limit", ["0", "-1", "x", str(HUGE)]),
            ("/message", "offset", ["-1", "x", str(HUGE)]),
            ("/user", "limit", ["0", "-1", "x", str(HUGE)]),
            ("/channel", "offset", ["-1", "x", str(HUGE)]),
        ):
            for value in wrong:
                status = await refused(house, "GET", url, params={name: value})
                assert status == (422, "BAD_REQUEST"), (url, name, value)


@on_asyncio
async def test_unknown_places_and_methods_are_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        assert await refused(house, "GET", "/") == (404, "NOT_FOUND")
        assert await refused(house, "GET", "/users") == (404, "NOT_FOUND")
        assert await refused(house, "DELETE", "/user/1") == (405, "METHOD_NOT_ALLOWED")
        assert await refused(house, "PUT", "/message/1") == (405, "METHOD_NOT_ALLOWED")
        assert await refused(house, "PATCH", "/auth") == (405, "METHOD_NOT_ALLOWED")


@on_asyncio
async def test_a_wrong_password_and_an_unknown_name_are_told_alike(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        await house.sign_up("bob")
        wrong = {"username": "bob", "password": "another"}
        nobody = {"username": "nobody", "password": "a password"}
        long = {"username": "bob", "password": "x" * 100_000}
        answers = [await house.http.post("/auth", json=body) for body in (wrong, nobody, long)]
        assert [answer.status_code for answer in answers] == [401] * 3
        assert len({answer.text for answer in answers}) == 1


@on_asyncio
async def test_duplicate_names_are_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        for name in ("bob", "Bob", "\uff22ob"):
            body = {"username": name, "password": "a password"}
            assert await refused(house, "POST", "/user", json=body) == (409, "NAME_TAKEN")
        auth = {"auth": token}
        for title in ("one", "two"):
            made = await house.http.post("/channel", params=auth, json={"title": title})
        status = await refused(house, "POST", "/channel", params=auth, json={"title": "one"})
        assert status == (409, "ROOM_EXISTS")
        url = made.headers["Location"]
        status = await refused(house, "PUT", url, params=auth, json={"title": "one"})
        assert status == (409, "ROOM_EXISTS")


@on_asyncio
async def test_names_and_passwords_that_may_not_be_are_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        for name in ("", " ", " a", "a\0b", "a\nb", "x" * 200):
            body = {"username": name, "password": "a password"}
            assert await refused(house, "POST", "/user", json=body) == (422, "BAD_NAME")
            more = {"params": {"auth": token}, "json": {"title": name}}
            assert await refused(house, "POST", "/channel", **more) == (422, "BAD_NAME")
        for password in ("", "x" * 1000):
            body = {"username": "carol", "password": password}
            assert await refused(house, "POST", "/user", json=body) == (422, "BAD_PASSWORD")
        more = {"params": {"auth": token}, "json": {"title": "x", "description": "x" * 2000}}
        assert await refused(house, "POST", "/channel", **more) == (422, "BAD_NAME")


@on_asyncio
async def test_a_message_that_is_too_long_is_told(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        _, token = await house.sign_up("bob")
        for length in (64 * 1024 + 1, 500_000, 1024 * 1024, 8 * 1024 * 1024):
            body = {"channel_id": 1, "message_text": "x" * length}
            status = await refused(house, "POST", "/message", params={"auth": token}, json=body)
            assert status == (413, "TEXT_TOO_LONG")
        huge = {"username": "x" * 1024 * 1024, "password": "a password"}
        assert await refused(house, "POST", "/auth", json=huge) == (413, "TEXT_TOO_LONG")
        body = {"channel_id": 1, "message_text": "x" * 64 * 1024}
        fits = await house.http.post("/message", params={"auth": token}, json=body)
        assert fits.status_code == 201


@on_asyncio
async def test_markup_sql_and_any_script_are_text(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house:
        for text in ("'; DROP TABLE users; --", "<b>bob</b>", "Боб \U0001f980"):
            user_id, token = await house.sign_up(text)
            assert (await house.http.get(f"/user/{user_id}")).json()["username"] == text
            found = await house.http.get("/user", params={"username": text})
            assert [user["id"] for user in found.json()] == [user_id]
        for text in [*TEMPTATIONS, *SCRIPTS]:
            body = {"title": text, "description": text}
            made = (await house.http.post("/channel", params={"auth": token}, json=body)).json()
            assert made == body | {"id": made["id"]}
            message = {"channel_id": made["id"], "message_text": text}
            await house.http.post("/message", params={"auth": token}, json=message)
            (got,) = (await house.http.get("/message", params={"channel_id": made["id"]})).json()
            assert got["message_text"] == text


# -- events ----------------------------------------------------------------------------------------


async def error_of(client: Ears, event: str, *arguments: Any) -> str:
    """Send an event that is answered by a problem in the right shape; return its code."""
    answers = ("error", "identity failure", "identified")
    name, problem = await client.ask(event, *arguments, answers=answers)
    assert name == ("identity failure" if event == "identify" else "error")
    assert set(problem) == {"error", "code"}
    return str(problem["code"])


@on_asyncio
async def test_wrong_events_are_told_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with keenchat(tmp_path) as house, connected(house.events) as client:
        _, token = await house.sign_up("bob")
        for event in ("change channel", "start typing", "stop typing"):
            right = {"id": 1, "channel_id": 1}
            assert await error_of(client, event, right) == "BAD_TOKEN"
        for wrong in (*(bad for bad in NOT_TEXTS if bad != -HUGE), "\ud800"):
            assert await error_of(client, "identify", wrong) == "BAD_REQUEST"
        assert await error_of(client, "identify") == "BAD_REQUEST"
        for wrong in ("", "wrong", token + "x", *TEMPTATIONS):
            assert await error_of(client, "identify", wrong) == "BAD_TOKEN"
        await client.say("identify", "x" * 600_000)
        assert (await client.next("error"))["code"] == "TEXT_TOO_LONG"
        await client.say("identify", token)
        await client.next("identified")
        for event, field in (
            ("change channel", "id"),
            ("start typing", "channel_id"),
            ("stop typing", "channel_id"),
        ):
            assert await error_of(client, event) == "BAD_REQUEST"
            for wrong in (*NOT_OBJECTS, {}):
                assert await error_of(client, event, wrong) == "BAD_REQUEST"
            for wrong in ("1", 1.5, True, [], 0, -1, 2**63, HUGE):
                assert await error_of(client, event, {field: wrong}) == "BAD_REQUEST"
            code = await error_of(client, event, {field: 999})
            assert code == ("NO_ROOM" if event == "change channel" else "NOT_IN_ROOM")
        for event in ("dance", "*", "connect", "disconnect"):
            assert await error_of(client, event) == "UNKNOWN_EVENT"
        await client.say("change channel", {"id": 1})
        assert (await client.next("channel movement", "error"))["channel_id"] == 1
