"""Who is connected, as a test wants to see it."""

from __future__ import annotations

from typing import Any

import attrs

from broker.core.registry import Registry

__all__ = ["ConnectedService", "list_services"]


@attrs.frozen
class ConnectedService:
    """A connection that has been identified: what `$broker` answers to SERVICES, without times.

    Attributes:
        id: the connection id.
        group: the group that it is a member of.
        name: the name that it gave, for people.
        meta: the object that it gave.
        in_flight: requests that it has yet to answer.
        concurrency: how many it takes at a time; None for any number.
    """

    id: str
    group: str
    name: str | None
    meta: dict[str, Any]
    in_flight: int
    concurrency: int | None


def list_services(registry: Registry, group: str | None) -> list[ConnectedService]:
    """Return the members of a group, or everybody, oldest first."""
    return [
        ConnectedService(
            id=peer.id,
            group=peer.source.group,
            name=None if peer.member is None else peer.member.name,
            meta={} if peer.member is None else peer.member.meta,
            in_flight=len(peer.working),
            concurrency=peer.concurrency,
        )
        for peer in registry
        if group in (None, peer.source.group)
    ]
