"""The model of `tests/core/test_mesh_model.py` in small, over real sockets and all kinds of client.

Here everybody sends at the same time, so what each receiver must see is said for each sender.
"""

from __future__ import annotations

import json
import os
import random

import trio

from tests.integration.mesh import DOORS, Broker, Client, compact

SCALE = float(os.environ.get("SWITCHBOARD_TEST_SCALE", "1"))
ROUNDS = max(1, int(4 * SCALE))
PER_SENDER = 60
GROUPS = ("red", "green", "blue")

# What one receiver sees of one sender: the ids of its frames, and their data.
Seen = dict[str, list[tuple[str, object]]]


class Member:
    """A client, and what it has to see in a round."""

    def __init__(self, client: Client, group: str, *, echo: bool) -> None:
        self.client = client
        self.group = group
        self.echo = echo
        self.expected: Seen = {}

    def expect(self, sender: str, id: str, data: object) -> None:
        self.expected.setdefault(sender, []).append((id, data))

    async def receive(self) -> None:
        """Receive all that must come, and not a frame more."""
        seen: Seen = {}
        for _ in range(sum(map(len, self.expected.values()))):
            frame = await self.client.receive_json()
            data = frame["error"]["code"] if "error" in frame else frame["data"]
            seen.setdefault(frame["source"]["id"], []).append((frame["id"], data))
        assert seen == self.expected
        self.expected = {}
        await self.client.send(b'{"op":3}')
        assert await self.client.receive_json() == {"op": 4}


def plan(dice: random.Random, members: list[Member], gone: list[str]) -> dict[Member, list[bytes]]:
    """Make up what everybody sends in a round; tell the receivers what to expect."""
    frames: dict[Member, list[bytes]] = {member: [] for member in members}
    for sender in members:
        for number in range(PER_SENDER):
            id = f"{sender.client.id} {number}"
            target = dice.choices(("DIRECT", "GROUP", "GLOBAL"), (6, 2, 1))[0]
            names = {
                "DIRECT": [member.client.id for member in members] + gone,
                "GROUP": [*GROUPS, "nobody"],
                "GLOBAL": [""],
            }
            identifier = dice.choice(names[target])
            data = dice.choice((None, "}{", {"a": [1, "\u00e9"]}, "x" * 5000))
            op = dice.choice((0, 5))
            intent = {"target": target, "identifier": identifier}
            frame = {"op": op, "id": id, "event": "E", "data": data, "intent": intent}
            frames[sender].append(compact(frame))
            receivers = [
                member
                for member in members
                if (target == "DIRECT" and member.client.id == identifier)
                or (
                    (target == "GLOBAL" or (target == "GROUP" and member.group == identifier))
                    and (member is not sender or sender.echo)
                )
            ]
            for receiver in receivers:
                receiver.expect(sender.client.id, id, data)
            if not receivers and op == 0 and target != "GLOBAL":
                sender.expect("$broker", id, "NO_ROUTE")
    return frames


async def test_random_meshes(broker: Broker) -> None:
    dice = random.Random(42)
    members: list[Member] = []
    gone: list[str] = []

    async def send_all(member: Member, messages: list[bytes]) -> None:
        for message in messages:
            await member.client.send(message)

    for _ in range(ROUNDS):
        while len(members) < 10:
            group, echo = dice.choice(GROUPS), dice.random() < 0.7
            client = await broker.join(dice.choice(DOORS), group, echo=echo)
            members.append(Member(client, group, echo=echo))
        frames = plan(dice, members, gone)
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.receive)
                nursery.start_soon(send_all, member, frames[member])
        for _ in range(3):
            leaving = members.pop(dice.randrange(len(members)))
            gone.append(leaving.client.id)
            await leaving.client.send(json.dumps({"op": 2}).encode())
            await leaving.client.receive_end()
