"""Fuzzing of the dispatcher: an input is a row of things that happen in a mesh."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.choices import Choices
from tests.fuzz.far_end import FarEnd
from tests.fuzz.mesh_books import check_books, check_empty
from tests.fuzz.mesh_world import GROUPS, MeshWorld

__all__ = ["STEPS", "fuzz_mesh"]

_TIMES: Final = (0.01, 0.2, 0.5, 1.0, 1.5, 3.0, 6.0)
_TIMEOUTS: Final = (1, 100, 500, 1000, 3000)
_SIZES: Final = (0, 1, 30, 300, 1200, 1900)
_ROOMS: Final = (0, 1, 7, 100, 1000, 5000, 1 << 30)
_EVENTS: Final = ("E", "F", "$cancel", "$up", "SERVICES", "STATS", "WHOAMI", "WATCH", "UNWATCH")
_TARGETS: Final = ("GLOBAL", "GROUP", "GROUP", "DIRECT", "DIRECT", "X")

# What happens more often than the rest has more than one place.
_OPS: Final = (0, 0, 0, 5, 5, 3, 4, 2, 1, 9)

# At most so much of it, so that no input takes for ever.
_MOST_STEPS: Final = 300


def _intent(world: MeshWorld, choices: Choices) -> dict[str, Any]:
    target = choices.one_of(_TARGETS)
    intent: dict[str, Any] = {"target": target}
    if target == "GROUP":
        intent["identifier"] = choices.one_of((*GROUPS, "nobody", ""))
        intent["pick"] = choices.one_of(("ONE", "ALL", None))
        if intent["pick"] == "ONE" and choices.number(4) == 0:
            intent["key"] = choices.one_of("kl")
    elif target != "GLOBAL":
        ids = [far.id for far in world.far_ends]
        intent["identifier"] = choices.one_of(("$broker", "nobody", *ids))
    return intent


def _member(world: MeshWorld, choices: Choices) -> FarEnd | None:
    return choices.one_of(world.far_ends) if world.far_ends else None


def _join(world: MeshWorld, choices: Choices) -> None:
    world.join(
        websocket=bool(choices.number(2)),
        group=choices.one_of(GROUPS),
        said={
            "token": choices.one_of("ttb"),
            "echo": bool(choices.number(2)),
            "concurrency": choices.one_of((None, 1, 2)),
        },
    )


def _connect(world: MeshWorld, choices: Choices) -> None:
    websocket = bool(choices.number(2))
    world.connect(websocket=websocket, received=choices.take(choices.number(64)))


def _request(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        intent, timeout = _intent(world, choices), choices.one_of(_TIMEOUTS)
        size = choices.one_of(_SIZES)
        for _ in range(1 + choices.number(3)):
            # Of what the broker itself is asked, the answer is no request's end.
            if intent["target"] == "X" or intent.get("identifier") in ("", "$broker"):
                break
            world.ask(far, intent, timeout, "E", size)


def _event(world: MeshWorld, choices: Choices) -> None:
    """Any frame at all, most of them wrong in some way."""
    far = _member(world, choices)
    if far is None:
        return
    frame: dict[str, Any] = {"op": choices.one_of(_OPS), "intent": _intent(world, choices)}
    there = choices.number()
    frame["event"] = choices.one_of(_EVENTS)
    if there & 1:
        frame["id"] = choices.one_of(("1", "2", None, 7))
    if there & 2:
        frame["data"] = "x" * choices.one_of(_SIZES)
    if there & 4:
        frame["timeout"] = choices.one_of((0, 1, 500, 70_000))
    if there & 8:
        frame["error"] = {"code": "X"}
    if there & 16 and there & 32:
        frame["source"] = {"id": "a", "group": "b"}
    if there & 64 and there & 128:
        del frame["intent"]
    if frame["op"] in (1, 2, 9):
        far.honest = False
    far.send(json.dumps(frame).encode())


def _bytes(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        far.send_bytes(choices.take(1 + choices.number(200)))


def _answer(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        world.answer(far, choices.one_of(_SIZES), twice=choices.number(4) == 1)


def _cancel(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        world.cancel(far)


def _room(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        far.sock.room = choices.one_of(_ROOMS)


def _read(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        world.read(far)


def _read_all(world: MeshWorld, choices: Choices) -> None:
    for far in world.far_ends:
        world.read(far)


def _hang_up(world: MeshWorld, choices: Choices) -> None:
    far = _member(world, choices)
    if far is not None:
        manner = choices.number(3)
        far.honest = False
        far.sock.ended = far.sock.ended or manner == 0
        far.sock.broken = far.sock.broken or manner == 1
        if manner == 2:
            world.close(far)


def _pass_time(world: MeshWorld, choices: Choices) -> None:
    world.pass_time(choices.one_of(_TIMES))


def _reload(world: MeshWorld, choices: Choices) -> None:
    world.reload(other=bool(choices.number(2)))


def _poll(world: MeshWorld, choices: Choices) -> None:
    """Nothing but that what has been sent so far is read in one piece."""
    world.poll()


STEPS: Final[tuple[Callable[[MeshWorld, Choices], None], ...]] = (
    _join,
    _request,
    _event,
    _answer,
    _read_all,
    _room,
    _pass_time,
    _bytes,
    _read,
    _cancel,
    _hang_up,
    _connect,
    _reload,
    _poll,
)

# A step whose number has this bit is followed by the next one before the broker gets to see it.
_TOGETHER: Final = 0x80


def fuzz_mesh(data: bytes) -> None:
    """Let things happen, and look after each whether the books balance."""
    choices, world = Choices(data), MeshWorld()
    for _ in range(_MOST_STEPS):
        if not choices:
            break
        number = choices.number()
        STEPS[(number & ~_TOGETHER) % len(STEPS)](world, choices)
        if not number & _TOGETHER:
            world.poll()
            check_books(world)
        world.forget_the_gone()
    world.poll()
    check_books(world)
    world.wind_up()
    check_empty(world)
