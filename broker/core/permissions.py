"""May this principal send that?

Who may send everything has no `SendingRules` at all, so on the hot path such a peer costs one look
at `Peer.permissions`. For the others, what the rules say of an event and a group is remembered, and
principals with the same permissions share the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from broker.core.access_settings import PermissionSettings

__all__ = ["Patterns", "SendingRules", "sending_rules"]

# Whoever sends chooses the names, so what is remembered of them is bounded: a hundred kilobytes or
# two for a set of rules, however long the names are.
_REMEMBERED: Final = 256

# As many different permissions as tokens of one issuer are likely to have.
_RULES: Final = 1024

_ANYTHING: Final = "*"


class Patterns:
    """Some patterns, in which `*` stands for any characters, or none.

    Every other character stands for itself, `?` and `[` too: names may well have them.

    Operation: `in`; linear in the lengths of the patterns and of the name.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._exact = {pattern for pattern in patterns if _ANYTHING not in pattern}
        self._wild = [pattern.split(_ANYTHING) for pattern in patterns if _ANYTHING in pattern]

    def __contains__(self, name: str) -> bool:
        return name in self._exact or any(_fits(name, parts) for parts in self._wild)


def _fits(name: str, parts: list[str]) -> bool:
    """Whether a name has these parts, in this order: the first at its start, the last at its end.

    Taking each part where it first occurs is enough, and needs no way back.
    """
    first, *middle, last = parts
    if not (name.startswith(first) and name.endswith(last)):
        return False
    position, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return position <= end


class SendingRules:
    """What somebody may send who may not send everything.

    Operation: `objection`; constant time for an event and a group that were asked for lately.
    """

    def __init__(self, settings: PermissionSettings) -> None:
        self._everyone = settings.send_global
        self._groups = Patterns(settings.send_groups)
        self._events = Patterns(settings.send_events)
        self._known: dict[tuple[str | None, str, str | None], str | None] = {}

    def objection(self, event: str | None, target: str, group: str | None) -> str | None:
        """Return why a frame may not be sent, or None.

        Args:
            event: the frame's. A REPLY may have none, which only a pattern of `*` alone lets pass.
            target: of its intent.
            group: which it goes to; of DIRECT, that of the receiver. None for GLOBAL, and where
                there is nobody that it could go to.
        """
        asked = (event, target, group)
        try:
            return self._known[asked]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[asked] = self._find_objection(event, target, group)
            return found

    def _find_objection(self, event: str | None, target: str, group: str | None) -> str | None:
        if (event or "") not in self._events:
            return f"event: you may not send {event!r}"
        if target == "GLOBAL":
            return None if self._everyone else "intent: you may not send GLOBAL"
        if group is None or group in self._groups:
            return None
        return f"intent: you may not send to group {group!r}"


@lru_cache(_RULES)
def _rules(settings: PermissionSettings) -> SendingRules:
    return SendingRules(settings)


def sending_rules(settings: PermissionSettings) -> SendingRules | None:
    """Return what a principal may send; None where that is everything."""
    free = (
        settings.send_global
        and _ANYTHING in settings.send_groups
        and _ANYTHING in settings.send_events
    )
    return None if free else _rules(settings)
