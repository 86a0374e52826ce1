"""Brokers in a row: each attempt to connect meets the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from anyio.abc import ByteStream

from broker.protocol.codec import encode_frame
from broker.protocol.frames import Frame, OpCode
from services.sdk import Backoff, CannotConnect, Mesh, connect
from services.sdk.urls import Address
from tests.sdk.scripted import ScriptedBroker

NOBODY = None
"""In the place of a broker: nobody listens there."""


def last_word(reason: str) -> bytes:
    return encode_frame(Frame(op=OpCode.DISCONNECT, data=reason)) + b"\n"


def turned_away(reason: str) -> ScriptedBroker:
    """A broker that lets nobody in."""
    return ScriptedBroker(first=last_word(reason))


def longest_pauses(**options: Any) -> Backoff:
    """No pause is shorter than it may be, so that tests know them."""
    return Backoff(random=lambda: 1.0, **options)


class Brokers:
    """Where a mesh dials.

    Attributes:
        attempts: when each attempt was made, in seconds, and to which URL.
    """

    def __init__(self, *row: ScriptedBroker | None) -> None:
        self._row = list(row)
        self._entered: list[ScriptedBroker] = [broker for broker in row if broker is not None]
        self.attempts: list[tuple[float, str]] = []

    async def dial(self, address: Address) -> ByteStream:
        self.attempts.append((anyio.current_time(), address.url))
        broker = self._row.pop(0) if self._row else NOBODY
        if broker is None:
            raise CannotConnect(f"cannot connect to {address.url}")
        return await broker.dial(address)

    def connect(self, urls: str | Sequence[str] = "tcp://broker", **options: Any) -> Mesh:
        options.setdefault("reconnect", longest_pauses())
        options.setdefault("token", "t")
        return connect(urls, group="web", dial=self.dial, **options)

    def __enter__(self) -> Brokers:
        return self

    def __exit__(self, *exception: object) -> None:
        for broker in self._entered:
            broker.close()
