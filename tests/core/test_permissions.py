"""Nothing forbidden gets through, by whatever way; nothing allowed is held up."""

from __future__ import annotations

import re
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.access_settings import PermissionSettings, TokenSettings
from broker.core.authentication import hash_token
from broker.core.permissions import Patterns, SendingRules, sending_rules
from broker.core.settings import Settings
from tests.core.memory_mesh import TOKEN, TOKENS, Client, MemoryMesh

GROUPS = ("red", "green", "blue")
EVENTS = ("INFO", "INFO_ALL", "WORK")
TO_BROKER = {"target": "DIRECT", "identifier": "$broker"}


def mesh_with(**permissions: Any) -> MemoryMesh:
    """Beside the unrestricted token, there is "limited" with these permissions."""
    limited = TokenSettings(hash_token("limited"), permissions=PermissionSettings(**permissions))
    return MemoryMesh(Settings(tokens=(*TOKENS, limited)))


def error_of(client: Client) -> tuple[str, str]:
    (answer,) = client.take()
    assert answer["op"] == 5
    return answer["error"]["code"], answer["error"]["message"]


def to_group(name: str, **more: Any) -> dict[str, Any]:
    return {"target": "GROUP", "identifier": name, **more}


def to_one(client: Client) -> dict[str, Any]:
    return {"target": "DIRECT", "identifier": client.id}


# -- patterns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("red", ["red"], ["Red", "redd", "re", ""]),
        ("*", ["", "red", "*"], []),
        ("red*", ["red", "red-1"], ["are", "infrared"]),
        ("*red", ["red", "infrared"], ["redd"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("a*b*c", ["abc", "axbxc", "abcbc"], ["acb", "ab", "bc", "axc"]),
        ("**", ["", "x"], []),
        ("*ab*ab*", ["abab", "xabxabx"], ["aba", "ab"]),
        # All but the star stands for itself: names may have it.
        ("r?d", ["r?d"], ["red"]),
        ("[a-z]", ["[a-z]"], ["a"]),
        ("a.c", ["a.c"], ["abc"]),
        ("a\\*", ["a\\", "a\\x"], ["a*"]),
        ("stra\u00dfe", ["stra\u00dfe"], ["strasse"]),
    ],
)
def test_what_a_pattern_stands_for(pattern: str, fits: list[str], does_not: list[str]) -> None:
    patterns = Patterns((pattern,))

    assert [name for name in fits if name not in patterns] == []
    assert [name for name in does_not if name in patterns] == []


@given(st.lists(st.text("ab*", min_size=1, max_size=6), max_size=4), st.text("abc", max_size=8))
def test_patterns_fit_what_the_same_regular_expressions_fit(wanted: list[str], name: str) -> None:
    expressions = [".*".join(re.escape(part) for part in pattern.split("*")) for pattern in wanted]
    expected = any(re.fullmatch(expression, name, re.DOTALL) for expression in expressions)
    rules = SendingRules(PermissionSettings(send_groups=tuple(wanted)))

    assert (name in Patterns(wanted)) == expected
    # Once worked out, and once remembered.
    for _ in range(2):
        assert (rules.objection("E", "GROUP", name) is None) == expected


def test_a_pattern_of_many_stars_takes_no_longer_for_it() -> None:
    """Tried by going back, it would take longer than anybody can wait."""
    assert "a" * 128 not in Patterns(("a*" * 63 + "b",))


def test_no_more_names_are_remembered_than_a_few_hundred() -> None:
    rules = SendingRules(PermissionSettings(send_events=("a*",)))
    for number in range(10_000):
        assert rules.objection(f"a{number}", "GLOBAL", None) is None
    assert len(rules._known) <= 256


def test_who_may_send_everything_has_no_rules_to_look_at() -> None:
    assert sending_rules(PermissionSettings()) is None
    assert sending_rules(PermissionSettings(watch=False, services=False, stats=True)) is None
    assert sending_rules(PermissionSettings(send_global=False)) is not None


def test_the_same_permissions_are_the_same_rules() -> None:
    one = sending_rules(PermissionSettings(send_groups=("red",)))

    assert one is sending_rules(PermissionSettings(send_groups=("red",)))
    assert one is not sending_rules(PermissionSettings(send_groups=("blue",)))


# -- each way --------------------------------------------------------------------------------------


@attrs.frozen
class Scene:
    mesh: MemoryMesh
    limited: Client
    red: Client
    blue: Client


def scene_with(**permissions: Any) -> Scene:
    mesh = mesh_with(**permissions)
    limited = mesh.join("web", token="limited", echo=False)
    return Scene(mesh, limited, mesh.join("red"), mesh.join("blue"))


