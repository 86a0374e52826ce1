"""One question to a whole group: `python -m examples.gather`, with a broker running."""

import os
from contextlib import AsyncExitStack

import anyio

from services.sdk import Service, connect

URL = os.environ.get("SWITCHBOARD_URL", "ws://127.0.0.1:8420")
TOKEN = os.environ.get("SWITCHBOARD_TOKEN", "a-long-random-secret")


def make_shard(name: str, users: int | None) -> Service:
    """Make a member of the group `shards`; without users, one that does not get to answer."""
    shard = Service("shards")

    @shard.on("STATS")
    async def stats() -> dict[str, object]:
        if users is None:
            await anyio.sleep_forever()
        return {"shard": name, "users": users}

    return shard


async def main() -> None:
    async with AsyncExitStack() as stack:
        names = {}
        for name, users in (("north", 12007), ("east", 15042), ("west", None)):
            shard = make_shard(name, users)
            member = await stack.enter_async_context(shard.serve(URL, token=TOKEN, name=name))
            names[member.id] = name
        mesh = await stack.enter_async_context(connect(URL, group="web", token=TOKEN))
        async with mesh.gather("STATS", group="shards", timeout=1) as replies:
            print(f"asked: {len(replies.members)}")
            async for reply in replies:
                print(f"{reply.data['shard']}: {reply.data['users']} users")
        for missing in replies.missing:
            print(f"{names[missing.source.id]}: {missing.code}")


if __name__ == "__main__":
    anyio.run(main, backend="trio")
