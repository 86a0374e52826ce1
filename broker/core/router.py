"""Intent to peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.core.peer import Peer
from broker.core.registry import Registry
from broker.protocol.codec import EnvelopeIntent
from broker.protocol.errors import ErrorCode, SwitchboardError

__all__ = ["InvalidIntentError", "Router"]

_NOBODY: Final[tuple[Peer, ...]] = ()


class InvalidIntentError(SwitchboardError):
    """The intent has the right form but makes no sense."""

    code = ErrorCode.INVALID_INTENT


class Router:
    """Finds the receivers of a frame in the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def receivers(self, sender: Peer, intent: EnvelopeIntent) -> Sequence[Peer]:
        """Return everyone that a frame may go to; nobody is an empty sequence.

        Where only one of a group is wanted, `Requests.pick` knows which.

        Raises:
            InvalidIntentError: no identifier where one is needed, or `pick` on a GLOBAL.
        """
        if intent.target == "DIRECT":
            if not intent.identifier:
                raise InvalidIntentError("intent.identifier: DIRECT needs a connection id")
            peer = self._registry.by_id.get(intent.identifier)
            return _NOBODY if peer is None else (peer,)
        if intent.target == "GROUP":
            if not intent.identifier:
                raise InvalidIntentError("intent.identifier: GROUP needs a group's name")
            members = self._registry.groups.get(intent.identifier)
            if members is None:
                return _NOBODY
            return _without_echo(sender, list(members.values()))
        if intent.pick == "ONE":
            raise InvalidIntentError("intent.pick: ONE is for GROUP only")
        return _without_echo(sender, list(self._registry))


def _without_echo(sender: Peer, peers: list[Peer]) -> list[Peer]:
    """Leave the sender out of its own broadcast if it asked for that."""
    if not sender.echo and sender in peers:
        peers.remove(sender)
    return peers
