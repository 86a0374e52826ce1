"""Outbox bounds: stalling fast senders, finding receivers that cannot keep up.

Past the high mark, a receiver is *congested*: the senders that feed it are not read, for at most
the stall time. They are read again as soon as its outbox has fallen below half the high mark. A
receiver that is still past the high mark when the stall time is over is *stuck* and has to be cut;
so is one that goes past the limit (`Effects.limit`), whoever fed it.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.core.deadlines import Alarm, Deadlines
from broker.core.peer import Effects, Peer

__all__ = ["Flow"]


class Flow:
    """The flow control of all connections.

    Args:
        high: bytes unsent, past which senders are stalled.
        stall: seconds.
        effects: where peers to pause and to resume are entered.
        alarm: when to call `tick`.

    Attributes:
        high: see above.
        low: bytes unsent, below which senders are read again.
        congestions: how often a receiver went past the high mark.
    """

    def __init__(self, high: int, stall: float, effects: Effects, alarm: Alarm) -> None:
        self.high = high
        self.low = high // 2
        self.congestions = 0
        self._stall = stall
        self._effects = effects
        self._senders: dict[Peer, set[Peer]] = {}
        self._deadlines: Deadlines[Peer] = Deadlines(alarm)

    def __len__(self) -> int:
        """How many receivers are congested."""
        return len(self._senders)

    def set_limits(self, high: int, stall: float) -> None:
        """Go by other limits from now on; see the class for what they are."""
        self.high = high
        self.low = high // 2
        self._stall = stall

    @property
    def next(self) -> float:
        """When to look again, in seconds."""
        return self._deadlines.next

    def congest(self, sender: Peer, receiver: Peer, now: float) -> None:
        """Note that `sender` brought `receiver` past the high mark, or further past it."""
        if not receiver.congested:
            receiver.congested = True
            self.congestions += 1
            self._senders[receiver] = set()
            self._deadlines.add(receiver, now + self._stall, now)
        senders = self._senders[receiver]
        if sender not in senders:
            senders.add(sender)
            sender.stalls += 1
            if sender.stalls == 1:
                self._effects.to_pause.append(sender)

    def relieve(self, receiver: Peer) -> None:
        """Let the senders go on that were stalled for this receiver's sake."""
        if not receiver.congested:
            return
        receiver.congested = False
        self._deadlines.discard(receiver)
        for sender in self._senders.pop(receiver):
            sender.stalls -= 1
            if sender.stalls == 0:
                self._effects.to_resume.append(sender)

    def tick(self, now: float) -> Iterator[Peer]:
        """Return the receivers that are still stuck after the stall time; let the others go on."""
        for receiver in self._deadlines.due(now):
            if receiver.outbox_bytes > self.high:
                yield receiver
            else:
                self.relieve(receiver)
