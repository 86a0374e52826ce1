"""The demo's second half: what can come of a request. None of them hangs."""

from __future__ import annotations

import json
from typing import Any

import anyio
import attrs

from examples.demo.children import Child
from examples.demo.display import Display
from services.sdk import Mesh, MeshError, PeerGone

# For requests that are answered, or whose callee dies: so long that an end by time would show.
_PATIENCE_SECONDS = 20.0

# For the one that is not answered.
_GATHER_SECONDS = 1.0


class DemoError(Exception):
    """Something did not arrive, or not as it should."""


class Progress:
    """How far the demo is: what it was waiting for, when it comes to a halt."""

    def __init__(self) -> None:
        self.awaited = "the broker"

    def expect(self, what: str) -> None:
        """Say what is waited for next."""
        self.awaited = what


@attrs.frozen
class Scene:
    """Who plays.

    Attributes:
        members: the processes of the group `damon`, by their shards.
        shards: the shards by the connection ids of their members.
    """

    display: Display
    progress: Progress
    mesh: Mesh
    members: dict[str, Child]
    shards: dict[str, str]


async def find_ids(mesh: Mesh, members: dict[str, Child]) -> dict[str, str]:
    """Ask the broker who is who."""
    services = await mesh.services()
    found = {one.id: one.name or "" for one in services if one.group == "damon"}
    if sorted(found.values()) != sorted(members):
        raise DemoError(f"the broker's list of services is not right: {services}")
    return found


async def ask_one(scene: Scene, number: int) -> None:
    """A request to whichever member is free, and its answer."""
    scene.display.step(number, "A request to one of the group damon")
    scene.display.asks("web", "COUNT", "one of damon")
    scene.progress.expect("the answer to COUNT")
    answer = await scene.mesh.request("COUNT", group="damon", timeout=_PATIENCE_SECONDS)
    if answer["shardId"] not in scene.members:
        raise DemoError(f"the answer to COUNT is not right: {answer}")
    scene.display.answers(f"damon {answer['shardId']}", answer)


async def ask_all(scene: Scene, number: int) -> None:
    """A request to every member, of which one hangs: the requester learns which."""
    answering, hanging = scene.members
    display = scene.display
    display.step(number, "A request to all of damon, and one of them hangs")
    display.asks("web", "REINDEX", f"all of damon, for {_GATHER_SECONDS:g} s")
    scene.progress.expect("the answers to REINDEX")
    task = {"without_end": [hanging]}
    async with scene.mesh.gather(
        "REINDEX", task, group="damon", timeout=_GATHER_SECONDS
    ) as replies:
        display.note(f"asked: {' and '.join(scene.shards[one.id] for one in replies.members)}")
        answered = []
        async for reply in replies:
            answered.append(scene.shards[reply.source.id])
            display.answers(f"damon {answered[-1]}", reply.data)
    missing = [(scene.shards[one.source.id], one.code) for one in replies.missing]
    if answered != [answering] or missing != [(hanging, "EXPIRED")]:
        raise DemoError(f"the gather is not right: {answered} answered, {missing} did not")
    for one in replies.missing:
        name = f"damon {scene.shards[one.source.id]}"
        display.fails(name, one.code, "It is named as missing, and its handler is cancelled.")
    scene.progress.expect(f"the word of damon {hanging} that its handler was cancelled")
    await read_object(scene.members[answering], "working")
    for word in ("working", "stopped"):
        await read_object(scene.members[hanging], word)


async def ask_the_dead(scene: Scene, number: int) -> None:
    """A request whose callee is killed while it works on it: the requester learns it at once."""
    shard, child = list(scene.members.items())[-1]
    [callee] = [id for id, name in scene.shards.items() if name == shard]
    display = scene.display
    display.step(number, f"A request to damon {shard}, which is killed at work")
    display.asks("web", "REINDEX", f"damon {shard}, for {_PATIENCE_SECONDS:g} s")
    arrived = killed = 0.0
    errors: list[MeshError] = []

    async def ask() -> None:
        nonlocal arrived
        try:
            task = {"without_end": [shard]}
            await scene.mesh.request("REINDEX", task, to=callee, timeout=_PATIENCE_SECONDS)
        except MeshError as error:
            arrived = anyio.current_time()
            errors.append(error)

    scene.progress.expect(f"the word of {child.name} that it is at work")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await read_object(child, "working")
        scene.progress.expect(f"the word of the broker that {child.name} is gone")
        killed = anyio.current_time()
        child.kill()
        display.note(f"kill -9 for {child.name}")
    match errors:
        case [PeerGone() as error] if error.details.get("member") == callee:
            milliseconds = (arrived - killed) * 1000
            display.fails(child.name, error.code, f"It came {milliseconds:.1f} ms after the kill.")
        case _:
            raise DemoError(f"the end of {child.name} was not reported as it should be: {errors}")


async def read_object(child: Child, key: str) -> Any:  # noqa: ANN401 - JSON
    """Wait for a child to report something."""
    return json.loads(await child.read_line())[key]
