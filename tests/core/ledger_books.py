"""The books of the requests: each entry stands in every place where it has to, and no other."""

from __future__ import annotations

from collections.abc import Collection

from broker.core.peer import Peer
from broker.core.requests import Requests

__all__ = ["check_ledger"]


def check_ledger(requests: Requests, members: Collection[Peer]) -> None:
    """Compare all places where a request in flight is entered.

    Args:
        requests: all of them.
        members: the identified peers.
    """
    calls = list(requests.ledger)
    assert len(calls) == len(set(calls)) == len(requests.ledger)
    waiting = 0
    for call in calls:
        assert call.requester in members
        assert call.requester.asked[call.id] is call
        for callee in call.callees:
            assert callee in members
            assert call in callee.working
        if call.waiting is None:
            assert call.callees
        else:
            assert call.queue is not None
            assert call in call.queue
            waiting += 1
    assert sum(len(peer.asked) for peer in members) == len(calls)
    assert {call for peer in members for call in peer.working} <= set(calls)
    assert waiting or requests.waiting_bytes == 0
