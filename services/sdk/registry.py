"""Who is connected: the broker's registry as its clients see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeAlias

import attrs

from broker.protocol.codec import Envelope
from broker.protocol.frames import OpCode
from services.sdk.payloads import load

__all__ = [
    "DOWN",
    "UP",
    "Change",
    "Down",
    "ServiceInfo",
    "Services",
    "Snapshot",
    "Up",
    "read_change",
]

UP: Final = "$up"
DOWN: Final = "$down"


@attrs.frozen
class ServiceInfo:
    """An identified connection, as the broker describes it.

    Attributes:
        id: the connection id, by which it is reached with `to=`.
        group: the group that it joined.
        name: the name that it gave itself, for people.
        meta: what else it said of itself.
        since: when it was identified.
        in_flight: requests that it has yet to answer.
        concurrency: how many requests it takes at a time; None for any number.
        draining: whether it gets no new requests, since an operator has asked it to leave.
    """

    id: str
    group: str
    name: str | None
    meta: dict[str, Any]
    since: datetime
    in_flight: int
    concurrency: int | None
    draining: bool = False


@attrs.frozen
class Services:
    """The data of the answers to SERVICES and WATCH."""

    services: list[ServiceInfo]


@attrs.frozen
class Snapshot:
    """Everyone who was connected when a watch began, or began anew. What was known is void."""

    services: tuple[ServiceInfo, ...]


@attrs.frozen
class Up:
    """A service has come."""

    service: ServiceInfo


@attrs.frozen
class Down:
    """A service has gone.

    Attributes:
        service: as it was.
        reason: a `Reason` of the protocol: NO_REASON where it left or its connection broke.
    """

    service: ServiceInfo
    reason: str


Change: TypeAlias = Snapshot | Up | Down


@attrs.frozen
class _Reason:
    reason: str = "NO_REASON"


def read_change(envelope: Envelope) -> Change:
    """Read the answer to a WATCH, or one of the events that follow it.

    Raises:
        PayloadError: it is not as the protocol says.
    """
    if envelope.op == OpCode.REPLY:
        return Snapshot(tuple(load(envelope.data, Services).services))
    service = load(envelope.data, ServiceInfo)
    if envelope.event == UP:
        return Up(service)
    return Down(service, load(envelope.data, _Reason).reason)
