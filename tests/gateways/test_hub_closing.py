"""A session whose end nobody waits for is ended all the same."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from services.chat.messages import (
    CHAT_GROUP,
    GATEWAYS_GROUP,
    ChatRequest,
    CloseSession,
    ListRooms,
    OpenSession,
    Rooms,
    Synced,
    SyncSessions,
)
from services.gateways.hub import Audience, Hub
from services.sdk import Service
from services.testing import TestMesh


async def test_giving_up_a_close_tells_the_chat_anew(autojump_clock: MockClock) -> None:
    chat = Service(CHAT_GROUP)
    told: list[tuple[str, ...]] = []
    told_anew = trio.Event()
    hangs = trio.Event()

    @chat.on(ChatRequest.SESSION_OPEN.value)
    async def open_session(data: OpenSession) -> None:
        pass

    @chat.on(ChatRequest.SESSION_CLOSE.value)
    async def close_session(data: CloseSession) -> None:
        hangs.set()
        await trio.sleep_forever()

    @chat.on(ChatRequest.SESSION_SYNC.value)
    async def sync(data: SyncSessions) -> Synced:
        told.append(tuple(session.session for session in data.sessions))
        if hangs.is_set():
            told_anew.set()
        return Synced()

    @chat.on(ChatRequest.ROOM_LIST.value)
    async def list_rooms(data: ListRooms) -> Rooms:
        return Rooms((), 0)

    async with TestMesh() as mesh, trio.open_nursery() as nursery:
        await mesh.run(chat, grace=0)
        hub = Hub(await mesh.client(GATEWAYS_GROUP), Audience())
        await nursery.start(hub.run)
        for name in ("stays", "goes"):
            await hub.open(name, 1)
        await trio.sleep(60)  # Until all is told that is told at the beginning.
        told.clear()
        with trio.move_on_after(1) as scope:
            await hub.close("goes")
        assert scope.cancelled_caught
        with trio.fail_after(3600):
            await told_anew.wait()
        assert told == [("stays",)]
        nursery.cancel_scope.cancel()
