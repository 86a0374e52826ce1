"""Room ids and names of rooms: one for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateways.rooms.room_ids import RoomId, to_name, to_room_id

TRICKY = st.from_regex(r"\A#{0,4}-?[0-9]{0,3}\Z")
IDS = st.one_of(st.integers(), st.text(), TRICKY)
NAMES = st.one_of(st.text(), TRICKY)


@pytest.mark.parametrize(
    ("room_id", "name"),
    [
        (1, "#1"),
        ("1", "1"),
        ("#1", "##1"),
        ("##1", "###1"),
        (-5, "#-5"),
        ("#-5", "##-5"),
        ("#007", "#007"),
        ("#-0", "#-0"),
        ("#", "#"),
        ("#\u0661", "#\u0661"),
        ("secret", "secret"),
    ],
)
def test_what_ids_are_called(room_id: RoomId, name: str) -> None:
    assert to_name(room_id) == name
    assert to_room_id(name) == room_id


@given(IDS)
def test_an_id_comes_back_from_its_name(room_id: RoomId) -> None:
    back = to_room_id(to_name(room_id))
    assert (type(back), back) == (type(room_id), room_id)


@given(NAMES)
def test_a_name_comes_back_from_its_id(name: str) -> None:
    assert to_name(to_room_id(name)) == name
