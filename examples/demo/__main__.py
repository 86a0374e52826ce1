"""A broker and services that talk through it, each a process of its own: `make demo`.

It plays the two worked examples of the first Master Socket Server: a request to the group `damon`,
and the response of each of its members, one over WebSocket and one over plain TCP; then an
announcement to everyone. Then it shows that no request hangs: one that is answered, one to many of
whom one hangs, and one whose callee is killed. It ends by itself: with 0 when everything has
arrived, with 1 and a reason when something has not.
"""

from __future__ import annotations

import json
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio

from broker.protocol.codec import encode_frame
from examples.demo.children import Child, ChildEndedError, start
from examples.demo.display import Display
from examples.demo.requests import (
    DemoError,
    Progress,
    Scene,
    ask_all,
    ask_one,
    ask_the_dead,
    find_ids,
    read_object,
)
from services.sdk import Frame, Intent, Listener, Mesh, MeshError, OpCode, Target, connect

# All of it takes two or three seconds; a busy machine may take longer to start five interpreters.
_DEADLINE_SECONDS = 30.0

# The id and the numbers are those of the original's documentation.
_REQUEST_ID = "70653cb0-5f6d-41fe-acbf-ea8f37a73034"
_SHARDS = {
    "ef4d25": {"channels": 10240, "shardId": "ef4d25", "users": 15042},
    "9b07c1": {"channels": 8192, "shardId": "9b07c1", "users": 12007},
}


async def play(display: Display, progress: Progress) -> None:
    token = secrets.token_urlsafe()
    display.title("Switchboard")
    listen = ("serve", "--listen", "tcp://127.0.0.1:0")
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(
            start("the broker", "broker", *listen, token=token)
        )
        progress.expect("the broker's address")
        tcp = (await broker.read_line()).removeprefix("listening on ").strip()
        websocket = tcp.replace("tcp://", "ws://")
        display.fact("broker", f"{tcp} (WebSocket and TCP)")
        members: dict[str, Child] = {}
        for (shard, info), url in zip(_SHARDS.items(), (websocket, tcp), strict=True):
            values = [url, shard, str(info["channels"]), str(info["users"])]
            members[shard] = await stack.enter_async_context(
                start(f"damon {shard}", "examples.demo.damon", *values, token=token)
            )
        for member, over in zip(members.values(), ("WebSocket", "TCP"), strict=True):
            progress.expect(f"the word of {member.name} that it is ready")
            await read_object(member, "ready")
            display.fact("member", f"{member.name} over {over}")
        progress.expect("the requester's connection")
        mesh = await stack.enter_async_context(connect(websocket, group="web", token=token))
        display.fact("requester", "web over WebSocket")
        frames = await stack.enter_async_context(mesh.frames())
        await request_info(display, progress, mesh, frames, members)
        await announce(display, progress, mesh, frames, members)
        scene = Scene(display, progress, mesh, members, await find_ids(mesh, members))
        await ask_one(scene, 4)
        await ask_all(scene, 5)
        await ask_the_dead(scene, 6)
    display.success("Everything arrived.")


async def request_info(
    display: Display,
    progress: Progress,
    mesh: Mesh,
    frames: Listener[Frame],
    members: dict[str, Child],
) -> None:
    """The original's two examples: a request to a group, and the members' responses."""
    display.step(1, "A request to the group damon")
    request = Frame(
        op=OpCode.EVENT,
        id=_REQUEST_ID,
        event="INFO",
        data={"requester": mesh.id},
        intent=Intent(Target.GROUP, "damon"),
    )
    await mesh.send(request)
    sent = as_json(request)
    display.sends("web", sent)
    await receive_at_members(display, progress, members, sent)

    display.step(2, "Each member's response, DIRECT to the requester")
    missing = dict(_SHARDS)
    while missing:
        progress.expect(f"the response of damon {' and '.join(missing)}")
        response = await frames.receive()
        shard = response.data["shardId"]
        expected = Frame(
            op=OpCode.EVENT,
            id=_REQUEST_ID,
            event="INFO",
            data=missing.pop(shard, None),
            intent=Intent(Target.DIRECT, mesh.id),
        )
        check(as_json(response), as_json(expected), "damon", f"the response of damon {shard}")
        display.receives("web", as_json(response))


async def announce(
    display: Display,
    progress: Progress,
    mesh: Mesh,
    frames: Listener[Frame],
    members: dict[str, Child],
) -> None:
    """A GLOBAL event; who sends it gets a copy too."""
    display.step(3, "An announcement to everyone")
    announcement = Frame(
        op=OpCode.EVENT,
        id=f"announcement-{secrets.token_hex(4)}",
        event="ANNOUNCEMENT",
        data={"text": "Tea is ready."},
        intent=Intent(Target.GLOBAL),
    )
    await mesh.send(announcement)
    sent = as_json(announcement)
    display.sends("web", sent)
    await receive_at_members(display, progress, members, sent)
    progress.expect("the announcement at web")
    received = as_json(await frames.receive())
    check(received, sent, "web", "the announcement at web")
    display.receives_same("web", received)


async def receive_at_members(
    display: Display, progress: Progress, members: dict[str, Child], sent: dict[str, Any]
) -> None:
    for member in members.values():
        what = f"{sent['event']} at {member.name}"
        progress.expect(what)
        received = await read_object(member, "received")
        check(received, sent, "web", what)
        display.receives_same(member.name, received)


def as_json(frame: Frame) -> dict[str, Any]:
    """Return a frame as the JSON object that it is on the wire."""
    value: dict[str, Any] = json.loads(encode_frame(frame))
    return value


def check(received: dict[str, Any], sent: dict[str, Any], group: str, what: str) -> None:
    """See that a frame arrived as it was sent, with the right source."""
    source = received.get("source", {})
    if received != {**sent, "source": source} or source.get("group") != group:
        raise DemoError(f"{what} is not as it was sent: {received}")


async def main(display: Display) -> int:
    progress = Progress()
    stopped = 0
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def watch_signals() -> None:
                nonlocal stopped
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for number in signals:
                        stopped = number
                        scope.cancel()

            tasks.start_soon(watch_signals)
            problem = await play_safely(display, progress)
            tasks.cancel_scope.cancel()
    if stopped:
        display.failure("Stopped.")
        return 128 + stopped
    if problem:
        display.failure(f"The demo did not get through: {problem}")
    return 1 if problem else 0


async def play_safely(display: Display, progress: Progress) -> str:
    """Return what went wrong; empty when nothing did."""
    try:
        with anyio.fail_after(_DEADLINE_SECONDS):
            await play(display, progress)
    except TimeoutError:
        return f"{progress.awaited} did not come within {_DEADLINE_SECONDS:g} s"
    except (ChildEndedError, DemoError) as error:
        return str(error)
    except SystemExit:
        # From rich: its output is cut off, as by `| head`. What comes after it prints nothing.
        return "nobody reads it"
    except MeshError as error:
        return f"while waiting for {progress.awaited}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(anyio.run(main, Display(), backend="trio"))
