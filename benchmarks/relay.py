"""The yardstick: a relay as one writes it with trio-websocket, a task for each connection.

It speaks the least of the protocol that the load generator needs (IDENTIFY, the three targets,
PING) and leaves out whatever a real broker adds: no checks, no deadlines, no back-pressure, no
heartbeats of its own. So it shows what the general-purpose path costs, at its best.

Run as `python -m benchmarks.relay`; prints `listening on tcp://ADDRESS:PORT`.
"""

import json
import uuid
from contextlib import suppress
from typing import Any

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    serve_websocket,
)

EVENT, IDENTIFY, PING, PONG, REPLY = 0, 1, 3, 4, 5


@attrs.define(eq=False)
class Member:
    """An identified connection."""

    websocket: WebSocketConnection
    group: str
    echo: bool
    id: str = attrs.field(factory=lambda: str(uuid.uuid4()))

    async def send(self, text: str) -> None:
        """Send one message; a member that is just leaving misses it."""
        with suppress(ConnectionClosed):
            await self.websocket.send_message(text)


@attrs.define
class Relay:
    """Who is connected, and the routing between them."""

    members: dict[str, Member] = attrs.field(factory=dict)

    async def serve(self, request: WebSocketRequest) -> None:
        """Run one connection from its handshake to its end."""
        websocket = await request.accept()
        with suppress(ConnectionClosed):
            hello = json.loads(await websocket.get_message())["data"]
            member = Member(websocket, hello["group"], hello.get("echo", True))
            self.members[member.id] = member
            try:
                answer = {"op": IDENTIFY, "data": {"id": member.id, "ping": 30_000}}
                await websocket.send_message(json.dumps(answer))
                while True:
                    await self.route(member, json.loads(await websocket.get_message()))
            finally:
                del self.members[member.id]

    async def route(self, sender: Member, frame: dict[str, Any]) -> None:
        """Forward one frame to whom its intent names."""
        if frame["op"] == PING:
            await sender.send(json.dumps({"op": PONG}))
        if frame["op"] not in (EVENT, REPLY):
            return
        frame["source"] = {"id": sender.id, "group": sender.group}
        text = json.dumps(frame)
        for receiver in self.receivers(sender, frame["intent"]):
            await receiver.send(text)

    def receivers(self, sender: Member, intent: dict[str, Any]) -> list[Member]:
        """Look the receivers up."""
        if intent["target"] == "DIRECT":
            member = self.members.get(intent["identifier"])
            return [member] if member else []
        return [
            member
            for member in self.members.values()
            if intent["target"] == "GLOBAL" or member.group == intent["identifier"]
            if member is not sender or member.echo
        ]


async def main() -> None:
    """Serve on a port of the system's choice until interrupted."""
    relay = Relay()
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(
            serve_websocket, relay.serve, "127.0.0.1", 0, None
        )
        print(f"listening on tcp://127.0.0.1:{server.port}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(main)
