"""Values that no client should send, for the tests of the gateways on asyncio."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["HUGE", "NOT_OBJECTS", "NOT_TEXTS", "SCRIPTS", "TEMPTATIONS"]

HUGE: Final = 10**99

NOT_OBJECTS: Final[list[Any]] = [None, True, 0, HUGE, 1.5, "text", [], [{}], b"bytes"]
NOT_TEXTS: Final[list[Any]] = [None, False, 7, -HUGE, 2.5, [], {}, ["text"], {"a": 1}, b"bytes"]

# What is harmless only where nobody takes it for anything but text.
TEMPTATIONS: Final = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'; DROP TABLE rooms; --",
    '" OR ""="',
    "1; DELETE FROM messages",
    "${jndi:ldap://localhost/a}",
    "{{7*7}}",
    "%s%n%x",
    "../../etc/passwd",
    "__proto__",
    "constructor",
]

SCRIPTS: Final = [
    "Комната",
    "会议室",
    "غرفة",
    "חדר",
    "ห้อง",
    "कमरा",
    "δωμάτιο",
    "방",
    "部屋",
    "oda çiçeği",
    "Zimmer „Süd“",
    "\U0001f3e0\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301te\u0301",
]
