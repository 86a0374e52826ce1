"""What no client should send, for whatever speaks JSON over a WebSocket."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["NAUGHTY_TEXTS", "NOT_JSON", "NOT_OBJECTS", "WRONG_TYPES"]

NOT_JSON: Final[dict[str, str | bytes]] = {
    "nothing": "",
    "words": "hello",
    "half an object": '{"action": "JOIN ROOM"',
    "two objects": "{} {}",
    "single quotes": "{'action': 'JOIN ROOM', 'room_id': 'a'}",
    "NaN": '{"action": "JOIN ROOM", "type": "users", "room_id": NaN}',
    "infinity": '{"action": "JOIN ROOM", "type": "users", "room_id": -Infinity}',
    "too deep": "[" * 100_000,
    "too deep, in an object": '{"action": ' + '{"a":' * 100_000,
    "a number of 10,000 digits": '{"action": "JOIN ROOM", "type": "users", "room_id": '
    + "1" * 10_000
    + "}",
    "a binary frame": b'{"action": "JOIN ROOM", "type": "users", "room_id": "a"}',
    "a binary frame that is no text": b"\xff\x00\xfe",
}

NOT_OBJECTS: Final = ("null", "true", "1", "1e999", '"JOIN ROOM"', "[]", '[{"action": "x"}]')

WRONG_TYPES: Final[tuple[Any, ...]] = (None, True, False, 1.5, [], {}, ["a"], {"a": 1})

NAUGHTY_TEXTS: Final = (
    "<script>alert(1)</script>",
    "'; DROP TABLE users; --",
    '" OR "" = "',
    "%s %n {0} ${x} \\",
    "مرحبا بالعالم",
    "こんにちは",
    "Ωmega 🜁",
)
