"""How to talk to the systems that run: a line to paste for each."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from services.demo.talkers.systems import System

__all__ = ["how_to_talk"]

_JOIN: Final = '{"action": "JOIN ROOM", "room_id": "public"}'
_SIGN_IN: Final = '{"type": "signIn", "signIn": {"username": "Ada", "password": "a secret"}}'


def how_to_talk(
    addresses: Mapping[System, Sequence[str]], broker_url: str, token: str
) -> list[tuple[str, str]]:
    """Return what one may want to do, and the line for it.

    Args:
        addresses: of each system, as its gateway has said them.
        broker_url: where the broker is.
        token: which it takes.
    """
    python = shlex.quote(sys.executable)
    [keenchat, _events] = addresses[System.KEENCHAT]
    [rooms], [redis_chat] = addresses[System.ROOMS], addresses[System.REDIS_CHAT]
    rows = [
        (
            f"Talk on {system.label}",
            f"{python} -m services.demo.talk {system.value} {' '.join(where)}",
        )
        for system, where in addresses.items()
    ]
    rows += [
        (
            f"Rooms by hand; type {_JOIN}",
            f"{python} -m websockets {rooms.replace('http', 'ws', 1)}/chat",
        ),
        (
            f"The Redis chat by hand; type {_SIGN_IN}",
            f"{python} -m websockets {redis_chat.replace('http', 'ws', 1)}/ws",
        ),
        ("Read all messages over REST", f"curl -s {keenchat}/message"),
        (
            "See who is on the mesh",
            f"SWITCHBOARD_TOKEN={token} switchboard services --url {broker_url}",
        ),
    ]
    return rows
