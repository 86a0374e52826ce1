"""None lost, none misdelivered, none twice, order kept: random meshes against a plain model.

`SWITCHBOARD_TEST_SCALE=10` makes it a million messages.
"""

from __future__ import annotations

import os
import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from tests.core.wired_mesh import Endpoint, ModelMesh

SCALE = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))
MESSAGES = int(100_000 * SCALE)

GROUPS = ("red", "green", "blue")
MANNERS = ("DISCONNECT", "garbage", "closed by the broker", "lost")
SEPARATORS = (b"", b"\n", b"\r\n", b" ")

# A data that could be taken for something else: for the end of a frame, or for its properties.
DATA = (
    b"null",
    b"1",
    b'"}{"',
    b'{"op":2,"id":"x"}',
    b'[{"a":"\\"}"},{}]',
    '"\u00e9\U0001f600"'.encode(),
    b'"' + b"x" * 130 + b'"',
    b'"' + b"y" * 3000 + b'"',
)


def test_a_hundred_thousand_messages_through_meshes_of_ten() -> None:
    dice = random.Random(8420)
    mesh = ModelMesh()
    gone: list[str] = ["never there"]
    while mesh.sent < MESSAGES:
        alive = list(mesh.alive.values())
        if len(alive) < 4 or (len(alive) < 16 and dice.random() < 0.02):
            mesh.join(
                dice.choice(GROUPS),
                websocket=dice.random() < 0.5,
                echo=dice.random() < 0.7,
                separator=dice.choice(SEPARATORS),
            )
            continue
        sender = dice.choice(alive)
        if dice.random() < 0.015:
            gone.append(sender.id)
            mesh.leave(sender, dice.choice(MANNERS))
            mesh.check()
            continue
        frames = []
        for _ in range(dice.choice((1, 1, 2, 30))):
            target = dice.choices(("DIRECT", "GROUP", "GLOBAL"), (8, 2, 1))[0]
            if target == "DIRECT":
                ids = gone if dice.random() < 0.03 else list(mesh.alive)
                identifier = dice.choice(ids)
            else:
                identifier = dice.choice((*GROUPS, "nobody"))
            frames.append((dice.choice((0, 5)), target, identifier, dice.choice(DATA)))
        places = [dice.randrange(1 << 30) for _ in range(dice.choice((0, 0, 1, 5)))]
        mesh.send(sender, frames, places)
        if mesh.sent % 64 == 0:
            mesh.check()
    mesh.check()
    assert mesh.delivered > MESSAGES


class RandomMesh(RuleBasedStateMachine):
    """The same in small, so that a failure comes with the shortest way to it."""

    endpoints = Bundle("endpoints")

    def __init__(self) -> None:
        super().__init__()
        self.mesh = ModelMesh()
        self.ids: list[str] = ["never there"]

    @rule(
        target=endpoints,
        group=st.sampled_from(GROUPS),
        websocket=st.booleans(),
        echo=st.booleans(),
        separator=st.sampled_from(SEPARATORS),
    )
    def join(self, group: str, websocket: bool, echo: bool, separator: bytes) -> Endpoint:
        endpoint = self.mesh.join(group, websocket=websocket, echo=echo, separator=separator)
        self.ids.append(endpoint.id)
        return endpoint

    @rule(
        sender=endpoints,
        frames=st.lists(
            st.tuples(
                st.sampled_from((0, 5)),
                st.sampled_from(("DIRECT", "GROUP", "GLOBAL")),
                st.integers(0, 9),
                st.sampled_from(DATA),
            ),
            min_size=1,
            max_size=6,
        ),
        places=st.lists(st.integers(0, 4000), max_size=4),
    )
    def send(
        self, sender: Endpoint, frames: list[tuple[int, str, int, bytes]], places: list[int]
    ) -> None:
        names: dict[str, list[str]] = {
            "DIRECT": self.ids,
            "GROUP": [*GROUPS, "nobody"],
            "GLOBAL": [""],
        }
        self.mesh.send(
            sender,
            [
                (op, target, names[target][-1 - number % len(names[target])], data)
                for op, target, number, data in frames
            ],
            places,
        )

    @rule(endpoint=consumes(endpoints), manner=st.sampled_from(MANNERS))
    def leave(self, endpoint: Endpoint, manner: str) -> None:
        self.mesh.leave(endpoint, manner)

    @invariant()
    def nothing_is_amiss(self) -> None:
        self.mesh.check()


TestRandomMesh: Any = RandomMesh.TestCase
# The nightly profile looks at more of them.
TestRandomMesh.settings = settings(
    max_examples=max(60, settings().max_examples // 5), stateful_step_count=30
)
