"""A broker's log, from its stderr: each connection and each request, and no word of their data."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from broker.core.authentication import hash_token
from tests.integration.operators import Client, Operator, operator

TOKEN: Final = "swb_the-token-that-opens-the-door"
DATA: Final = "what-nobody-else-is-to-read"

CONFIG: Final = f"""
[[listeners]]
address = "tcp://127.0.0.1:0"
[[tokens]]
name = "shop"
sha256 = "{hash_token(TOKEN)}"
"""

WORK: Final = {"target": "GROUP", "identifier": "work"}
WORK_ONE: Final = {**WORK, "pick": "ONE"}
ONE: Final = {**WORK_ONE, "key": DATA}


async def hear_the_end(client: Client) -> None:
    """Wait for the broker to hang up, and hang up too."""
    while await client.receive():
        pass
    await client.stream.aclose()


async def rest_of_log(broker: Operator, last: Client) -> str:
    broker.process.send_signal(signal.SIGTERM)
    await hear_the_end(last)
    said = "".join(json.dumps(line) + "\n" for line in broker.logs)
    while line := await broker.log.next():
        said += line + "\n"
    return said


async def converse(broker: Operator) -> tuple[Client, Client]:
    """A request and whatever else can be said, with `DATA` wherever there is room for data."""
    worker, web = await broker.join(TOKEN, "work"), await broker.join(TOKEN, "web")
    await web.send(op=0, id="order-7", event="ASK", intent=ONE, timeout=60_000, data=DATA)
    question = await worker.receive()
    assert question["data"] == DATA
    to_web = {"target": "DIRECT", "identifier": web.id}
    await worker.send(op=5, id="order-7", intent=to_web, data={"said": [DATA]})
    assert (await web.receive())["id"] == "order-7"
    await web.send(op=0, id="order-8", event="ASK", intent=WORK, timeout=60_000, data=DATA)
    await worker.receive()
    await worker.send(op=5, id="order-8", intent=to_web, error={"code": "X", "message": DATA})
    # The members that were asked, and the answer of the one.
    for event in ("$expect", None):
        assert (await web.receive()).get("event") == event
    # Frames that are refused, each with an answer.
    wrong = [
        {"op": 0, "id": "1", "event": "E", "intent": {"target": DATA}},
        {"op": 0, "id": "2", "event": "E", "intent": WORK, "timeout": DATA},
        {"op": 0, "id": "3", "event": "E", "intent": to_web, "data": DATA, "source": {"id": DATA}},
        {"op": 0, "id": "4", "event": "E", "intent": {**to_web, "identifier": DATA}},
    ]
    for frame in wrong:
        await web.send(**frame)
        assert (await web.receive())["error"]
    await web.stream.aclose()
    # And what ends a connection.
    for ending in (DATA, f'{{"op":0,"data":{DATA}}}', f'["{DATA}"]'):
        client = await broker.join(TOKEN, "web")
        await client.stream.send_all(ending.encode() + b"\n")
        await hear_the_end(client)
    return worker, web


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("level", ["debug", "info"])
async def test_no_data_and_no_token_is_logged(tmp_path: Path, level: str, style: str) -> None:
    options = ("--log-level", level, "--log-format", style)
    async with operator(tmp_path, CONFIG, *options) as broker:
        worker, web = await converse(broker)
        said = await rest_of_log(broker, worker)
    assert web.id in said
    assert ("order-7" in said) == (level == "debug")
    for secret in (DATA, TOKEN, hash_token(TOKEN)):
        assert secret not in said
        assert secret[: len(secret) // 2] not in said


async def test_a_connection_is_a_line_and_a_request_is_found_by_its_id(tmp_path: Path) -> None:
    async with operator(tmp_path, CONFIG, "--log-level", "debug") as broker:
        worker, web = await converse(broker)
        said = await rest_of_log(broker, worker)
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    [of_web] = [line for line in lines if line.get("connection") == web.id]
    assert of_web["event"] == "connection ended"
    assert of_web["level"] == "info"
    assert (of_web["principal"], of_web["group"], of_web["transport"]) == ("shop", "web", "tcp")
    assert of_web["address"].startswith("127.0.0.1:")
    assert (of_web["requests"], of_web["messages_in"]) == (2, 7)
    assert 0 < of_web["bytes_in"] < 10_000
    assert 0 < of_web["bytes_out"] < 10_000
    [of_worker] = [line for line in lines if line.get("connection") == worker.id]
    assert of_worker["answers"] == 2
    assert (of_worker["ended_by"], of_worker["reason"]) == ("broker", "SERVER_RESTART")
    about = [line for line in lines if line.get("request") == "order-7"]
    assert [line["event"] for line in about] == ["request opened", "request ended"]
    assert (about[1]["outcome"], about[1]["requester"], about[1]["callee"]) == (
        "ANSWERED",
        web.id,
        worker.id,
    )
    ended = [line for line in lines if line["event"] == "connection ended"]
    assert [line["reason"] for line in ended[1:4]] == ["INVALID_PAYLOAD"] * 3


async def test_a_log_that_nobody_reads_holds_up_no_message(tmp_path: Path) -> None:
    async with operator(tmp_path, CONFIG, "--log-level", "debug") as broker:
        worker, web = await broker.join(TOKEN, "work"), await broker.join(TOKEN, "web")
        to_web = {"target": "DIRECT", "identifier": web.id}
        # Two lines each, in all several times what a pipe takes.
        for number in range(1000):
            await web.send(op=0, id=str(number), event="ASK", intent=WORK_ONE, timeout=60_000)
            question = await worker.receive()
            await worker.send(op=5, id=question["id"], intent=to_web)
            assert (await web.receive())["id"] == str(number)
