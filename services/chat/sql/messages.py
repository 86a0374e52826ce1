"""Messages, and what is counted, in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    distinct,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from services.chat.model import Message, RoomKind
from services.chat.pages import fit_page
from services.chat.sql.rooms import lock_room
from services.chat.sql.schema import messages, rooms, sessions, users, visits
from services.chat.sql.users import require_user
from services.chat.store import (
    MessageQuery,
    NameTakenError,
    NoRecordError,
    Page,
    StoreCounts,
)

__all__ = ["add_message", "add_visit", "count_all", "find_message", "list_messages"]

_COLUMNS = (
    messages.c.id,
    messages.c.room_id,
    messages.c.number,
    messages.c.user_id,
    messages.c.username,
    messages.c.text,
    messages.c.time,
)


def _read(row: Row[*tuple[Any, ...]]) -> Message:
    return Message(row.id, row.room_id, row.number, row.user_id, row.username, row.text, row.time)


def add_message(
    connection: Connection, room_id: int, user_id: int, *, text: str, key: str, now: int
) -> tuple[Message, bool]:
    """See `Store.add_message`."""
    # The lock makes the room's messages come one after another, so the numbers have no gap.
    room = lock_room(connection, rooms.c.id == room_id)
    if room is None:
        raise NoRecordError(f"room {room_id}")
    user = require_user(connection, user_id)
    row = connection.execute(select(*_COLUMNS).where(messages.c.key == key)).first()
    if row is not None:
        if (row.room_id, row.user_id) != (room_id, user_id):
            raise NameTakenError(key)
        return _read(row), False
    values = {
        "room_id": room_id,
        "number": room.messages,
        "user_id": user_id,
        "username": user.username,
        "text": text,
        "time": now,
    }
    statement = insert(messages).values(key=key, **values).returning(messages.c.id)
    try:
        id = connection.execute(statement).scalar_one()
    except IntegrityError as error:
        # On PostgreSQL, a message of another room may come in with the same key just now.
        raise NameTakenError(key) from error
    connection.execute(
        update(rooms).where(rooms.c.id == room_id).values(messages=room.messages + 1)
    )
    return Message(id, room_id, room.messages, user_id, user.username, text, now), True


def find_message(connection: Connection, id: int) -> Message | None:
    """See `Store.message`."""
    row = connection.execute(select(*_COLUMNS).where(messages.c.id == id)).first()
    return None if row is None else _read(row)


def list_messages(connection: Connection, query: MessageQuery) -> Page:
    """See `Store.messages`."""
    conditions: list[ColumnElement[bool]] = [true()]
    if query.room_id is None:
        public = select(rooms.c.id).where(rooms.c.kind == RoomKind.PUBLIC.value)
        conditions.append(messages.c.room_id.in_(public))
        order: ColumnElement[int] = messages.c.id
    else:
        conditions.append(messages.c.room_id == query.room_id)
        order = messages.c.number
    if query.user_id is not None:
        conditions.append(messages.c.user_id == query.user_id)
    if query.after is not None:
        conditions.append(messages.c.number > query.after)
    condition = and_(*conditions)
    total = connection.execute(
        select(func.count()).select_from(messages).where(condition)
    ).scalar_one()
    statement = (
        select(*_COLUMNS)
        .where(condition)
        .order_by(order.desc() if query.newest_first else order)
        .offset(query.offset)
        .limit(query.limit)
    )
    found = map(_read, connection.execute(statement))
    return Page(fit_page(found, query.max_bytes), total)


def add_visit(connection: Connection, day: int) -> tuple[int, int]:
    """See `Store.add_visit`."""
    changed = connection.execute(
        update(visits).where(visits.c.day == day).values(count=visits.c.count + 1)
    )
    if not changed.rowcount:
        connection.execute(insert(visits).values(day=day, count=1))
    return _visits(connection, day)


def _visits(connection: Connection, day: int) -> tuple[int, int]:
    today = connection.execute(select(visits.c.count).where(visits.c.day == day)).scalar()
    total = connection.execute(select(func.sum(visits.c.count))).scalar()
    return today or 0, total or 0


def count_all(connection: Connection, day: int) -> StoreCounts:
    """See `Store.counts`."""

    def count(statement: Any) -> int:  # noqa: ANN401 - any selection of one number
        return int(connection.execute(statement).scalar_one())

    listed = users.c.kind != "anonymous"
    today, total = _visits(connection, day)
    return StoreCounts(
        users=count(select(func.count()).select_from(users).where(listed)),
        accounts=count(select(func.count()).select_from(users).where(users.c.kind == "account")),
        online=count(select(func.count(distinct(sessions.c.user_id)))),
        rooms=count(select(func.count()).select_from(rooms)),
        messages=count(select(func.count()).select_from(messages)),
        visits_today=today,
        visits=total,
    )
