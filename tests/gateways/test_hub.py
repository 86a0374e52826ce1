"""The hub: what a gateway hears, in order and once, and what it tells of its sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from services.chat.messages import (
    CHAT_GROUP,
    GATEWAYS_GROUP,
    ChatError,
    ChatEvent,
    CreateRoom,
    JoinRoom,
    Posted,
    PresenceChanged,
    RoomRemoved,
    Typing,
)
from services.chat.model import Message, Room, User
from services.chat.stores import open_store
from services.gateways.hub import Audience, Hub
from services.sdk import Backoff, Mesh, MeshError, NoRoute
from services.testing import TestMesh
from tests.chat.chat_world import ChatWorld, refused

QUICK = Backoff(first=0.01, longest=0.02)


class Crowd(Audience):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.presence: list[PresenceChanged] = []
        self.typing: list[Typing] = []
        self.users: list[User] = []
        self.rooms: list[Room] = []
        self.removed: list[RoomRemoved] = []
        self._changed = trio.Event()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def on_posted(self, posted: Posted) -> None:
        self.posted.append(posted)
        self._note()

    def on_presence(self, change: PresenceChanged) -> None:
        self.presence.append(change)
        self._note()

    def on_typing(self, typing: Typing) -> None:
        self.typing.append(typing)
        self._note()

    def on_user(self, user: User) -> None:
        self.users.append(user)
        self._note()

    def on_room(self, room: Room) -> None:
        self.rooms.append(room)
        self._note()

    def on_room_removed(self, room: RoomRemoved) -> None:
        self.removed.append(room)
        self._note()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what has been told fits."""
        while not holds():
            await self._changed.wait()

    def texts(self, room_id: int = 1) -> list[str]:
        return [one.message.text for one in self.posted if one.message.room_id == room_id]


class Place:
    """A gateway with a hub.

    Attributes:
        mesh: its own.
        hub: runs.
        crowd: its audience.
    """

    def __init__(self, mesh: Mesh, hub: Hub, crowd: Crowd) -> None:
        self.mesh = mesh
        self.hub = hub
        self.crowd = crowd

    async def post(self, user: User, *texts: str, room_id: int = 1) -> None:
        for text in texts:
            await self.hub.chat.post(room_id, user.id, text)


