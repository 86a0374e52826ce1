"""The clients of the original server work unchanged, behind every door and from any to any."""

from __future__ import annotations

import itertools
import json
import re

import pytest
import trio
from websockets.sync.client import connect as connect_blocking

from tests.integration.mesh import (
    DOORS,
    STREAM_DOORS,
    TOKEN,
    Broker,
    RawStream,
    compact,
    properties,
)

# The worked examples of the original's page, byte for byte as they stand there.
REQUEST = b"""{
    "id": "70653cb0-5f6d-41fe-acbf-ea8f37a73034",
    "op": 0,
    "event": "INFO",
    "data": {
        "requester": "a6022b4c-09b8-4f7b-8fef-c669618c7d58"
    },
    "intent": {
        "target": "GROUP",
        "identifier": "damon"
    }
}"""
RESPONSE = b"""{
    "id": "70653cb0-5f6d-41fe-acbf-ea8f37a73034",
    "op": 0,
    "event": "INFO",
    "data": {
        "channels": 10240,
        "shardId": "ef4d25",
        "users": 15042
    },
    "intent": {
        "target": "DIRECT",
        "identifier": "a6022b4c-09b8-4f7b-8fef-c669618c7d58"
    }
}"""
# The requester's id in them; the broker gives every connection one of its own.
REQUESTER = b"a6022b4c-09b8-4f7b-8fef-c669618c7d58"
PASSED_ON = ("id", "event", "data", "intent")

pairs = pytest.mark.parametrize(
    ("sending", "receiving"),
    [pytest.param(*pair, id=" to ".join(pair)) for pair in itertools.product(DOORS, DOORS)],
)


def expected_of(message: bytes, *, compactly: bool, receiving: str) -> dict[str, str]:
    """The properties that a receiver must get, as text: those of `PASSED_ON`, with their bytes."""
    texts = properties(message)
    if compactly:
        # Whatever the sender's formatting, all but `data` is written anew, compactly.
        texts = {
            name: text if name == "data" else compact(json.loads(text)).decode()
            for name, text in texts.items()
        }
    if receiving in STREAM_DOORS:
        # A line is a line: a raw line break between two tokens becomes a space.
        texts["data"] = texts["data"].replace("\n", " ").replace("\r", " ")
    return {name: texts[name] for name in PASSED_ON}


@pairs
@pytest.mark.parametrize("written", ["compactly", "as on the page"])
async def test_the_worked_examples_pass_through(
    broker: Broker, sending: str, receiving: str, written: str
) -> None:
    asker = await broker.join(sending, "askers")
    damon = await broker.join(receiving, "damon")
    request, response = REQUEST, RESPONSE
    if written == "compactly":
        request, response = compact(json.loads(request)), compact(json.loads(response))
    for sender, message, receiver, door in (
        (asker, request, damon, receiving),
        (damon, response.replace(REQUESTER, asker.id.encode()), asker, sending),
    ):
        await sender.send(message)
        received = await receiver.receive()

        assert received is not None
        got = properties(received)
        assert json.loads(got.pop("source"))["id"] == sender.id
        assert got.pop("op") == "0"
        assert got == expected_of(message, compactly=written != "compactly", receiving=door)


ODD_DATA = [
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"a single value"',
    b'{ "a" :\t1 ,"b": [ ] }',
    b'"\\u0041\\/\\"\\\\\\b\\f\\n\\r\\t"',
    b'"\\u00e9\\ud83d\\ude00"',
    '"é\u2028\u2029\ufeff\U0001f600\x7f"'.encode(),
    b'"}{ \\"op\\":9}"',
    b"-0",
    b"-0.0",
    b"0.10",
    b"1E+2",
    b"1e-05",
    b"1.0",
    b"1e999",
    b"123456789012345678901234567890.12345678901234567890",
    b'{"a":1,"a":2,"\\u0061":3}',
    b"[[[[[[[[{}]]]]]]]]",
    b'{\n  "a":\r\n  1\n}',
    b'{"op":2,"source":{"id":"someone else"}}',
]


@pairs
async def test_data_keeps_its_bytes_however_oddly_they_are_written(
    broker: Broker, sending: str, receiving: str
) -> None:
    sender = await broker.join(sending, "senders")
    receiver = await broker.join(receiving, "receivers")
    messages = [
        b'{"op":0,"id":"%d","event":"ODD","data":%b,"intent":{"target":"DIRECT","identifier":"%b"}}'
        % (number, data, receiver.id.encode())
        for number, data in enumerate(ODD_DATA)
    ]
    for message in messages:
        await sender.send(message)

    for message in messages:
        received = await receiver.receive()
        assert received is not None
        got = properties(received)
        del got["op"], got["source"]
        assert got == expected_of(message, compactly=False, receiving=receiving)


