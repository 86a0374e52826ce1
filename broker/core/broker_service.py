"""The broker as a service: what it answers when it is asked DIRECT as `$broker`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from broker.core import notices
from broker.core.access_settings import PermissionSettings
from broker.core.draining import Drains
from broker.core.peer import Effects, Peer
from broker.core.registry import Registry
from broker.protocol.codec import Envelope
from broker.protocol.errors import ErrorCode, Reason

__all__ = ["BrokerService"]

UP = "$up"
DOWN = "$down"


class BrokerService:
    """Answers SERVICES, WATCH and the like; tells watchers who comes and goes.

    Args:
        registry: the identified peers.
        effects: where frames for peers are entered.
        statistics: returns what STATS answers.
        drains: does what DRAIN says.
        epoch: the wall-clock time at the monotonic clock's zero, in seconds since 1970, so that
            times can be shown to people. No decision rests on it.
    """

    def __init__(
        self,
        registry: Registry,
        effects: Effects,
        statistics: Callable[[], dict[str, Any]],
        drains: Drains,
        epoch: float,
    ) -> None:
        self._registry = registry
        self._effects = effects
        self._statistics = statistics
        self._drains = drains
        self._epoch = epoch
        self._watchers: dict[Peer, None] = {}
        self._events: dict[str, Callable[[Peer, Envelope], object]] = {
            "SERVICES": lambda peer, _: self._services(peer),
            "WATCH": lambda peer, _: self._watch(peer),
            "UNWATCH": lambda peer, _: self._unwatch(peer),
            "STATS": lambda _peer, _: self._statistics(),
            "WHOAMI": lambda peer, _: self._describe(peer),
            "DRAIN": lambda peer, envelope: self._drains.order(envelope, peer.last_heard),
        }

    def handle(self, peer: Peer, envelope: Envelope) -> tuple[ErrorCode, str] | None:
        """Answer an EVENT that was sent to the broker.

        Returns:
            What is wrong with it, where there is no answer.
        """
        if envelope.id in peer.asked:
            # With that id, the answer would pass for the end of the request.
            return (
                ErrorCode.INVALID_FRAME,
                f"id: {envelope.id!r} is the id of a request of yours that is still in flight",
            )
        handler = self._events.get(envelope.event or "")
        if handler is None:
            return (
                ErrorCode.UNKNOWN_EVENT,
                f"{notices.BROKER_ID} knows {', '.join(self._events)}, not {envelope.event!r}",
            )
        missing = _missing_permission(peer, envelope.event)
        if missing is not None:
            return (
                ErrorCode.FORBIDDEN,
                f"event: {envelope.event} takes {missing} = true in your permissions",
            )
        answer = handler(peer, envelope)
        if isinstance(answer, tuple):
            code, message = answer
            return code, message
        self._effects.send(peer, peer.frame(notices.answer(envelope, answer)))
        return None

    def joined(self, peer: Peer) -> None:
        """Tell the watchers of a new service. Called before it can watch itself."""
        description = self._describe(peer) if self._watchers else {}
        for watcher in self._watchers:
            self._tell(watcher, UP, description)

    def left(self, peer: Peer, reason: Reason) -> None:
        """Tell the watchers that a service has gone, and why."""
        self._watchers.pop(peer, None)
        description = {**self._describe(peer), "reason": reason} if self._watchers else {}
        for watcher in self._watchers:
            self._tell(watcher, DOWN, description)

    def review(self) -> None:
        """Look again who may watch, since the permissions have changed."""
        for watcher in list(self._watchers):
            if _missing_permission(watcher, "WATCH") is not None:
                del self._watchers[watcher]

    def stop(self) -> None:
        """Tell nobody any more: when all go at once, everyone learns it by going."""
        self._watchers.clear()

    def _tell(self, watcher: Peer, event: str, description: dict[str, Any]) -> None:
        self._effects.send(watcher, watcher.frame(notices.event(event, description, watcher)))

    def _services(self, _peer: Peer) -> dict[str, Any]:
        return {"services": [self._describe(peer) for peer in self._registry]}

    def _watch(self, peer: Peer) -> dict[str, Any]:
        # The answer and the first change after it go into the same outbox, in this order: what
        # the answer does not show comes as an event, and nothing comes twice.
        self._watchers[peer] = None
        return self._services(peer)

    def _unwatch(self, peer: Peer) -> dict[str, Any]:
        return {"watched": self._watchers.pop(peer, self) is None}

    def _describe(self, peer: Peer) -> dict[str, Any]:
        member = peer.member
        since = datetime.fromtimestamp(self._epoch + (member.since if member else 0), UTC)
        return {
            "id": peer.id,
            "group": peer.source.group,
            "name": member.name if member else None,
            "meta": member.meta if member else {},
            "since": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "in_flight": len(peer.working),
            "concurrency": peer.concurrency,
            "draining": peer.draining,
        }


def _missing_permission(peer: Peer, event: str | None) -> str | None:
    """Return what a peer would have to be allowed to ask that of the broker; None if it may."""
    permissions = PermissionSettings() if peer.member is None else peer.member.principal.permissions
    if event == "STATS" and not permissions.stats:
        return "stats"
    if event == "DRAIN" and not permissions.drain:
        return "drain"
    if event == "WATCH" and not permissions.watch:
        return "watch"
    # The answer to WATCH has the same list as the answer to SERVICES.
    if event in ("SERVICES", "WATCH") and not permissions.services:
        return "services"
    return None