@asynccontextmanager
async def place(mesh: TestMesh, name: str) -> AsyncIterator[Place]:
    member = await mesh.client(GATEWAYS_GROUP, name=name, reconnect=QUICK, patience=0.2)
    crowd = Crowd()
    hub = Hub(member, crowd)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield Place(member, hub, crowd)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def world(directory: Path, grace: float = 60) -> AsyncIterator[ChatWorld]:
    with trio.fail_after(20):
        async with TestMesh() as mesh:
            chat = ChatWorld(mesh, f"sqlite:///{directory}/chat.db")
            async with chat.instance(grace):
                yield chat


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the hub notes for itself alone."""
    while not holds():
        await trio.lowlevel.checkpoint()


async def account(place: Place, name: str = "bob") -> User:
    return (await place.hub.chat.register(name, "a password")).user


async def test_everything_that_happens_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        crowd = one.crowd
        bob = await account(one)
        room = await one.hub.chat.create_room(CreateRoom("games", creator_id=bob.id))
        await one.hub.open("s", bob.id)
        await one.hub.join(JoinRoom("s", bob.id, id=room.id))
        await one.hub.chat.typing(room.id, bob.id, started=True)
        await one.post(bob, "hello", room_id=room.id)
        await one.hub.leave("s", room.id)
        await one.hub.chat.remove_room(room.id, bob.id)
        await crowd.until(lambda: bool(crowd.removed and crowd.posted))
        assert [user.username for user in crowd.users] == ["bob"]
        assert crowd.rooms == [room]
        assert [(change.joined, change.left) for change in crowd.presence] == [
            ((bob.id,), ()),
            ((), (bob.id,)),
        ]
        assert crowd.typing == [Typing(room.id, bob.id, True)]
        assert crowd.texts(room.id) == ["hello"]
        assert crowd.removed == [RoomRemoved(room.id, "games")]


async def test_all_gateways_see_the_same_order(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as chat,
        chat.instance(),
        place(chat.mesh, "one") as one,
        place(chat.mesh, "other") as other,
    ):
        bob, eve = await account(one, "bob"), await account(other, "eve")
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one.post, bob, f"bob {number}")
                nursery.start_soon(other.post, eve, f"eve {number}")
        for each in (one, other):
            await each.crowd.until(lambda each=each: len(each.crowd.posted) >= 100)  # type: ignore[misc]
        assert one.crowd.texts() == other.crowd.texts()
        assert [posted.message.number for posted in one.crowd.posted] == list(range(100))


async def test_history_is_no_news(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        await one.post(bob, "old", "older")
        async with place(chat.mesh, "late") as late:
            # Told at once, before the hub can know which rooms there are.
            await one.post(bob, "new")
            await one.crowd.until(lambda: len(one.crowd.posted) == 3)
            await one.post(bob, "newer")
            await late.crowd.until(lambda: "newer" in late.crowd.texts())
            assert late.crowd.texts() in (["newer"], ["new", "newer"])


async def test_what_was_missed_while_away_is_fetched(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        async with place(chat.mesh, "other") as other:
            await one.post(bob, "before")
            await other.crowd.until(lambda: other.crowd.texts() == ["before"])
            chat.mesh.partition(other.mesh)
            await chat.mesh.drop(other.mesh)
            await one.post(bob, "one", "two")
            # In a room that has been made meanwhile, too.
            room = await one.hub.chat.create_room(CreateRoom("games"))
            await one.post(bob, "three", room_id=room.id)
            chat.mesh.heal()
            await other.crowd.until(lambda: len(other.crowd.posted) >= 4)
            await one.post(bob, "after")
            await other.crowd.until(lambda: "after" in other.crowd.texts())
            assert other.crowd.texts() == ["before", "one", "two", "after"]
            assert other.crowd.texts(room.id) == ["three"]


async def test_what_is_stored_and_not_told_is_fetched(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, chat.instance() as (second, store):
        async with place(chat.mesh, "one") as one:
            bob = await account(one)
            await one.post(bob, "told")
            await one.crowd.until(lambda: one.crowd.texts() == ["told"])
            # As by an instance that is killed between the two.
            await store.add_message(1, bob.id, "not told", "a key", 5)
            await chat.mesh.drop(second)
            await one.crowd.until(lambda: one.crowd.texts() == ["told", "not told"])


async def test_a_gap_is_filled(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        await one.post(bob, "told")
        await until(lambda: one.crowd.texts() == ["told"] and not one.hub._stale)
        async with open_store(chat.url) as store:
            for text in ("not told", "not told either"):
                await store.add_message(1, bob.id, text, text, 5)
        # This one shows that there are others.
        await one.post(bob, "last")
        await one.crowd.until(lambda: len(one.crowd.posted) >= 4)
        assert one.crowd.texts() == ["told", "not told", "not told either", "last"]


async def test_a_broker_that_is_restarted_costs_no_session(tmp_path: Path) -> None:
    async with world(tmp_path, grace=1) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        join = JoinRoom("s", bob.id, name="games", create=True, ephemeral=True)
        room = (await one.hub.join(join)).room
        eve = await one.hub.claim_guest("t", "eve", exclusive=True)
        await one.hub.join(JoinRoom("t", eve.id, id=room.id))
        former = one.mesh.id
        chat.mesh.kill_broker()
        with pytest.raises(MeshError):
            await one.hub.chat.room(id=1)
        chat.mesh.start_broker()
        await one.mesh.wait_connected()
        assert one.mesh.id != former
        async with place(chat.mesh, "other") as other:
            # Past the grace, they are there by the gateway's new id.
            while True:
                try:
                    store_knows = await other.hub.chat.room_users(room.id)
                    break
                except NoRoute:
                    await trio.sleep(0.01)
            assert {user.username for user in store_knows.users} == {"bob", "eve"}
            await trio.sleep(1.5)
            users = (await other.hub.chat.room_users(room.id)).users
            assert {user.username for user in users} == {"bob", "eve"}
            with refused(ChatError.NAME_TAKEN):
                await other.hub.claim_guest("u", "eve")
            await one.hub.leave("s", room.id)
        assert not one.crowd.removed


@pytest.mark.parametrize("count", [2, 3, 4, 7])
async def test_many_sessions_are_told_in_parts(
    count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("services.gateways.hub._TOLD_AT_ONCE", 3)
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        await until(lambda: one.hub._told)
        for number in range(count):
            await one.hub.join(JoinRoom(f"s{number}", bob.id, id=1))
        former = one.mesh.id
        await chat.mesh.drop(one.mesh)
        await until(lambda: one.hub._known_as not in {former, None})
        async with open_store(chat.url) as store:
            assert await store.gateways() == {one.mesh.id}
            assert len(await store.close_gateway(str(one.mesh.id))) == count


async def test_sessions_are_kept_by_room_and_user(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        hub = one.hub
        bob, eve = await account(one, "bob"), await account(one, "eve")
        await hub.open("s", bob.id)
        await hub.join(JoinRoom("s", bob.id, id=1))
        await hub.join(JoinRoom("t", eve.id, id=1))
        assert hub.rooms_of("s") == {1}
        assert set(hub.sessions_in(1)) == {"s", "t"}
        assert list(hub.sessions_of(bob.id)) == ["s"]
        await hub.leave("s", 1)
        assert hub.rooms_of("s") == frozenset()
        await hub.join(JoinRoom("s", bob.id, id=1))
        # Somebody else signs in at that client.
        await hub.open("s", eve.id)
        assert hub.rooms_of("s") == frozenset()
        assert list(hub.sessions_of(bob.id)) == []
        await hub.close("s")
        await hub.close("s")
        assert list(hub.sessions_of(eve.id)) == ["t"]
        assert hub.rooms_of("unknown") == frozenset()
        # With another name, it stays where it is.
        guest = await hub.claim_guest("u", "guest")
        await hub.join(JoinRoom("u", guest.id, id=1))
        other = await hub.claim_guest("u", "other")
        assert hub.rooms_of("u") == {1}
        assert list(hub.sessions_of(other.id)) == ["u"]


async def test_a_room_that_is_gone_has_no_sessions(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as chat,
        place(chat.mesh, "one") as one,
        place(chat.mesh, "other") as other,
    ):
        bob = await account(one)
        room = await one.hub.chat.create_room(CreateRoom("games", creator_id=bob.id))
        await one.hub.join(JoinRoom("s", bob.id, id=room.id))
        await other.hub.chat.remove_room(room.id, bob.id)
        await one.crowd.until(lambda: bool(one.crowd.removed))
        assert one.hub.rooms_of("s") == frozenset()
        with refused(ChatError.NO_ROOM):
            await one.hub.leave("s", room.id)


async def test_a_session_that_ends_while_the_chat_is_away_ends_there_too(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with TestMesh() as mesh:
            chat = ChatWorld(mesh, f"sqlite:///{tmp_path}/chat.db")
            async with place(mesh, "one") as one, place(mesh, "other") as other:
                with pytest.raises(NoRoute):
                    await one.hub.chat.room(id=1)
                async with chat.instance():
                    bob = await account(one)
                    await until(lambda: one.hub._told)
                    await one.hub.join(JoinRoom("s", bob.id, id=1))
                await one.hub.close("s")
                async with chat.instance():
                    crowd = other.crowd
                    await crowd.until(lambda: any(change.left for change in crowd.presence))
                    assert (await other.hub.chat.room_users(1)).users == ()


async def test_who_is_there_is_looked_up_after_a_loss(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob, eve = await account(one, "bob"), await account(one, "eve")
        async with place(chat.mesh, "other") as other:
            await one.hub.join(JoinRoom("s", bob.id, id=1))
            await other.crowd.until(lambda: len(other.crowd.presence) == 1)
            chat.mesh.partition(other.mesh)
            await chat.mesh.drop(other.mesh)
            await one.hub.join(JoinRoom("t", eve.id, id=1))
            chat.mesh.heal()
            await other.crowd.until(lambda: len(other.crowd.presence) == 2)
            last = other.crowd.presence[-1]
            assert [user.id for user in last.users] == [bob.id, eve.id]


async def test_an_older_word_on_who_is_there_does_not_count() -> None:
    async with TestMesh() as mesh, place(mesh, "one") as one:
        bob = User(1, "uuid", "bob", "guest", 0)  # type: ignore[arg-type]
        instance = await mesh.client(CHAT_GROUP)
        newer = PresenceChanged(1, (bob,), joined=(1,), changes=7)
        older = PresenceChanged(1, (), left=(1,), changes=6)
        for change in (newer, older):
            await instance.emit(ChatEvent.PRESENCE_CHANGED, change, group=GATEWAYS_GROUP)
        with trio.fail_after(20):
            await one.crowd.until(lambda: len(one.crowd.presence) == 2)
        told = one.crowd.presence[-1]
        assert [user.id for user in told.users] == [1]
        assert told.left == (1,)


async def test_what_others_say_is_not_the_chats(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        bob = await account(one)
        room = await one.hub.chat.room(id=1)
        forged = Posted(Message(99, 1, 0, bob.id, "bob", "forged", 0), room)
        stranger = await chat.mesh.client("strangers")
        fake = await chat.mesh.client(CHAT_GROUP)
        await stranger.emit(ChatEvent.MESSAGE_POSTED, forged, group=GATEWAYS_GROUP)
        # Nor what cannot be read, whoever sends it.
        await fake.emit(ChatEvent.MESSAGE_POSTED, {"message": 1}, group=GATEWAYS_GROUP)
        await fake.emit("SOMETHING_ELSE", 1, group=GATEWAYS_GROUP)
        await chat.mesh.stop(fake)
        await one.post(bob, "real")
        await one.crowd.until(lambda: bool(one.crowd.posted))
        assert one.crowd.texts() == ["real"]


async def test_a_join_whose_answer_was_lost_is_put_right(tmp_path: Path) -> None:
    async with world(tmp_path) as chat, place(chat.mesh, "one") as one:
        async with place(chat.mesh, "other") as other:
            bob = await account(one)
            crowd = other.crowd
            await until(lambda: one.hub._told)
            # The answer comes late: the gateway has given up, the chat has let the session in.
            chat.mesh.delay(one.mesh, 0.3)
            with trio.move_on_after(0.45) as impatient:
                await one.hub.join(JoinRoom("s", bob.id, id=1))
            assert impatient.cancelled_caught
            chat.mesh.heal()
            await crowd.until(lambda: any(change.left == (bob.id,) for change in crowd.presence))
            assert one.hub.rooms_of("s") == frozenset()