async def test_a_client_that_knows_nothing_of_the_extensions(broker: Broker) -> None:
    """All that the original's clients do, written as they write it: nothing between the objects."""
    first, second = await broker.raw(), await broker.raw()
    await first.send_bytes(b'{"op":1,"data":{"token":"%b","group":"one"}}' % TOKEN.encode())
    first.id = (await first.receive_json())["data"]["id"]
    # Several in one write, and one that is cut in two.
    await second.send_bytes(
        b'{"op":1,"data":{"token":"%b","group":"two"}}{"op":3}{"op":4}'
        b'{"op":0,"id":"1","event":"A","data":"x","intent":{"target":"GLOBAL"}}'
        b'{"op":0,"id":"2","event":"B","data":"y","intent":{"target":"GROUP","iden' % TOKEN.encode()
    )
    second.id = (await second.receive_json())["data"]["id"]
    assert await second.receive_json() == {"op": 4}
    await second.send_bytes(
        b'tifier":"one"}}{"op":5,"id":"3","data":[1],"intent":{"target":"DIRECT","identifier":"%b"'
        b'}}{"op":2,"data":"I am leaving"}' % first.id.encode()
    )

    received = [await first.receive_json() for _ in range(3)]
    source = {"id": second.id, "group": "two"}
    assert received == [
        {
            "op": 0,
            "id": "1",
            "event": "A",
            "data": "x",
            "intent": {"target": "GLOBAL"},
            "source": source,
        },
        {
            "op": 0,
            "id": "2",
            "event": "B",
            "data": "y",
            "intent": {"target": "GROUP", "identifier": "one"},
            "source": source,
        },
        {
            "op": 5,
            "id": "3",
            "data": [1],
            "intent": {"target": "DIRECT", "identifier": first.id},
            "source": source,
        },
    ]
    # Its own broadcast comes back to it; to its goodbye nothing is said.
    assert (await second.receive_json())["id"] == "1"
    end = await second.receive_end()
    assert (end.before, end.reason, end.clean) == ([], None, True)
    # Who is left notices nothing.
    await first.send(b'{"op":3}')
    assert await first.receive_json() == {"op": 4}


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_absent_may_be_null(broker: Broker, door: str) -> None:
    client = await broker.join(door)
    await client.send(
        b'{"op":0,"id":null,"event":"E","data":null,"intent":{"target":"GLOBAL","identifier":null,'
        b'"pick":null,"key":null},"source":null,"timeout":null,"error":null,"trace":null}'
    )

    frame = await client.receive_json()

    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", frame.pop("id"))
    frame["intent"].pop("identifier", None)
    assert frame.pop("error", None) is None
    assert frame == {
        "op": 0,
        "event": "E",
        "data": None,
        "intent": {"target": "GLOBAL"},
        "source": {"id": client.id, "group": "demo"},
    }


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("group", ["demo", "d", "gr\u00fcn \U0001f600", "x" * 128, 'a"b\\c\n'])
async def test_any_name_is_a_group_and_an_event(broker: Broker, door: str, group: str) -> None:
    client = await broker.join(door, group)
    intent = {"target": "GROUP", "identifier": group}
    await client.send(compact({"op": 0, "id": "1", "event": group, "intent": intent}))

    assert await client.receive_json() == {
        "op": 0,
        "id": "1",
        "event": group,
        "intent": intent,
        "source": {"id": client.id, "group": group},
    }


async def test_the_blocking_client_of_websockets(broker: Broker) -> None:
    """The same library as people use it: in a thread of its own, with its own sockets."""
    other = await broker.join("tcp", "others")

    def talk() -> tuple[str, int | None]:
        with connect_blocking(f"ws://127.0.0.1:{broker.port}/", ping_interval=None) as client:
            client.send(json.dumps({"op": 1, "data": {"token": TOKEN, "group": "blocking"}}))
            assert json.loads(client.recv())["op"] == 1
            intent = {"target": "DIRECT", "identifier": other.id}
            client.send(json.dumps({"op": 0, "id": "1", "event": "HELLO", "intent": intent}))
            answer = str(client.recv())
            client.close()
            return answer, client.protocol.close_code

    async def answer() -> None:
        frame = await other.receive_json()
        intent = {"target": "DIRECT", "identifier": frame["source"]["id"]}
        await other.send(compact({"op": 5, "id": frame["id"], "data": "hi", "intent": intent}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        received, code = await trio.to_thread.run_sync(talk)
    assert json.loads(received)["data"] == "hi"
    assert code == 1000


async def test_a_person_at_a_terminal(broker: Broker) -> None:
    """One key at a time, with blanks and empty lines, as `nc` in raw mode would send it."""
    client = await broker.raw()
    assert isinstance(client, RawStream)
    typed = (
        b' \r\n\r\n{ "op": 1,\r\n "data": {"token": "%b", "group": "people"} }\r\n\r\n{"op":3}\n'
    )
    for key in typed % TOKEN.encode():
        await client.send_bytes(bytes([key]))

    assert (await client.receive_json())["data"]["group"] == "people"
    assert await client.receive_json() == {"op": 4}
