"""Peers without connections."""

from __future__ import annotations

import itertools

from broker.core.peer import Peer, PeerState
from broker.protocol.codec import EnvelopeSource
from broker.protocol.json_stream import frame_line, frame_lines

__all__ = ["make_peer"]

_numbers = itertools.count(1)


def make_peer(group: str | None = None, *, last_heard: float = 0.0, echo: bool = True) -> Peer:
    """Return a peer of a raw stream; with a group, an identified one."""
    peer = Peer(f"peer-{next(_numbers)}", frame_line, frame_lines, "memory", last_heard)
    peer.echo = echo
    if group is not None:
        peer.source = EnvelopeSource(id=peer.id, group=group)
        peer.enter(PeerState.IDENTIFIED)
    return peer
