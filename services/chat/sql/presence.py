"""Sessions, and the rooms that they are in, in SQL.

All of these run one after another, also on PostgreSQL (see `SqlStore`): so what is looked up stays
true until the end of the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from services.chat.messages import ANONYMOUS_NAME, SyncSessions
from services.chat.model import User, UserKind
from services.chat.sql.rooms import (
    add_room,
    find_room,
    lock_room,
    lock_rooms,
    parts,
    remove_rooms,
)
from services.chat.sql.schema import presence, rooms, sessions, users
from services.chat.sql.users import (
    find_user,
    get_or_add_user,
    read_user,
    require_user,
    select_users,
)
from services.chat.store import (
    Claim,
    Crowd,
    Departure,
    Entry,
    Holder,
    Moves,
    NameTakenError,
    NewRoom,
    NoRecordError,
    name_key,
)

__all__ = [
    "claim_anonymous",
    "claim_guest",
    "close_gateway",
    "close_session",
    "enter",
    "is_present",
    "leave",
    "list_gateways",
    "list_present",
    "open_session",
    "sync_gateway",
]


def _is(holder: Holder) -> ColumnElement[bool]:
    return and_(sessions.c.gateway == holder.gateway, sessions.c.session == holder.session)


def _user_of(connection: Connection, holder: Holder) -> int | None:
    return connection.execute(select(sessions.c.user_id).where(_is(holder))).scalar()


def _rooms_of(connection: Connection, holder: Holder) -> list[int]:
    places = select(presence.c.room_id).where(
        presence.c.gateway == holder.gateway, presence.c.session == holder.session
    )
    return list(connection.execute(places.order_by(presence.c.room_id)).scalars())


def _rooms_with(connection: Connection, user_id: int, room_ids: Iterable[int]) -> set[int]:
    """Return those of the rooms that a user is in."""
    there = (
        select(presence.c.room_id)
        .join(sessions)
        .where(presence.c.room_id == rooms.c.id, sessions.c.user_id == user_id)
        .exists()
    )
    return {
        id
        for part in parts(room_ids)
        for id in connection.execute(
            select(rooms.c.id).where(rooms.c.id.in_(part), there)
        ).scalars()
    }


def _count_changes(connection: Connection, room_ids: Iterable[int]) -> None:
    for part in parts(room_ids):
        connection.execute(
            update(rooms).where(rooms.c.id.in_(part)).values(changes=rooms.c.changes + 1)
        )


# -- names -----------------------------------------------------------------------------------------


def claim_guest(
    connection: Connection, holder: Holder, username: str, now: int, exclusive: bool
) -> Claim:
    """See `Store.claim_guest`."""
    key = name_key(username)
    account = and_(users.c.name_key == key, users.c.kind == UserKind.ACCOUNT.value)
    if find_user(connection, account) is not None:
        raise NameTakenError(username)
    user, created = get_or_add_user(connection, username, UserKind.GUEST, now)
    others = and_(
        sessions.c.user_id == user.id,
        or_(sessions.c.gateway != holder.gateway, sessions.c.session != holder.session),
    )
    if not exclusive:
        others = and_(others, sessions.c.exclusive)
    if connection.execute(select(exists().where(others))).scalar():
        raise NameTakenError(username)
    return _claim(connection, holder, user, created=created, exclusive=exclusive)


def claim_anonymous(connection: Connection, holder: Holder) -> Claim:
    """See `Store.claim_anonymous`."""
    user, _ = get_or_add_user(connection, ANONYMOUS_NAME, UserKind.ANONYMOUS, 0)
    return _claim(connection, holder, user, created=False, exclusive=False)


def _claim(
    connection: Connection, holder: Holder, user: User, *, created: bool, exclusive: bool
) -> Claim:
    """Give a session a user; its rooms stay."""
    former = _user_of(connection, holder)
    room_ids = [] if former in {None, user.id} else _rooms_of(connection, holder)
    new_there = set(room_ids) - _rooms_with(connection, user.id, room_ids)
    _set_user(connection, holder, user.id, exclusive=exclusive)
    entries: list[Entry] = []
    departures: list[Departure] = []
    _count_changes(connection, room_ids)
    still = set() if former is None else _rooms_with(connection, former, room_ids)
    for room in lock_rooms(connection, room_ids):
        if room.id in new_there:
            entries.append(Entry(room, user.id, created=False, arrived=True))
        if room.id not in still and former is not None:
            departures.append(Departure(room, former, gone=True, removed=False))
    shown = User(user.id, user.uuid, user.username, user.kind, user.created, online=True)
    return Claim(shown, created, tuple(departures), tuple(entries))


def _set_user(connection: Connection, holder: Holder, user_id: int, *, exclusive: bool) -> None:
    values = {"user_id": user_id, "exclusive": exclusive}
    changed = connection.execute(update(sessions).where(_is(holder)).values(**values))
    if not changed.rowcount:
        connection.execute(
            insert(sessions).values(gateway=holder.gateway, session=holder.session, **values)
        )


# -- coming and going ------------------------------------------------------------------------------


def open_session(connection: Connection, holder: Holder, user_id: int) -> list[Departure]:
    """See `Store.open_session`."""
    require_user(connection, user_id)
    found = _user_of(connection, holder)
    departures: list[Departure] = []
    if found is not None and found != user_id:
        departures = close_session(connection, holder)
    if found != user_id:
        _set_user(connection, holder, user_id, exclusive=False)
    return departures


def enter(
    connection: Connection,
    holder: Holder,
    user_id: int,
    room_id: int | None,
    new: NewRoom | None,
) -> Entry:
    """See `Store.enter`."""
    require_user(connection, user_id)
    found = _user_of(connection, holder)
    if found is not None and found != user_id:
        raise NameTakenError(f"the session is one of user {found}")
    if room_id is not None:
        room = lock_room(connection, rooms.c.id == room_id)
    else:
        room = None if new is None else lock_room(connection, rooms.c.name == new.name)
    created = room is None and new is not None and room_id is None
    if created and new is not None:
        room = add_room(connection, new)
    if room is None:
        raise NoRecordError(f"room {room_id}")
    if found is None:
        _set_user(connection, holder, user_id, exclusive=False)
    arrived = not is_present(connection, room.id, user_id)
    place = {"gateway": holder.gateway, "session": holder.session, "room_id": room.id}
    is_place = and_(*(presence.c[name] == value for name, value in place.items()))
    if not connection.execute(select(exists().where(is_place))).scalar():
        connection.execute(insert(presence).values(**place))
    if arrived:
        _count_changes(connection, [room.id])
    return Entry(room, user_id, created, arrived)


def _enter_rooms(
    connection: Connection, holder: Holder, user_id: int, room_ids: Iterable[int]
) -> tuple[list[Entry], set[int]]:
    """Let a session enter many rooms; return what is new by it, and the ids that are no room's."""
    wanted = set(room_ids)
    found = lock_rooms(connection, wanted)
    before = _rooms_with(connection, user_id, wanted)
    places = [
        {"gateway": holder.gateway, "session": holder.session, "room_id": id}
        for id in sorted({room.id for room in found} - set(_rooms_of(connection, holder)))
    ]
    if places:
        connection.execute(insert(presence), places)
    arrived = [room for room in found if room.id not in before]
    _count_changes(connection, (room.id for room in arrived))
    entries = [Entry(room, user_id, created=False, arrived=True) for room in arrived]
    return entries, wanted - {room.id for room in found}


