"""The frames that people construct: what they refuse."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from broker.protocol.frames import Error, Frame, Intent, OpCode, Pick, Source, Target


def test_the_numbers_are_the_original_s() -> None:
    assert {op.name: op.value for op in OpCode} == {
        "EVENT": 0,
        "IDENTIFY": 1,
        "DISCONNECT": 2,
        "PING": 3,
        "PONG": 4,
        "REPLY": 5,
    }
    assert [target.value for target in Target] == ["GLOBAL", "GROUP", "DIRECT"]
    assert [pick.value for pick in Pick] == ["ALL", "ONE"]


def test_words_stand_for_members() -> None:
    intent = Intent("GROUP", "g", pick="ONE")
    assert intent == Intent(Target.GROUP, "g", pick=Pick.ONE)
    assert Frame(op=3).op is OpCode.PING


@pytest.mark.parametrize("target", [Target.GROUP, Target.DIRECT])
def test_a_target_needs_an_identifier(target: Target) -> None:
    with pytest.raises(
        ValueError, match=f"^{target} needs an identifier: a group or a connection id$"
    ):
        Intent(target)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"target": "EVERYONE"}, ValueError),
        ({"target": None}, ValueError),
        ({"target": "GLOBAL", "identifier": ""}, ValueError),
        ({"target": "GROUP", "identifier": "x" * 129}, ValueError),
        ({"target": "GROUP", "identifier": 7}, TypeError),
        ({"target": "GROUP", "identifier": "g", "pick": "SOME"}, ValueError),
        ({"target": "GROUP", "identifier": "g", "key": ""}, ValueError),
        ({"target": "GROUP", "identifier": "g", "key": "x" * 129}, ValueError),
        ({"target": "GROUP", "identifier": "g", "key": b"k"}, TypeError),
    ],
)
def test_what_is_no_intent(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Intent(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"op": 6}, ValueError),
        ({"op": -1}, ValueError),
        ({"op": 0, "id": ""}, ValueError),
        ({"op": 0, "id": "x" * 65}, ValueError),
        ({"op": 0, "id": 7}, TypeError),
        ({"op": 0, "event": ""}, ValueError),
        ({"op": 0, "event": "x" * 129}, ValueError),
        ({"op": 0, "timeout": 0}, ValueError),
        ({"op": 0, "timeout": 86_400_001}, ValueError),
        ({"op": 0, "trace": ""}, ValueError),
        ({"op": 0, "trace": "x" * 129}, ValueError),
    ],
)
def test_what_is_no_frame(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Frame(**arguments)


def test_the_longest_of_everything() -> None:
    frame = Frame(
        op=OpCode.EVENT,
        id="x" * 64,
        event="x" * 128,
        intent=Intent(Target.GROUP, "x" * 128, key="x" * 128),
        timeout=86_400_000,
        trace="x" * 128,
    )
    assert frame.timeout == 86_400_000


def test_frames_are_values() -> None:
    frame = Frame(op=OpCode.REPLY, source=Source("a", "b"), error=Error("X", "y"))
    assert frame == Frame(op=OpCode.REPLY, source=Source("a", "b"), error=Error("X", "y"))
    assert attrs.evolve(frame, id="1") != frame
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        frame.id = "1"  # type: ignore[misc]


def test_a_frame_has_no_positions() -> None:
    with pytest.raises(TypeError):
        Frame(OpCode.PING)  # type: ignore[call-arg]
