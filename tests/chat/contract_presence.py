"""What stores promise about sessions, and the rooms that they are in."""

from __future__ import annotations

import pytest

from services.chat.messages import Session, SyncSessions
from services.chat.model import Room, RoomKind, User
from services.chat.store import (
    Departure,
    Entry,
    Holder,
    Moves,
    NameTakenError,
    NewRoom,
    NoRecordError,
    Store,
)
from tests.chat.database import Database, Promises, account, at_once, hold

PRESENCE = Promises()


def ephemeral(name: str) -> NewRoom:
    return NewRoom(name, RoomKind.PUBLIC, 5, ephemeral=True)


async def there(store: Store, room_id: int) -> list[int]:
    return [user.id for user in (await store.present(room_id, 100)).users]


def left(departures: list[Departure]) -> list[tuple[int, int, bool, bool]]:
    return [(one.room.id, one.user_id, one.gone, one.removed) for one in departures]


async def crowd(store: Store) -> tuple[User, User, Room]:
    """Make two users and an ephemeral room with nobody in it but the first, by session "s"."""
    bob, eve = await account(store, "bob"), await account(store, "eve")
    entry = await store.enter(Holder("gateway", "s"), bob.id, None, ephemeral("games"))
    return bob, eve, entry.room


@PRESENCE.add
async def who_enters_is_there(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        assert await there(store, room.id) == [bob.id]
        entry = await store.enter(Holder("gateway", "t"), eve.id, room.id, None)
        assert (entry.room.id, entry.user_id, entry.created, entry.arrived) == (
            room.id, eve.id, False, True,
        )  # fmt: skip
        found = await store.present(room.id, 100)
        assert [(user.id, user.online) for user in found.users] == [(bob.id, True), (eve.id, True)]
        assert found.total == 2
        assert await store.is_present(room.id, eve.id)
        assert not await store.is_present(1, eve.id)
        assert not await store.is_present(2**63, eve.id)


@PRESENCE.add
async def entering_again_makes_no_difference(database: Database) -> None:
    async with database.open() as store:
        bob, _, room = await crowd(store)
        before = await store.present(room.id, 100)
        entry = await store.enter(Holder("gateway", "s"), bob.id, room.id, None)
        assert (entry.created, entry.arrived) == (False, False)
        entry = await store.enter(Holder("gateway", "s"), bob.id, None, ephemeral("games"))
        assert (entry.room.id, entry.created, entry.arrived) == (room.id, False, False)
        assert await store.present(room.id, 100) == before


@PRESENCE.add
async def what_is_not_there_cannot_be_entered(database: Database) -> None:
    async with database.open() as store:
        bob, _, _ = await crowd(store)
        holder = Holder("gateway", "s")
        for room_id, new in ((77, None), (2**63, None), (None, None), (77, ephemeral("more"))):
            with pytest.raises(NoRecordError):
                await store.enter(holder, bob.id, room_id, new)
        with pytest.raises(NoRecordError):
            await store.enter(Holder("gateway", "t"), 77, 1, None)
        with pytest.raises(NoRecordError):
            await store.enter(Holder("gateway", "t"), 77, None, ephemeral("more"))
        assert await store.room(name="more") is None


@PRESENCE.add
async def a_session_enters_as_one_user_only(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        with pytest.raises(NameTakenError):
            await store.enter(Holder("gateway", "s"), eve.id, 1, None)
        assert await there(store, 1) == []
        assert await there(store, room.id) == [bob.id]


@PRESENCE.add
async def a_user_is_in_a_room_by_any_of_their_sessions(database: Database) -> None:
    async with database.open() as store:
        bob, _, room = await crowd(store)
        another = Holder("another gateway", "s")
        entry = await store.enter(another, bob.id, room.id, None)
        assert not entry.arrived
        assert await there(store, room.id) == [bob.id]
        departure = await store.leave(Holder("gateway", "s"), room.id)
        assert departure is not None
        assert left([departure]) == [(room.id, bob.id, False, False)]
        assert await store.is_present(room.id, bob.id)
        departure = await store.leave(another, room.id)
        assert departure is not None
        assert left([departure]) == [(room.id, bob.id, True, True)]
        assert await store.room(id=room.id) is None


@PRESENCE.add
async def a_session_leaves_only_where_it_is(database: Database) -> None:
    async with database.open() as store:
        bob, _, room = await crowd(store)
        holder = Holder("gateway", "s")
        assert await store.leave(holder, 1) is None
        assert await store.leave(holder, 77) is None
        assert await store.leave(holder, 2**63) is None
        assert await store.leave(Holder("gateway", "unknown"), room.id) is None
        assert await store.leave(Holder("another", "s"), room.id) is None
        assert await there(store, room.id) == [bob.id]


@PRESENCE.add
async def an_ordinary_room_stays_when_it_is_empty(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        holder = await hold(store, bob, "s")
        room = (await store.enter(holder, bob.id, None, NewRoom("games", RoomKind.PUBLIC, 5))).room
        departure = await store.leave(holder, room.id)
        assert departure is not None
        assert (departure.gone, departure.removed) == (True, False)
        assert await store.room(id=room.id) is not None


@PRESENCE.add
async def a_session_leaves_all_its_rooms_at_its_end(database: Database) -> None:
    async with database.open() as store:
        bob, _, room = await crowd(store)
        holder = Holder("gateway", "s")
        await store.enter(holder, bob.id, 1, None)
        await store.enter(Holder("gateway", "t"), bob.id, 1, None)
        departures = await store.close_session(holder)
        assert left(departures) == [(1, bob.id, False, False), (room.id, bob.id, True, True)]
        assert await there(store, 1) == [bob.id]
        assert await store.close_session(holder) == []


@PRESENCE.add
async def a_session_of_another_user_starts_anew(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        holder = Holder("gateway", "s")
        assert await store.open_session(holder, bob.id) == []
        assert left(await store.open_session(holder, eve.id)) == [(room.id, bob.id, True, True)]
        found = await store.user(id=bob.id)
        assert found is not None
        assert not found.online
        with pytest.raises(NoRecordError):
            await store.open_session(holder, 77)
        with pytest.raises(NoRecordError):
            await store.open_session(holder, 2**63)


@PRESENCE.add
async def a_session_keeps_its_rooms_under_another_name(database: Database) -> None:
    async with database.open() as store:
        one, other = Holder("gateway", "one"), Holder("gateway", "other")
        eve = (await store.claim_guest(one, "eve", 1, exclusive=False)).user
        await store.claim_guest(other, "eve", 1, exclusive=False)
        for holder in (one, other):
            await store.enter(holder, eve.id, 1, None)
        await store.enter(one, eve.id, None, ephemeral("games"))
        room = await store.room(name="games")
        assert room is not None
        claim = await store.claim_guest(one, "mallory", 1, exclusive=True)
        new = claim.user
        assert [(entry.room.id, entry.user_id) for entry in claim.entries] == [
            (1, new.id),
            (room.id, new.id),
        ]
        # In the first room, the other session is eve still.
        assert left(list(claim.departures)) == [(room.id, eve.id, True, False)]
        assert await there(store, 1) == [eve.id, new.id]
        assert await there(store, room.id) == [new.id]
        claim = await store.claim_anonymous(one)
        assert left(list(claim.departures)) == [
            (1, new.id, True, False),
            (room.id, new.id, True, False),
        ]
        assert await there(store, room.id) == [claim.user.id]
        assert left(await store.close_session(one))[-1] == (room.id, claim.user.id, True, True)


@PRESENCE.add
async def changes_of_who_is_in_a_room_are_counted(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        counts = [(await store.present(room.id, 9)).changes]
        await store.enter(Holder("gateway", "t"), eve.id, room.id, None)
        counts.append((await store.present(room.id, 9)).changes)
        await store.leave(Holder("gateway", "t"), room.id)
        counts.append((await store.present(room.id, 9)).changes)
        assert counts == sorted(set(counts))
        found = await store.room(id=room.id)
        assert found is not None
        assert found.changes == counts[-1]
        await store.add_message(room.id, bob.id, "hello", "key", 5)
        assert (await store.present(room.id, 9)).changes == counts[-1]


@PRESENCE.add
async def a_crowd_is_told_in_part(database: Database) -> None:
    async with database.open() as store:
        users = [await account(store, f"user {number}") for number in range(5)]
        for user in reversed(users):
            await store.enter(Holder("gateway", user.username), user.id, 1, None)
        found = await store.present(1, 3)
        assert [user.id for user in found.users] == [user.id for user in users[:3]]
        assert found.total == 5


@PRESENCE.add
async def sessions_end_with_their_gateway(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        await store.enter(Holder("gateway", "t"), eve.id, 1, None)
        await store.enter(Holder("another", "t"), eve.id, 1, None)
        assert await store.gateways() == {"gateway", "another"}
        departures = left(await store.close_gateway("gateway"))
        assert sorted(departures) == [(1, eve.id, False, False), (room.id, bob.id, True, True)]
        assert await store.gateways() == {"another"}
        assert await there(store, 1) == [eve.id]
        assert await store.close_gateway("gateway") == []
        assert await store.close_gateway("unknown") == []


def told(*sessions: tuple[str, int, tuple[int, ...]]) -> tuple[Session, ...]:
    return tuple(Session(name, user_id, rooms) for name, user_id, rooms in sessions)


async def sync(
    store: Store, gateway: str, previous: str | None, sessions: tuple[Session, ...]
) -> tuple[list[Departure], list[Entry]]:
    moves = await store.sync_gateway(gateway, SyncSessions(sessions, previous))
    return list(moves.departures), list(moves.entries)


@PRESENCE.add
async def a_gateway_takes_its_sessions_along(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        await store.enter(Holder("gateway", "t"), eve.id, 1, None)
        before = [await store.present(id, 9) for id in (1, room.id)]
        sessions = told(("s", bob.id, (room.id,)), ("t", eve.id, (1,)))
        # Nobody leaves for a moment: neither would the ephemeral room be there any more.
        assert await sync(store, "new", "gateway", sessions) == ([], [])
        assert [await store.present(id, 9) for id in (1, room.id)] == before
        assert await store.gateways() == {"new"}
        # Told again, it makes no difference; nor does the end of what was before.
        assert await sync(store, "new", "gateway", sessions) == ([], [])
        assert await sync(store, "new", "new", sessions) == ([], [])
        assert await store.close_gateway("gateway") == []
        assert await there(store, room.id) == [bob.id]


@PRESENCE.add
async def what_a_gateway_does_not_speak_of_ends(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        await store.enter(Holder("gateway", "s"), bob.id, 1, None)
        await store.enter(Holder("gateway", "t"), eve.id, 1, None)
        departures, entries = await sync(store, "gateway", None, told(("s", bob.id, (1,))))
        assert sorted(left(departures)) == [(1, eve.id, True, False), (room.id, bob.id, True, True)]
        assert entries == []
        found = await store.user(id=eve.id)
        assert found is not None
        assert not found.online
        departures, _ = await sync(store, "new", "gateway", ())
        assert left(departures) == [(1, bob.id, True, False)]
        assert await store.gateways() == frozenset()


@PRESENCE.add
async def a_gateway_brings_back_sessions_that_had_ended(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        await store.close_gateway("gateway")
        sessions = told(("s", bob.id, (room.id, 1)), ("t", 77, (1,)), ("u", eve.id, (1, 2**40)))
        departures, entries = await sync(store, "new", "gateway", sessions)
        # The ephemeral room has gone; so has a user that nobody knows.
        assert departures == []
        assert sorted((entry.room.id, entry.user_id) for entry in entries) == [
            (1, bob.id),
            (1, eve.id),
        ]
        assert await there(store, 1) == [bob.id, eve.id]


@PRESENCE.add
async def a_gateway_brings_names_of_ones_own_along(database: Database) -> None:
    async with database.open() as store:
        eve = (await store.claim_guest(Holder("old", "s"), "eve", 1, exclusive=True)).user
        await sync(store, "new", "old", (Session("s", eve.id, (), exclusive=True),))
        for holder in (Holder("new", "t"), Holder("old", "s")):
            with pytest.raises(NameTakenError):
                await store.claim_guest(holder, "eve", 1, exclusive=False)
        await store.claim_guest(Holder("new", "s"), "eve", 1, exclusive=False)
        await store.claim_guest(Holder("new", "t"), "eve", 1, exclusive=False)


@PRESENCE.add
async def a_gateway_tells_of_a_session_that_is_another_user_now(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        departures, entries = await sync(store, "gateway", None, told(("s", eve.id, (room.id,))))
        assert left(departures) == [(room.id, bob.id, True, False)]
        assert [(entry.room.id, entry.user_id) for entry in entries] == [(room.id, eve.id)]
        assert await there(store, room.id) == [eve.id]


@PRESENCE.add
async def a_gateway_may_tell_its_sessions_in_parts(database: Database) -> None:
    async with database.open() as store:
        bob, eve, room = await crowd(store)
        await store.enter(Holder("gateway", "t"), eve.id, room.id, None)
        await store.enter(Holder("gateway", "u"), eve.id, 1, None)
        first = SyncSessions(told(("s", bob.id, (room.id, 77))), "gateway", more=True)
        assert await store.sync_gateway("new", first) == Moves((), (), (77,))
        # What has not been told yet is as it was.
        assert await store.gateways() == {"gateway", "new"}
        assert await there(store, room.id) == [bob.id, eve.id]
        last = SyncSessions(told(("t", eve.id, (room.id,))), "gateway", kept=("s",))
        moves = await store.sync_gateway("new", last)
        assert left(list(moves.departures)) == [(1, eve.id, True, False)]
        assert (moves.entries, moves.gone) == ((), ())
        assert await store.gateways() == {"new"}
        assert await there(store, room.id) == [bob.id, eve.id]


@PRESENCE.add
async def a_session_may_be_in_many_rooms(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        holder = await hold(store, bob, "s")
        rooms = [
            (await store.enter(holder, bob.id, None, ephemeral(f"room {number}"))).room.id
            for number in range(20)
        ]
        many = [await store.add_room(NewRoom(f"r{n}", RoomKind.PUBLIC, 5)) for n in range(110)]
        rooms += [room.id for room in many]
        moves = await store.sync_gateway("new", SyncSessions(told(("s", bob.id, tuple(rooms)))))
        assert [entry.room.id for entry in moves.entries] == rooms[20:]
        assert await store.close_session(holder) != []
        departures = await store.close_gateway("new")
        assert [(one.room.id, one.gone, one.removed) for one in departures] == [
            (id, True, place < 20) for place, id in enumerate(rooms)
        ]
        assert (await store.counts(1)).rooms == 111


@PRESENCE.add
async def names_of_sessions_may_be_anything(database: Database) -> None:
    async with database.open() as store:
        bob = await account(store)
        pairs = [("g", 's","t'), ('g","s', "t"), ("g:s", "t"), ("g", "s:t"), ("g\0", "ü"), ("", "")]
        for gateway, session in pairs:
            await store.enter(Holder(gateway, session), bob.id, 1, None)
        ended = [await store.leave(Holder(*pair), 1) for pair in pairs]
        assert [departure is not None and departure.gone for departure in ended] == [
            *[False] * (len(pairs) - 1),
            True,
        ]


@PRESENCE.add
async def one_of_many_makes_the_room_that_all_enter(database: Database) -> None:
    entries: list[Entry] = []
    async with database.open() as one, database.open() as other:
        users = [await account(one, f"user {number}") for number in range(10)]

        async def enter(store: Store, user: User) -> None:
            holder = Holder("gateway", user.username)
            entries.append(await store.enter(holder, user.id, None, ephemeral("games")))

        await at_once(
            *(
                lambda store=store, user=user: enter(store, user)
                for store, user in zip([one, other] * 5, users, strict=True)
            )
        )
        assert [entry.created for entry in entries].count(True) == 1
        assert {entry.arrived for entry in entries} == {True}
        (room_id,) = {entry.room.id for entry in entries}
        assert await there(one, room_id) == [user.id for user in users]


@PRESENCE.add
async def one_session_from_many_sides_is_one_session(database: Database) -> None:
    async with database.open() as one, database.open() as other:
        bob = await account(one)
        holder = Holder("gateway", "s")
        await at_once(
            *(lambda store=store: store.open_session(holder, bob.id) for store in [one, other] * 3),
            *(
                lambda store=store: store.enter(holder, bob.id, None, ephemeral("games"))
                for store in [one, other] * 3
            ),
        )
        assert (await one.counts(1)).online == 1
        assert [departure.removed for departure in await one.close_session(holder)] == [True]
        assert (await one.counts(1)).online == 0


@PRESENCE.add
async def coming_and_going_of_many_leaves_nothing(database: Database) -> None:
    async with database.open() as one, database.open() as other:
        users = [await account(one, f"user {number}") for number in range(8)]

        async def come_and_go(store: Store, user: User) -> None:
            for _ in range(3):
                holder = Holder("gateway", user.username)
                for name in ("games", "news"):
                    await store.enter(holder, user.id, None, ephemeral(name))
                await store.close_session(holder)

        await at_once(
            *(
                lambda store=store, user=user: come_and_go(store, user)
                for store, user in zip([one, other] * 4, users, strict=True)
            )
        )
        counts = await one.counts(1)
        assert (counts.online, counts.rooms) == (0, 1)