def leave(connection: Connection, holder: Holder, room_id: int) -> Departure | None:
    """See `Store.leave`."""
    user_id = _user_of(connection, holder)
    if user_id is None or room_id not in _rooms_of(connection, holder):
        return None
    return _leave_rooms(connection, holder, user_id, [room_id])[0]


def _leave_rooms(
    connection: Connection, holder: Holder, user_id: int, room_ids: Sequence[int]
) -> list[Departure]:
    """Let a session leave rooms that it is in."""
    if not room_ids:
        return []
    found = lock_rooms(connection, room_ids)
    own = and_(presence.c.gateway == holder.gateway, presence.c.session == holder.session)
    for part in parts(room_ids):
        connection.execute(delete(presence).where(own, presence.c.room_id.in_(part)))
    gone = set(room_ids) - _rooms_with(connection, user_id, room_ids)
    _count_changes(connection, gone)
    removed = {room.id for room in found if room.ephemeral}
    for part in parts(removed):
        occupied = select(presence.c.room_id).where(presence.c.room_id.in_(part)).distinct()
        removed -= set(connection.execute(occupied).scalars())
    remove_rooms(connection, removed)
    return [Departure(room, user_id, room.id in gone, room.id in removed) for room in found]


def close_session(connection: Connection, holder: Holder) -> list[Departure]:
    """See `Store.close_session`."""
    user_id = _user_of(connection, holder)
    if user_id is None:
        return []
    departures = _leave_rooms(connection, holder, user_id, _rooms_of(connection, holder))
    connection.execute(delete(sessions).where(_is(holder)))
    return departures


