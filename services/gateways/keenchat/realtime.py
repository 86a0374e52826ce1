"""Keenchat's events over Socket.IO."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from services.chat.messages import (
    ChatError,
    JoinRoom,
    Posted,
    PresenceChanged,
    RoomRemoved,
    Typing,
)
from services.chat.model import Room, RoomKind, User
from services.gateways.hub import Audience, Hub
from services.gateways.keenchat.channels import Channels
from services.gateways.keenchat.resources import MessageResource, UserResource
from services.gateways.refusals import BAD_REQUEST, Refusal, refusal
from services.gateways.socket_io.arguments import (
    BadArgumentError,
    Id,
    read_argument,
    refuse_event,
    require_text,
)
from services.gateways.socket_io.server import Conversation, SocketIoServer
from services.sdk import Mesh, MeshError, ServiceError

__all__ = ["CLIENT_EVENTS", "Realtime"]

Arguments = Sequence[Any]


@attrs.frozen
class _ChangeChannel:
    """`change channel`: into another one, or out of all of them where it is None."""

    id: Id | None


@attrs.frozen
class _ChannelData:
    """`start typing` and `stop typing`."""

    channel_id: Id


@attrs.define
class _Identity:
    """Whom a client has proved to be, the channel that it is in, and where it types."""

    user: User
    channel_id: int | None = None
    typing_in: int | None = None


class Realtime(Audience, Conversation):
    """The clients that hear what is new, and say where they are.

    Args:
        mesh: connected, in the group of the gateways.
        origins: as for `SocketIoServer`.

    Attributes:
        hub: the gateway's side of the mesh.
        channels: has a task of its own to be run.
        clients: the connections.
    """

    def __init__(self, mesh: Mesh, origins: Sequence[str] = ()) -> None:
        self.hub = Hub(mesh, self)
        self.channels = Channels(self.hub.chat)
        self.clients = SocketIoServer(self, origins)
        self._identities: dict[str, _Identity] = {}

    def refresh_page(self) -> None:
        """Tell web clients that there is a new one of them."""
        self.clients.emit_to_all("refresh page")

    # From the chat. Everybody who is connected hears of all channels.

    def on_user(self, user: User) -> None:
        """Tell of a new user."""
        self.clients.emit_to_all("post user", UserResource.of(user).model_dump())

    def on_room(self, room: Room) -> None:
        """Take note of a room."""
        self.channels.learn(room)

    def on_room_removed(self, room: RoomRemoved) -> None:
        """Drop what is known of a room that has gone away."""
        self.channels.forget(room.id)
        for identity in self._identities.values():
            if identity.channel_id == room.id:
                identity.channel_id = None
            if identity.typing_in == room.id:
                identity.typing_in = None

    def on_posted(self, posted: Posted) -> None:
        """Tell of a new message."""
        if self.channels.learn(posted.room):
            message = MessageResource.of(posted.message)
            self.clients.emit_to_all("post message", message.model_dump())

    def on_presence(self, change: PresenceChanged) -> None:
        """Tell who is in a channel now."""
        said = {"channel_id": change.room_id, "users": [user.id for user in change.users]}
        self.channels.when_channel(
            change.room_id, lambda: self.clients.emit_to_all("channel movement", said)
        )

    def on_typing(self, typing: Typing) -> None:
        """Tell who types, or does so no more."""
        event = "start typing" if typing.started else "stop typing"
        said = {"user_id": typing.user_id, "channel_id": typing.room_id}
        self.channels.when_channel(typing.room_id, lambda: self.clients.emit_to_all(event, said))

    # From clients.

    async def opened(self, sid: str) -> None:
        """Nothing to do: a client need not be a user to hear what is new."""

    async def closed(self, sid: str) -> None:
        """End a client's session."""
        await self._end(sid)

    async def said(self, sid: str, event: str, arguments: Arguments) -> None:
        """Do what a client asks; tell it where that is not possible."""
        refused = await self._attempt(sid, event, arguments)
        if refused is not None:
            answer = "identity failure" if event == "identify" else "error"
            self.clients.emit(sid, answer, {"error": refused.text, "code": refused.code})

    async def _attempt(self, sid: str, event: str, arguments: Arguments) -> Refusal | None:
        refused = refuse_event(event, CLIENT_EVENTS)
        if refused is not None:
            return refused
        try:
            await CLIENT_EVENTS[event](self, sid, arguments)
        except BadArgumentError as error:
            return Refusal(BAD_REQUEST, f"{event}: {error}")
        except MeshError as error:
            return refusal(error)
        return None

    async def _connection(self, sid: str, arguments: Arguments) -> None:
        """Nothing to do: some libraries send it by themselves."""

    async def _identify(self, sid: str, arguments: Arguments) -> None:
        if not arguments or not isinstance(arguments[0], str):
            raise BadArgumentError("this takes the token, as text")
        require_text("token", arguments[0])
        user = await self.hub.chat.authenticate(arguments[0])
        identity = self._identities.get(sid)
        if identity is None or identity.user.id != user.id:
            await self._end(sid)
            await self.hub.open(sid, user.id)
            self._identities[sid] = _Identity(user)
        self.clients.emit(sid, "identified")

    async def _unidentify(self, sid: str, _arguments: Arguments) -> None:
        await self._end(sid)

    async def _end(self, sid: str) -> None:
        identity = self._identities.pop(sid, None)
        if identity is not None:
            await self._rest(identity)
        await self.hub.close(sid)

    async def _change_channel(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, _ChangeChannel)
        identity = self._identified(sid)
        if data.id is not None:
            # First of all, so that whoever names a wrong one stays where they are.
            room = await self.hub.chat.room(id=data.id)
            if room.kind is not RoomKind.PUBLIC:
                raise ServiceError(ChatError.NO_ROOM.value, f"there is no channel {data.id}")
        if data.id == identity.channel_id:
            return
        await self._rest(identity)
        if identity.channel_id is not None:
            await self._leave(sid, identity.channel_id)
            identity.channel_id = None
        if data.id is not None:
            await self.hub.join(JoinRoom(sid, identity.user.id, id=data.id))
            identity.channel_id = data.id

    async def _leave(self, sid: str, room_id: int) -> None:
        try:
            await self.hub.leave(sid, room_id)
        except ServiceError as error:
            if error.code not in {ChatError.NO_ROOM, ChatError.NOT_IN_ROOM}:
                raise

    async def _start_typing(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, _ChannelData)
        identity = self._identified(sid)
        await self._require_inside(identity, data.channel_id)
        await self.hub.chat.typing(data.channel_id, identity.user.id, started=True)
        identity.typing_in = data.channel_id

    async def _stop_typing(self, sid: str, arguments: Arguments) -> None:
        data = read_argument(arguments, _ChannelData)
        identity = self._identified(sid)
        await self._require_inside(identity, data.channel_id)
        await self.hub.chat.typing(data.channel_id, identity.user.id, started=False)
        identity.typing_in = None

    async def _require_inside(self, identity: _Identity, channel_id: int) -> None:
        if identity.channel_id != channel_id:
            raise ServiceError(
                ChatError.NOT_IN_ROOM.value, f"this connection is not in channel {channel_id}"
            )

    async def _rest(self, identity: _Identity) -> None:
        """Tell that somebody who goes types no more. That it is told is not worth an error."""
        typing_in, identity.typing_in = identity.typing_in, None
        if typing_in is not None:
            try:
                await self.hub.chat.typing(typing_in, identity.user.id, started=False)
            except MeshError:
                return

    def _identified(self, sid: str) -> _Identity:
        identity = self._identities.get(sid)
        if identity is None:
            raise ServiceError(ChatError.BAD_TOKEN.value, "send `identify` with a token first")
        return identity


CLIENT_EVENTS: Final[Mapping[str, Callable[[Realtime, str, Arguments], Awaitable[None]]]] = {
    "connection": Realtime._connection,
    "identify": Realtime._identify,
    "unidentify": Realtime._unidentify,
    "change channel": Realtime._change_channel,
    "start typing": Realtime._start_typing,
    "stop typing": Realtime._stop_typing,
}
"""What clients send, and what is done then."""
