"""Mirage while the chat service or the broker is away: errors at once, and later all is well."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from services.sdk import MeshError
from tests.gateways.asyncio_gateways import Mirage, messages_in, mirage
from tests.gateways.socket_client import Ears, connected
from tests.gateways.world import on_asyncio

WHERE = {"room_name": "garden"}
ALICE = WHERE | {"username": "alice"}
REQUESTS: list[tuple[str, dict[str, Any] | None]] = [
    ("get_rooms", None),
    ("create_room", {"room_name": "another", "username": "alice"}),
    ("join_room_route", ALICE),
    ("leave_room_route", ALICE),
    ("get_users_in_room_route", WHERE),
    ("send_message", ALICE | {"message": "lost"}),
    ("get_new_messages", WHERE),
    ("get_all_messages", WHERE),
    ("get_metrics", None),
]


async def lose_chat(house: Mirage) -> None:
    await house.world.stop_chat()


async def lose_broker(house: Mirage) -> None:
    house.world.mesh.kill_broker()


async def regain_chat(house: Mirage) -> None:
    await house.world.start_chat()


async def regain_broker(house: Mirage) -> None:
    house.world.mesh.start_broker()


LOSSES = {"chat": (lose_chat, regain_chat), "broker": (lose_broker, regain_broker)}


async def send(client: Ears, text: str) -> int:
    """Send a message for as long as there are errors; return how many came before."""
    errors = 0
    with anyio.fail_after(30):
        while True:
            data = ALICE | {"message": text}
            answer, said = await client.ask("send_message", data, answers=("error", "message_sent"))
            if answer == "message_sent":
                return errors
            assert said["code"] == "AWAY"
            errors += 1
            await anyio.sleep(0.02)


@pytest.mark.parametrize("what", LOSSES)
@on_asyncio
async def test_every_request_is_refused_at_once_and_works_again_later(
    tmp_path: Path, what: str
) -> None:
    lose, regain = LOSSES[what]
    async with (
        mirage(tmp_path) as house,
        connected(house.port) as alice,
        connected(house.port) as bob,
    ):
        await alice.say("create_room", ALICE)
        await alice.next("room_created")
        await bob.say("join_room_route", WHERE | {"username": "bob"})
        await bob.next("joined_room")
        await send(alice, "before")
        await bob.next("new_message")

        await lose(house)
        before = anyio.current_time()
        for event, data in REQUESTS:
            arguments = () if data is None else (data,)
            await alice.say(event, *arguments)
            error = await alice.next("error")
            assert error["code"] == "AWAY", event
        # A guard against waiting for a timeout of five seconds each, not a measurement.
        assert anyio.current_time() - before < 2 * len(REQUESTS)
        # Who comes now is let in.
        async with connected(house.port) as newcomer:
            await newcomer.say("get_metrics")
            assert (await newcomer.next("error"))["code"] == "AWAY"

        await regain(house)
        await send(alice, "after")
        # Bob is still in the room, and has not been disconnected.
        assert (await bob.next("new_message"))["message"] == "after"
        assert alice.is_connected
        assert bob.is_connected
        texts = [message.text for message in await messages_in(house.world, "garden")]
        assert texts == ["before", "after"]
        await until_users(alice, ["alice", "bob"])


async def until_users(client: Ears, users: list[str]) -> None:
    """Wait until these are in the room."""
    with anyio.fail_after(20):
        while True:
            await client.say("get_users_in_room_route", WHERE)
            if await client.next("room_users", "error") == users:
                return


@on_asyncio
async def test_what_was_written_elsewhere_meanwhile_is_heard_in_order(tmp_path: Path) -> None:
    async with mirage(tmp_path) as house, connected(house.port) as alice:
        await alice.say("create_room", ALICE)
        await alice.next("room_created")
        chat = house.world.chat
        room = await chat.room(name="garden")
        bob = (await chat.register("bob", "secret")).user
        await send(alice, "first")
        house.world.mesh.kill_broker()
        house.world.mesh.start_broker()
        # The chat service or the gateway may not be back yet: what is told to nobody is fetched.
        texts = [f"number {count}" for count in range(20)]
        for text in texts:
            await insist(functools.partial(chat.post, room.id, bob.id, text, f"key {text}"))
        heard = [(await alice.next("new_message"))["message"] for _ in range(21)]
        assert heard == ["first", *texts]


async def insist(step: Callable[[], Awaitable[object]]) -> None:
    """Try until it works."""
    with anyio.fail_after(20):
        while True:
            try:
                await step()
            except MeshError:
                await anyio.sleep(0.01)
            else:
                return
