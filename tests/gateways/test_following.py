"""Who gets which message."""

from __future__ import annotations

import attrs

from services.chat.messages import Posted
from services.chat.model import Message, Room, RoomKind
from services.gateways.following import Following

ROOM = Room(5, "a", "", RoomKind.PUBLIC, ephemeral=True, creator_id=None, created=0)


def posted(number: int, room: Room = ROOM) -> Posted:
    return Posted(Message(100 + number, room.id, number, 1, "Alice", "hello", 0), room)


def receivers(following: Following[str, str], number: int = 9) -> list[tuple[str, str]]:
    return [(place.client, place.label) for place in following.receivers(posted(number))]


def test_whoever_follows_a_room_gets_its_messages() -> None:
    following: Following[str, str] = Following()
    following.begin("one", ROOM, "its room", 0)
    following.begin("two", ROOM, "their room", 0)
    following.begin("two", attrs.evolve(ROOM, id=6, name="b"), "another", 0)
    assert receivers(following) == [("one", "its room"), ("two", "their room")]
    assert following.room_of("two", "another") == 6
    following.leave("one", "its room")
    assert receivers(following) == [("two", "their room")]
    following.forget("two")
    assert receivers(following) == []
    assert following.room_of("two", "another") is None


def test_what_was_before_is_not_for_newcomers() -> None:
    following: Following[str, str] = Following()
    following.begin("one", ROOM, "a", 3)
    assert receivers(following, number=2) == []
    assert receivers(following, number=3) == [("one", "a")]


def test_what_comes_during_joining_is_kept() -> None:
    following: Following[str, str] = Following()
    with following.expect("one", "a"):
        for number in (2, 3, 4):
            assert receivers(following, number=number) == []
        kept = following.begin("one", ROOM, "a", 3)
    assert [one.message.number for one in kept] == [3, 4]
    assert receivers(following, number=5) == [("one", "a")]


def test_nothing_is_kept_for_who_did_not_get_in() -> None:
    following: Following[str, str] = Following()
    with following.expect("one", "a"):
        receivers(following, number=1)
    assert following.begin("one", ROOM, "a", 0) == []


def test_a_room_that_is_gone_is_followed_by_nobody() -> None:
    following: Following[str, str] = Following()
    following.begin("one", ROOM, "a", 0)
    following.begin("two", ROOM, "a", 0)
    following.forget_room(ROOM.id)
    assert receivers(following) == []
    assert following.room_of("one", "a") is None


def test_a_room_with_a_new_name_is_followed_once() -> None:
    following: Following[str, str] = Following()
    following.begin("one", ROOM, "a", 0)
    following.begin("one", attrs.evolve(ROOM, name="b"), "b", 0)
    assert receivers(following) == [("one", "b")]
    assert following.room_of("one", "a") is None
    following.leave("one", "a")
    following.leave("one", "b")
    assert receivers(following) == []


def test_to_leave_what_is_not_followed_is_no_error() -> None:
    following: Following[str, str] = Following()
    following.leave("one", "a")
    following.forget("one")
    following.forget_room(1)
    assert receivers(following) == []
