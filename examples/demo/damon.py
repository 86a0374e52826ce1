"""A member of the group `damon`, for the demo.

It answers INFO the way the first Master Socket Server's members do: the request and the response
are both EVENTs under one id; the response goes DIRECT to the connection that the request names as
`requester`. COUNT and REINDEX are requests as Switchboard has them: what the handler returns is the
reply. What it receives it prints, a JSON object a line.

`python -m examples.demo.damon URL SHARD CHANNELS USERS`, with SWITCHBOARD_TOKEN set.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import anyio
import attrs

from broker.protocol.codec import encode_frame
from services.sdk import Event, Mesh, Service, run_until_signal


@attrs.frozen
class InfoRequest:
    """The data of INFO: who wants the answer."""

    requester: str


@attrs.frozen
class Reindex:
    """The data of REINDEX: which shards have so much to do that it takes for ever."""

    without_end: list[str]


def make_service(info: dict[str, Any]) -> Service:
    """Make a member that answers INFO with `info`."""
    damon = Service("damon")

    @damon.on("INFO")
    async def answer(request: InfoRequest, event: Event, mesh: Mesh) -> None:
        report({"received": json.loads(encode_frame(event.frame))})
        await mesh.emit("INFO", info, to=request.requester, id=event.id)

    @damon.on("COUNT")
    async def count() -> dict[str, Any]:
        return {"shardId": info["shardId"], "users": info["users"]}

    @damon.on("REINDEX")
    async def reindex(task: Reindex, event: Event) -> dict[str, Any]:
        report({"working": event.id})
        if info["shardId"] in task.without_end:
            try:
                await anyio.sleep_forever()
            finally:
                report({"stopped": event.id})
        return {"shardId": info["shardId"], "entries": info["channels"]}

    @damon.on("ANNOUNCEMENT")
    async def take_note(event: Event) -> None:
        report({"received": json.loads(encode_frame(event.frame))})

    return damon


def report(what: object) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    url, shard, channels, users = sys.argv[1:]
    damon = make_service({"channels": int(channels), "shardId": shard, "users": int(users)})

    async def serve() -> None:
        async with damon.serve(url, token=os.environ["SWITCHBOARD_TOKEN"], name=shard) as mesh:
            report({"ready": mesh.id})
            await mesh.wait_closed()

    run_until_signal(serve)


if __name__ == "__main__":
    main()