def test_global() -> None:
    scene = scene_with(send_global=False)
    for timeout in (None, 1000):
        scene.limited.send(op=0, id="1", event="INFO", intent={"target": "GLOBAL"}, timeout=timeout)
        (answer,) = scene.limited.take()
        assert answer["id"] == "1"
        assert answer["error"] == {
            "code": "FORBIDDEN",
            "message": "intent: you may not send GLOBAL",
        }
    assert scene.red.take() == []
    assert scene.mesh.dispatcher.statistics().denied == 2
    assert scene.mesh.dispatcher.statistics().refused == {"FORBIDDEN": 2}
    assert not scene.limited.gone


@pytest.mark.parametrize("more", [{}, {"pick": "ONE"}, {"pick": "ONE", "key": "k"}], ids=str)
@pytest.mark.parametrize("timeout", [None, 1000])
def test_groups(more: dict[str, str], timeout: int | None) -> None:
    scene = scene_with(send_groups=("re*",))
    for name in ("blue", "nobody's"):
        intent = to_group(name, **more)
        scene.limited.send(op=0, id="1", event="INFO", intent=intent, timeout=timeout)
        assert error_of(scene.limited) == (
            "FORBIDDEN",
            f"intent: you may not send to group {name!r}",
        )
    scene.limited.send(op=0, id="2", event="INFO", intent=to_group("red", **more), timeout=timeout)

    assert scene.blue.take() == []
    assert [frame["id"] for frame in scene.red.take()] == ["2"]


@pytest.mark.parametrize("timeout", [None, 1000])
def test_direct_goes_by_the_group_of_the_receiver(timeout: int | None) -> None:
    scene = scene_with(send_groups=("red",))
    scene.limited.send(op=0, id="1", event="INFO", intent=to_one(scene.blue), timeout=timeout)
    assert error_of(scene.limited)[0] == "FORBIDDEN"
    nobody = {"target": "DIRECT", "identifier": "nobody"}
    scene.limited.send(op=0, id="2", event="INFO", intent=nobody, timeout=timeout)
    assert error_of(scene.limited)[0] == "NO_ROUTE"
    scene.limited.send(op=0, id="3", event="INFO", intent=to_one(scene.red), timeout=timeout)

    assert scene.blue.take() == []
    assert [frame["id"] for frame in scene.red.take()] == ["3"]


def test_events() -> None:
    scene = scene_with(send_events=("INFO*",))
    for intent in ({"target": "GLOBAL"}, to_group("red"), to_one(scene.red)):
        scene.limited.send(op=0, id="1", event="WORK", intent=intent)
        assert error_of(scene.limited) == (
            "FORBIDDEN",
            "event: you may not send 'WORK'",
        )
        scene.limited.send(op=0, id="2", event="INFO_ALL", intent=intent)
        assert scene.limited.take() == []

    assert [frame["id"] for frame in scene.red.take()] == ["2"] * 3


def test_several_frames_at_a_time_are_each_looked_at() -> None:
    scene = scene_with(send_events=("INFO",))
    frames = [
        b'{"op":0,"id":"%d","event":"%s","intent":{"target":"GROUP","identifier":"red"}}'
        % (number, event.encode())
        for number, event in enumerate(("INFO", "WORK", "INFO", "WORK"))
    ]
    scene.limited.send_bytes(b"\n".join(frames))

    assert [frame["id"] for frame in scene.red.take()] == ["0", "2"]
    assert [frame["id"] for frame in scene.limited.take()] == ["1", "3"]


def test_who_was_asked_may_always_answer() -> None:
    scene = scene_with(send_global=False, send_groups=(), send_events=())
    for intent in (to_one(scene.limited), to_group("web"), to_group("web", pick="ONE")):
        scene.red.send(op=0, id="1", event="WORK", intent=intent, timeout=1000)
        assert [frame["id"] for frame in scene.limited.take()] == ["1"]
        scene.limited.send(op=5, id="1", event="WORK", data=1, intent=to_one(scene.red))
        assert scene.red.take()[-1]["data"] == 1
    # Once. A second answer is dropped, as anybody's is.
    scene.limited.send(op=5, id="1", event="WORK", data=2, intent=to_one(scene.red))
    assert scene.red.take() == []
    assert scene.limited.take() == []


def test_a_reply_to_nothing_is_a_frame_like_any_other() -> None:
    scene = scene_with(send_groups=("red",))
    for intent in (to_one(scene.blue), to_group("blue")):
        scene.limited.send(op=5, id="1", intent=intent)
        assert error_of(scene.limited)[0] == "FORBIDDEN"
    scene.limited.send(op=5, id="1", intent=to_one(scene.red))

    assert scene.blue.take() == []
    assert [frame["id"] for frame in scene.red.take()] == ["1"]


