"""A worker on nats.py: `python -m benchmarks.sdk_nats ROLE URL`.

As its documentation has it: callbacks for what comes in (its other way, `async for`, makes a task
for each event), `json` for the data.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.sdk_traffic import (
    PAIR,
    READERS,
    REQUEST_SECONDS,
    SOLO,
    Counter,
    Payload,
    asking,
    obey,
    publishing,
)


async def _client(connection: Client) -> None:
    async def ask(group: str, data: Payload) -> Payload:
        message = json.dumps(data).encode()
        reply = await connection.request(f"{group}.echo", message, timeout=REQUEST_SECONDS)
        answer: Payload = json.loads(reply.data)
        return answer

    async def emit(data: Payload) -> None:
        await connection.publish("tick", json.dumps(data).encode())

    await obey({"ask": asking(ask), "publish": publishing(emit)})


async def _service(group: str, connection: Client) -> None:
    async def echo(message: Msg) -> None:
        await message.respond(json.dumps(json.loads(message.data)).encode())

    await connection.subscribe(f"{group}.echo", queue=group, cb=echo)
    await connection.flush()
    await obey({})


async def _subscriber(connection: Client) -> None:
    counter = Counter()

    async def take(message: Msg) -> None:
        counter.take(json.loads(message.data))

    await connection.subscribe("tick", cb=take)
    await connection.flush()
    await obey({})


ROLES: dict[str, Callable[[Client], Awaitable[None]]] = {
    "client": _client,
    SOLO: partial(_service, SOLO),
    PAIR: partial(_service, PAIR),
    READERS: _subscriber,
}


async def _run(role: str, url: str) -> None:
    async with await nats.connect(url) as connection:
        await ROLES[role](connection)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2]))
