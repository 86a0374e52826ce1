"""Who gets what, in which order, and what a slow receiver costs the others."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from broker.core.settings import LimitSettings, TimingSettings
from broker.protocol.errors import Reason
from tests.integration.bystanders import Bystanders
from tests.integration.conftest import StartBroker
from tests.integration.mesh import DOORS, STREAM_DOORS, Broker, Client, compact, properties, until

GRANULE = 0.02

Intent = dict[str, str]

# trio-websocket reads on its own, so it is never slow.
slow_doors = pytest.mark.parametrize("door", ["tcp", "unix", "websockets"])


def event(number: int, intent: Intent, data: object = None) -> bytes:
    return compact({"op": 0, "id": str(number), "event": "E", "data": data, "intent": intent})


def direct(client: Client) -> Intent:
    return {"target": "DIRECT", "identifier": client.id}


async def test_a_broadcast_reaches_every_kind_of_client_alike(broker: Broker) -> None:
    clients = [await broker.join(door, "crowd") for door in DOORS]
    outsider = await broker.join("tcp", "outsiders")
    data = '{ "text":"\u00e9\\u00e9", "numbers":[1.0,1e5 ,-0] }'
    for sender in clients:
        for intent in ('{"target":"GROUP","identifier":"crowd"}', '{"target":"GLOBAL"}'):
            frame = '{"op":0,"id":"1","event":"E","data":%s,"intent":%s}' % (data, intent)
            await sender.send(frame.encode())
            seen = {await client.receive() for client in clients}
            if "GLOBAL" in intent:
                seen.add(await outsider.receive())
            (message,) = seen  # The very same bytes for everyone.
            assert message is not None
            texts = properties(message)
            assert texts["data"] == data
            assert json.loads(texts["source"]) == {"id": sender.id, "group": "crowd"}


@pytest.mark.parametrize("door", DOORS)
async def test_echo(broker: Broker, door: str) -> None:
    """Without it, no copy of one's own broadcasts; what one sends to oneself still comes."""
    quiet, other = await broker.join(door, "pair", echo=False), await broker.join(door, "pair")
    group = {"target": "GROUP", "identifier": "pair"}
    for number, intent in enumerate([{"target": "GLOBAL"}, group, direct(quiet)]):
        await quiet.send(event(number, intent))
    for number, intent in enumerate([{"target": "GLOBAL"}, group, direct(other)], 10):
        await other.send(event(number, intent))

    to_quiet = [(await quiet.receive_json())["id"] for _ in range(3)]
    to_other = [(await other.receive_json())["id"] for _ in range(5)]
    assert sorted(to_quiet) == ["10", "11", "2"]
    assert sorted(to_other) == ["0", "1", "10", "11", "12"]
    for client in (quiet, other):
        await client.send(b'{"op":3}')
        assert await client.receive_json() == {"op": 4}


@pytest.mark.parametrize("target", ["GLOBAL", "GROUP"])
async def test_alone_and_without_echo(broker: Broker, target: str) -> None:
    client = await broker.join("tcp", "alone", echo=False)
    await client.send(event(1, {"target": target, "identifier": "alone"}))
    await client.send(b'{"op":3}')

    if target == "GROUP":
        error = (await client.receive_json())["error"]
        assert error["code"] == "NO_ROUTE"
    assert await client.receive_json() == {"op": 4}


@pytest.mark.parametrize("door", DOORS)
async def test_who_is_not_there(broker: Broker, door: str) -> None:
    client = await broker.join(door)
    gone = await broker.join("tcp", "others")
    await gone.send(b'{"op":2}')
    await gone.receive_end()
    for intent, what in (
        (direct(gone), f"connection '{gone.id}'"),
        ({"target": "DIRECT", "identifier": "demo"}, "connection 'demo'"),
        ({"target": "GROUP", "identifier": "others"}, "member of group 'others'"),
        ({"target": "GROUP", "identifier": client.id}, f"member of group '{client.id}'"),
    ):
        await client.send(event(7, intent))
        assert await client.receive_json() == {
            "op": 5,
            "id": "7",
            "event": "E",
            "source": {"id": "$broker", "group": "$broker"},
            "error": {"code": "NO_ROUTE", "message": f"there is no {what}"},
        }
        # An answer to nobody gets no answer.
        await client.send(event(7, intent).replace(b'"op":0', b'"op":5'))
    await client.send(b'{"op":3}')
    assert await client.receive_json() == {"op": 4}
    # Who has not identified itself is not there either.
    unidentified = await broker.connect(door)
    if door in STREAM_DOORS:
        await unidentified.send(b" ")  # So that the broker knows what it speaks.
    await until(lambda: broker.connections() == 2)
    (peer,) = [peer for peer in broker.server.dispatcher._peers if peer.id != client.id]
    await client.send(event(8, {"target": "DIRECT", "identifier": peer.id}))
    assert (await client.receive_json())["error"]["code"] == "NO_ROUTE"
    await client.send(event(9, {"target": "GLOBAL"}))
    assert (await client.receive_json())["id"] == "9"
    await unidentified.identify()