def test_a_reply_without_a_name_needs_every_name() -> None:
    scene = scene_with(send_events=("INFO*",))
    scene.limited.send(op=5, id="1", intent=to_one(scene.red))
    assert error_of(scene.limited) == ("FORBIDDEN", "event: you may not send None")
    scene.limited.send(op=5, id="1", event="INFO", intent=to_one(scene.red))
    assert [frame["id"] for frame in scene.red.take()] == ["1"]


def test_a_reply_to_somebody_elses_request_is_still_no_answer() -> None:
    scene = scene_with(send_groups=())
    scene.red.send(op=0, id="1", event="WORK", intent=to_one(scene.blue), timeout=1000)
    scene.limited.send(op=5, id="1", event="WORK", intent=to_one(scene.red))

    code, message = error_of(scene.limited)
    assert (code, "not asked" in message) == ("FORBIDDEN", True)
    assert scene.red.take() == []


def test_a_request_of_ones_own_can_be_given_up() -> None:
    scene = scene_with(send_groups=("red",), send_events=("WORK",))
    scene.limited.send(op=0, id="1", event="WORK", intent=to_group("red", pick="ONE"), timeout=1000)
    scene.limited.send(op=0, id="1", event="$cancel")

    assert [frame["event"] for frame in scene.red.take()] == ["WORK", "$cancel"]
    assert scene.limited.take() == []


def test_a_forbidden_request_leaves_nothing_behind() -> None:
    scene = scene_with(send_groups=("red",))
    scene.limited.send(op=0, id="1", event="WORK", intent=to_group("blue", pick="ONE"), timeout=99)
    scene.limited.send(op=0, id="1", event="WORK", intent=to_group("red", pick="ONE"), timeout=99)

    assert len(scene.mesh.dispatcher.requests.ledger) == 1
    assert error_of(scene.limited)[0] == "FORBIDDEN"


def test_whose_turn_it_is_does_not_change_by_what_is_forbidden() -> None:
    scene = scene_with(send_groups=("red",))
    scene.mesh.join("blue").take()
    for _ in range(3):
        scene.limited.send(op=0, event="INFO", intent=to_group("blue", pick="ONE"))
    scene.red.send(op=0, id="1", event="INFO", intent=to_group("blue", pick="ONE"))

    assert [frame["id"] for frame in scene.blue.take()] == ["1"]


# -- the broker itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "forbidden"),
    [
        ({}, {"STATS": "stats"}),
        ({"stats": True}, {}),
        ({"watch": False}, {"WATCH": "watch", "STATS": "stats"}),
        ({"services": False}, {"SERVICES": "services", "WATCH": "services", "STATS": "stats"}),
        # Sending is another matter, and $broker is in no group.
        ({"send_groups": (), "send_events": (), "send_global": False}, {"STATS": "stats"}),
    ],
)
def test_what_may_be_asked_of_the_broker(
    permissions: dict[str, Any], forbidden: dict[str, str]
) -> None:
    mesh = mesh_with(**permissions)
    limited = mesh.join("web", token="limited")
    for event in ("SERVICES", "WATCH", "UNWATCH", "STATS", "WHOAMI"):
        limited.send(op=0, id="1", event=event, intent=TO_BROKER)
        (answer,) = limited.take()
        assert answer["id"] == "1"
        if event in forbidden:
            assert answer["error"] == {
                "code": "FORBIDDEN",
                "message": f"event: {event} takes {forbidden[event]} = true in your permissions",
            }
        else:
            assert "data" in answer
    assert mesh.dispatcher.statistics().denied == len(forbidden)
    # And whoever may not watch is told of nobody.
    mesh.join("red")
    assert limited.take() == []


# -- a model ---------------------------------------------------------------------------------------

IN_TURN = (*GROUPS, "nobody", "red", "blue")
NAMES = ("red", "green", "blue", "INFO", "INFO_ALL", "WORK", "*", "*E*", "IN*", "r*d")

permission_settings = st.builds(
    PermissionSettings,
    send_global=st.booleans(),
    send_groups=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
    send_events=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
)


@attrs.frozen
class Sent:
    op: int
    target: str
    number: int
    pick: str | None
    key: str | None
    event: str | None
    timeout: int | None
    id: str


sent_frames = st.builds(
    Sent,
    op=st.sampled_from((0, 0, 0, 5)),
    target=st.sampled_from(("GLOBAL", "GROUP", "GROUP", "DIRECT")),
    number=st.integers(0, 5),
    pick=st.sampled_from((None, "ALL", "ONE")),
    key=st.sampled_from((None, "k")),
    event=st.sampled_from((*EVENTS, "$cancel", None)),
    timeout=st.sampled_from((None, 1000)),
    id=st.sampled_from(("a", "b", "asked", "not asked")),
)