def _sessions_of(connection: Connection, gateway: str) -> list[str]:
    names = select(sessions.c.session).where(sessions.c.gateway == gateway)
    return list(connection.execute(names).scalars())


def close_gateway(connection: Connection, gateway: str) -> list[Departure]:
    """See `Store.close_gateway`."""
    return [
        departure
        for name in _sessions_of(connection, gateway)
        for departure in close_session(connection, Holder(gateway, name))
    ]


def sync_gateway(connection: Connection, gateway: str, told: SyncSessions) -> Moves:
    """See `Store.sync_gateway`."""
    departures: list[Departure] = []
    entries: list[Entry] = []
    gone: set[int] = set()
    former = told.previous if told.previous != gateway else None
    for session in told.sessions:
        holder = Holder(gateway, session.session)
        # First in, then out: so nobody leaves a room for a moment, and no ephemeral room goes away.
        user = find_user(connection, users.c.id == session.user_id)
        if user is not None:
            claim = _claim(connection, holder, user, created=False, exclusive=session.exclusive)
            entered, absent = _enter_rooms(connection, holder, user.id, session.rooms)
            departures += claim.departures
            entries += [*claim.entries, *entered]
            gone |= absent
            others = set(_rooms_of(connection, holder)) - set(session.rooms)
            departures += _leave_rooms(connection, holder, user.id, sorted(others))
        if former is not None:
            departures += close_session(connection, Holder(former, session.session))
    if not told.more:
        if former is not None:
            departures += close_gateway(connection, former)
        kept = {*told.kept, *(session.session for session in told.sessions)}
        for name in _sessions_of(connection, gateway):
            if name not in kept:
                departures += close_session(connection, Holder(gateway, name))
    return Moves(
        tuple(departure for departure in departures if departure.gone),
        tuple(entries),
        tuple(sorted(gone)),
    )


# -- looking ---------------------------------------------------------------------------------------


def list_gateways(connection: Connection) -> frozenset[str]:
    """See `Store.gateways`."""
    return frozenset(connection.execute(select(sessions.c.gateway).distinct()).scalars())


def list_present(connection: Connection, room_id: int, limit: int) -> Crowd:
    """See `Store.present`."""
    there = select(sessions.c.user_id).join(presence).where(presence.c.room_id == room_id)
    condition = users.c.id.in_(there)
    statement = select_users().where(condition).order_by(users.c.id).limit(limit)
    # In this order: who comes in between is in the list, under the older count.
    room = find_room(connection, rooms.c.id == room_id)
    found = tuple(read_user(row) for row in connection.execute(statement))
    total = len(found)
    if total == limit:
        count = select(func.count()).select_from(users).where(condition)
        total = connection.execute(count).scalar_one()
    return Crowd(found, total, 0 if room is None else room.changes)


def is_present(connection: Connection, room_id: int, user_id: int) -> bool:
    """See `Store.is_present`."""
    there = (
        select(presence.c.room_id)
        .join(sessions)
        .where(presence.c.room_id == room_id, sessions.c.user_id == user_id)
    )
    return connection.execute(there.limit(1)).first() is not None
