"""Rooms in SQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from services.chat.model import Room, RoomKind
from services.chat.sql.schema import messages, presence, rooms, sessions
from services.chat.sql.users import require_user
from services.chat.store import NameTakenError, NewRoom, NoRecordError

__all__ = [
    "add_room",
    "find_room",
    "list_rooms",
    "lock_room",
    "lock_rooms",
    "parts",
    "password_hash",
    "private_room",
    "remove_room",
    "remove_rooms",
    "update_room",
]

# How many ids one statement names.
_AT_A_TIME: Final = 100

_COLUMNS = (
    rooms.c.id,
    rooms.c.name,
    rooms.c.description,
    rooms.c.kind,
    rooms.c.ephemeral,
    rooms.c.creator_id,
    rooms.c.created,
    rooms.c.first_id,
    rooms.c.second_id,
    rooms.c.messages,
    rooms.c.changes,
)


def _read(row: Row[*tuple[Any, ...]]) -> Room:
    return Room(
        row.id,
        row.name,
        row.description,
        RoomKind(row.kind),
        bool(row.ephemeral),
        row.creator_id,
        row.created,
        None if row.first_id is None else (row.first_id, row.second_id),
        row.messages,
        row.changes,
    )


def find_room(connection: Connection, condition: ColumnElement[bool]) -> Room | None:
    """Return one room."""
    row = connection.execute(select(*_COLUMNS).where(condition)).first()
    return None if row is None else _read(row)


def lock_room(connection: Connection, condition: ColumnElement[bool]) -> Room | None:
    """Return one room, which nobody else changes before the end of the transaction."""
    row = connection.execute(select(*_COLUMNS).where(condition).with_for_update()).first()
    return None if row is None else _read(row)


def lock_rooms(connection: Connection, ids: Iterable[int]) -> list[Room]:
    """Return those of the rooms that are there, by id; nobody else changes them."""
    return [
        _read(row)
        for part in parts(ids)
        for row in connection.execute(
            select(*_COLUMNS).where(rooms.c.id.in_(part)).order_by(rooms.c.id).with_for_update()
        )
    ]


def parts(ids: Iterable[int]) -> Iterator[list[int]]:
    """Cut ids into runs that a statement can name, in order."""
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _AT_A_TIME):
        yield ordered[start : start + _AT_A_TIME]


def add_room(connection: Connection, room: NewRoom) -> Room:
    """See `Store.add_room`."""
    return _add(connection, room, None)


def _add(connection: Connection, room: NewRoom, pair: tuple[int, int] | None) -> Room:
    statement = insert(rooms).values(
        name=room.name,
        description=room.description,
        kind=room.kind.value,
        ephemeral=room.ephemeral,
        creator_id=room.creator_id,
        created=room.created,
        password_hash=room.password_hash,
        first_id=None if pair is None else pair[0],
        second_id=None if pair is None else pair[1],
        messages=0,
        changes=0,
    )
    try:
        row = connection.execute(statement.returning(*_COLUMNS)).one()
    except IntegrityError as error:
        raise NameTakenError(room.name) from error
    return _read(row)


def private_room(
    connection: Connection, user_id: int, other_id: int, now: int
) -> tuple[Room, bool]:
    """See `Store.private_room`."""
    first, second = pair = (min(user_id, other_id), max(user_id, other_id))
    condition = and_(rooms.c.first_id == first, rooms.c.second_id == second)
    found = find_room(connection, condition)
    if found is not None:
        return found, False
    require_user(connection, first)
    require_user(connection, second)
    new = NewRoom(f"private-{uuid.uuid4()}", RoomKind.PRIVATE, now, creator_id=user_id)
    return _add(connection, new, pair), True


def password_hash(connection: Connection, id: int) -> str | None:
    """See `Store.room_password_hash`."""
    return connection.execute(select(rooms.c.password_hash).where(rooms.c.id == id)).scalar()


def list_rooms(
    connection: Connection,
    offset: int,
    limit: int,
    kinds: Sequence[RoomKind],
    of_user_id: int | None,
) -> tuple[tuple[Room, ...], int]:
    """See `Store.rooms`."""
    condition: ColumnElement[bool] = rooms.c.kind.in_([kind.value for kind in kinds])
    if of_user_id is not None:
        theirs = select(presence.c.room_id).join(sessions).where(sessions.c.user_id == of_user_id)
        condition = and_(condition, rooms.c.id.in_(theirs))
    total = connection.execute(
        select(func.count()).select_from(rooms).where(condition)
    ).scalar_one()
    statement = select(*_COLUMNS).where(condition).order_by(rooms.c.id).offset(offset).limit(limit)
    return tuple(_read(row) for row in connection.execute(statement)), total


def update_room(connection: Connection, id: int, name: str | None, description: str | None) -> Room:
    """See `Store.update_room`."""
    values = {"name": name, "description": description}
    changed = {key: value for key, value in values.items() if value is not None}
    try:
        if changed:
            connection.execute(update(rooms).where(rooms.c.id == id).values(**changed))
    except IntegrityError as error:
        raise NameTakenError(str(name)) from error
    room = find_room(connection, rooms.c.id == id)
    if room is None:
        raise NoRecordError(f"room {id}")
    return room


def remove_room(connection: Connection, id: int) -> Room | None:
    """See `Store.remove_room`."""
    room = lock_room(connection, rooms.c.id == id)
    remove_rooms(connection, [id])
    return room


def remove_rooms(connection: Connection, ids: Iterable[int]) -> None:
    """Remove rooms, which are locked, with all that is in them."""
    for part in parts(ids):
        connection.execute(delete(presence).where(presence.c.room_id.in_(part)))
        connection.execute(delete(messages).where(messages.c.room_id.in_(part)))
        connection.execute(delete(rooms).where(rooms.c.id.in_(part)))
