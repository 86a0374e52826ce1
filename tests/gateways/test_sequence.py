"""The order of messages: each once, in the order of its room, however they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.chat.messages import Posted
from services.chat.model import Message, Room, RoomKind
from services.gateways.sequence import Sequencer


def posted(number: int, room_id: int = 1) -> Posted:
    room = Room(room_id, f"room {room_id}", "", RoomKind.PUBLIC, False, None, 0)
    return Posted(Message(number, room_id, number, 1, "bob", f"message {number}", 0), room)


def numbers(found: list[Posted]) -> list[int]:
    return [one.message.number for one in found]


def test_what_comes_in_order_is_given_out_at_once() -> None:
    sequencer = Sequencer()
    assert [numbers(sequencer.take(posted(number))) for number in range(3)] == [[0], [1], [2]]
    assert not sequencer.missing(1)
    assert sequencer.next(1) == 3


def test_what_is_early_waits() -> None:
    sequencer = Sequencer()
    assert sequencer.take(posted(2)) == []
    assert sequencer.take(posted(1)) == []
    assert sequencer.missing(1)
    assert sequencer.next(1) == 0
    assert numbers(sequencer.take(posted(0))) == [0, 1, 2]
    assert not sequencer.missing(1)


def test_what_has_been_seen_is_not_given_out_again() -> None:
    sequencer = Sequencer()
    sequencer.take(posted(0))
    assert sequencer.take(posted(0)) == []
    sequencer.take(posted(2))
    assert sequencer.take(posted(2)) == []
    assert numbers(sequencer.take(posted(1))) == [1, 2]


def test_a_room_begins_where_it_is_known_to_be() -> None:
    sequencer = Sequencer()
    sequencer.know(1, 5)
    assert sequencer.take(posted(4)) == []
    assert numbers(sequencer.take(posted(5))) == [5]
    # Known already, it goes on as it does.
    sequencer.know(1, 9)
    assert numbers(sequencer.take(posted(6))) == [6]


def test_rooms_do_not_wait_for_each_other() -> None:
    sequencer = Sequencer()
    assert sequencer.take(posted(1, room_id=1)) == []
    assert numbers(sequencer.take(posted(0, room_id=2))) == [0]
    assert sequencer.missing(1)
    assert not sequencer.missing(2)


def test_a_room_that_is_forgotten_begins_anew() -> None:
    sequencer = Sequencer()
    sequencer.take(posted(0))
    sequencer.take(posted(2))
    sequencer.forget(1)
    assert not sequencer.missing(1)
    assert numbers(sequencer.take(posted(0))) == [0]


@given(
    start=st.integers(0, 3),
    arrivals=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 12)), max_size=80),
)
def test_any_arrival_is_given_out_once_in_order(
    start: int, arrivals: list[tuple[int, int]]
) -> None:
    """Any order, duplicates, gaps that are filled in the end: each once, in order."""
    sequencer = Sequencer()
    given_out: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for room_id in given_out:
        sequencer.know(room_id, start)
    for room_id, number in arrivals:
        given_out[room_id] += numbers(sequencer.take(posted(number, room_id)))
        highest = max((n for room, n in arrivals if room == room_id), default=0)
        assert sequencer.next(room_id) <= max(start, highest + 1)
    for room_id, seen in given_out.items():
        came = {number for room, number in arrivals if room == room_id and number >= start}
        # So far: the run of those that have come, from the start to the first gap.
        run = start
        while run in came:
            run += 1
        assert seen == list(range(start, run))
        assert sequencer.next(room_id) == run
        assert sequencer.missing(room_id) == bool(came - set(seen))
        # The gaps are filled, as the hub does it: from the next one on.
        highest = max(came, default=start - 1)
        for number in range(sequencer.next(room_id), highest + 1):
            seen += numbers(sequencer.take(posted(number, room_id)))
        assert seen == list(range(start, highest + 1))
        assert not sequencer.missing(room_id)