def plainly_fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) for pattern in patterns
    )


def may_be_sent(settings: PermissionSettings, frame: Sent, group: str) -> bool:
    """The rules as the documents have them: whether a frame may reach a member of a group."""
    if not plainly_fits(frame.event or "", settings.send_events):
        return False
    if frame.target == "GLOBAL":
        return settings.send_global
    return plainly_fits(group, settings.send_groups)


@given(permission_settings, st.lists(st.lists(sent_frames, min_size=1, max_size=4), max_size=6))
def test_nothing_forbidden_gets_through_by_any_way(
    settings: PermissionSettings, batches: list[list[Sent]]
) -> None:
    limited_token = TokenSettings(hash_token("limited"), permissions=settings)
    mesh = MemoryMesh(Settings(tokens=(*TOKENS, limited_token)))
    limited = mesh.join("red", token="limited")
    others = [mesh.join(group, token=TOKEN, concurrency=2) for group in (*GROUPS, "red", "blue")]
    everyone = [limited, *others]
    # One request that the limited one was asked, and one that it was not.
    others[0].send(op=0, id="asked", event="WORK", intent=to_one(limited), timeout=60_000)
    others[0].send(op=0, id="not asked", event="WORK", intent=to_one(others[1]), timeout=60_000)
    for client in everyone:
        client.take()
    asked = True
    for batch in batches:
        wire = b""
        for number, frame in enumerate(batch):
            names = {
                "GLOBAL": "",
                "GROUP": IN_TURN[frame.number],
                "DIRECT": everyone[frame.number].id,
            }
            wire += encoded(frame, names[frame.target], number)
        limited.send_bytes(wire)
        came = {client.id: client.take() for client in everyone}
        for client in everyone:
            for got in came[client.id]:
                if got.get("source", {}).get("id") != limited.id or got.get("event") == "$cancel":
                    continue
                sent = batch[got["data"]]
                answer = asked and sent.op == 5 and sent.id == "asked" and client is others[0]
                assert answer or may_be_sent(settings, sent, client.peer.source.group), sent
                asked = asked and not answer
        # What is refused is refused by its id, and the connection stays.
        assert not limited.gone
        if all(frame.op == 0 for frame in batch):
            denied = [
                got
                for got in came[limited.id]
                if "you may not" in got.get("error", {}).get("message", "")
            ]
            receivers = [client.peer.source.group for client in everyone]
            expected = [
                frame
                for frame in batch
                if frame.event not in ("$cancel", None)
                and not may_be_sent(settings, frame, group_of(frame, receivers))
            ]
            assert len(denied) == len(expected)


def group_of(frame: Sent, receivers: list[str]) -> str:
    """The group that a frame of the model goes to."""
    return receivers[frame.number] if frame.target == "DIRECT" else IN_TURN[frame.number]


def encoded(frame: Sent, identifier: str, number: int) -> bytes:
    intent: dict[str, Any] = {"target": frame.target}
    if identifier:
        intent["identifier"] = identifier
    if frame.pick and frame.target == "GROUP":
        intent["pick"] = frame.pick
    if frame.key:
        intent["key"] = frame.key
    body: dict[str, Any] = {"op": frame.op, "id": frame.id, "intent": intent, "data": number}
    if frame.event is not None:
        body["event"] = frame.event
    if frame.timeout is not None and frame.op == 0:
        body["timeout"] = frame.timeout
    return msgspec.json.encode(body) + b"\n"


@given(st.lists(sent_frames, min_size=1, max_size=12))
def test_who_may_do_everything_in_patterns_is_as_free_as_who_is_not_looked_at(
    frames: list[Sent],
) -> None:
    """Rules that forbid nothing give the same mesh, frame by frame, as no rules."""
    outcomes = []
    for permissions in (PermissionSettings(), PermissionSettings(send_events=("**",))):
        mesh = MemoryMesh(
            Settings(tokens=(TokenSettings(hash_token(TOKEN), permissions=permissions),))
        )
        clients = [mesh.join(group) for group in (*GROUPS, "red", "blue", "green")]
        assert (clients[0].peer.permissions is None) == (permissions == PermissionSettings())
        came = []
        for number, frame in enumerate(frames):
            names = {
                "GLOBAL": "",
                "GROUP": IN_TURN[frame.number],
                "DIRECT": clients[frame.number].id,
            }
            clients[0].send_bytes(encoded(frame, names[frame.target], number))
            came.append([client.take() for client in clients])
        outcomes.append(came)

    assert outcomes[0] == outcomes[1]