async def test_order_from_each_sender_to_each_receiver(broker: Broker) -> None:
    """Five senders at once, through every kind of intent; every receiver sees each in order."""
    receivers = [await broker.join(door, "receivers") for door in DOORS]
    senders = [await broker.join(door, "senders") for door in DOORS]
    count = 100

    def intents(receiver: Client) -> list[Intent]:
        return [direct(receiver), {"target": "GROUP", "identifier": "receivers"}]

    async def send(sender: Client) -> None:
        for number in range(count):
            # Broadcasts come between messages to each of the receivers.
            for receiver in receivers:
                await sender.send(event(number, direct(receiver), "direct"))
            await sender.send(event(number, {"target": "GROUP", "identifier": "receivers"}, "all"))

    async def receive(receiver: Client) -> None:
        expected = {sender.id: [0, 0] for sender in senders}
        for _ in range(len(senders) * count * 2):
            frame = await receiver.receive_json()
            seen = expected[frame["source"]["id"]]
            kind = frame["data"] == "all"
            assert int(frame["id"]) == seen[kind]
            seen[kind] += 1
            # The broadcast of a round comes behind its direct message, before the next round's.
            assert seen[0] - seen[1] in (0, 1)

    async with trio.open_nursery() as nursery:
        for receiver in receivers:
            nursery.start_soon(receive, receiver)
        for sender in senders:
            nursery.start_soon(send, sender)


async def send_many(sender: Client, intent: Intent, count: int) -> None:
    for number in range(count):
        await sender.send(event(number, intent, "x" * 8192))


async def receive_many(receiver: Client, count: int) -> None:
    for number in range(count):
        frame = await receiver.receive_json()
        assert (frame["id"], len(frame["data"])) == (str(number), 8192)


@slow_doors
async def test_a_receiver_that_pauses_loses_nothing(
    start_broker: StartBroker, mock_clock: MockClock, door: str
) -> None:
    """The one who feeds it is not read meanwhile; everybody else goes on."""
    broker = await start_broker(limits=LimitSettings(outbox_high_bytes=65_536))
    bystanders = await Bystanders.join(broker)
    sender, receiver = await broker.join("tcp"), await broker.join(door)
    other = await broker.join("unix")
    sending, receiving = broker.peer(sender), broker.peer(receiver)
    count = 2000  # 16 MiB: more than all socket buffers hold.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_many, sender, direct(receiver), count)
        for _ in range(3):
            await until(lambda: receiving.congested)
            assert sending.stalls == 1
            await bystanders.check()
            # Others can reach both of them nevertheless.
            await other.send(event(0, direct(sender)))
            assert (await sender.receive_json())["source"]["id"] == other.id
            assert sending.stalls == receiving.congested
            for _ in range(50):
                await receiver.receive()
            count -= 50
            # It is read on when the outbox has shrunk to half the mark.
            while receiving.congested and receiving.outbox_bytes >= 65_536:
                await receiver.receive()
                count -= 1
        for number in range(2000 - count, 2000):
            frame = await receiver.receive_json()
            assert (frame["id"], len(frame["data"])) == (str(number), 8192)
    assert not receiving.congested
    assert sending.stalls == 0
    # And the sender can do without it, at once.
    await sender.send(event(1, direct(other)))
    assert (await other.receive_json())["id"] == "1"
    await bystanders.check()


@slow_doors
async def test_a_member_that_never_reads_is_cut_and_the_others_get_everything(
    start_broker: StartBroker, mock_clock: MockClock, door: str
) -> None:
    broker = await start_broker(
        timing=TimingSettings(stall_ms=1000), limits=LimitSettings(outbox_high_bytes=65_536)
    )
    sender, slow = await broker.join("tcp"), await broker.join(door, "crowd")
    good = [await broker.join(kind, "crowd") for kind in DOORS]
    closed = broker.server.dispatcher.counters.closed
    stuck = broker.peer(slow)
    count = 1000
    async with trio.open_nursery() as nursery:
        for client in good:
            nursery.start_soon(receive_many, client, count)
        crowd = {"target": "GROUP", "identifier": "crowd"}
        nursery.start_soon(send_many, sender, crowd, count)
        # One that is slow for a moment catches up while the sender is stalled for the stuck one.
        peers = [broker.peer(client) for client in good]
        await until(lambda: stuck.congested and not any(peer.congested for peer in peers))
        mock_clock.jump(1 + GRANULE)
    assert closed == {Reason.SLOW_CONSUMER: 1}
    end = await slow.receive_end()
    assert end.reason == Reason.SLOW_CONSUMER


async def test_two_that_flood_each_other_both_get_everything(
    start_broker: StartBroker, mock_clock: MockClock
) -> None:
    """Each is stalled for the other's sake, again and again; as long as both read, both go on."""
    broker = await start_broker(limits=LimitSettings(outbox_high_bytes=16_384))
    first, second = await broker.join("tcp"), await broker.join("websockets")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_many, first, direct(second), 500)
        nursery.start_soon(send_many, second, direct(first), 500)
        nursery.start_soon(receive_many, first, 500)
        nursery.start_soon(receive_many, second, 500)


async def test_one_that_floods_itself(start_broker: StartBroker, mock_clock: MockClock) -> None:
    broker = await start_broker(limits=LimitSettings(outbox_high_bytes=16_384))
    client = await broker.join("tcp")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_many, client, direct(client), 500)
        nursery.start_soon(receive_many, client, 500)


@pytest.mark.parametrize("sending", DOORS)
@pytest.mark.parametrize("receiving", DOORS)
async def test_the_largest_messages(broker: Broker, sending: str, receiving: str) -> None:
    """In many pieces each, with small ones between them."""
    sender, receiver = await broker.join(sending), await broker.join(receiving)
    # `source` is added on the way, and the client libraries have the same limit as the broker.
    sizes = [1, 1_000_000, 2, 65_535, 65_536, 125, 126, 1_048_000, 3]

    async def send() -> None:
        for number, size in enumerate(sizes):
            await sender.send(event(number, direct(receiver), "\u00e9" * (size // 2)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for number, size in enumerate(sizes):
            frame = await receiver.receive_json()
            assert (frame["id"], len(frame["data"])) == (str(number), size // 2)
