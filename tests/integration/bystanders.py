"""Two healthy services that must notice nothing of what others do."""

from __future__ import annotations

import json

from tests.integration.mesh import EVENT, Broker, Client, compact

__all__ = ["Bystanders"]


class Bystanders:
    """A raw stream and a WebSocket that talk to each other."""

    def __init__(self, broker: Broker, first: Client, second: Client) -> None:
        self._broker = broker
        self._pair = (first, second)
        self._count = 0

    @classmethod
    async def join(cls, broker: Broker) -> Bystanders:
        """Connect two of them."""
        return cls(
            broker,
            await broker.join("tcp", "bystanders"),
            await broker.join("websockets", "bystanders"),
        )

    async def check(self) -> None:
        """Exchange a message: nothing else must have come meanwhile."""
        self._count += 1
        for sender, receiver in (self._pair, self._pair[::-1]):
            frame = {
                "op": EVENT,
                "id": f"bystander {self._count}",
                "event": "STILL_THERE",
                "data": {"count": self._count},
                "intent": {"target": "DIRECT", "identifier": receiver.id},
            }
            await sender.send(compact(frame))
            message = await receiver.receive()
            assert message is not None
            source = {"id": sender.id, "group": "bystanders"}
            assert json.loads(message) == {**frame, "source": source}

    async def check_alone(self) -> None:
        """Check, and that the broker has let go of everybody else."""
        await self.check()
        while self._broker.connections() > len(self._pair):
            await self.check()
        statistics = self._broker.server.dispatcher.statistics()
        assert statistics.connections == len(self._pair)
        assert statistics.identified == len(self._pair)
        assert statistics.groups == 1
