"""The Redis chat's part of the chat: what each client asks for, and what it gets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from services.chat.messages import (
    MAX_PAGE,
    PUBLIC_ROOM,
    ChatError,
    JoinRoom,
    ListMessages,
    LoggedIn,
    Posted,
    PresenceChanged,
    RoomRemoved,
)
from services.chat.model import Room, User, UserKind
from services.gateways.following import Following, Place
from services.gateways.hub import Audience, Hub
from services.gateways.json_text import write_json
from services.gateways.redis_chat.codes import ErrorCode, RefusedError, refused
from services.gateways.redis_chat.courier import Courier
from services.gateways.redis_chat.directory import Directory
from services.gateways.redis_chat.requests import (
    DEFAULT_LIMIT,
    Request,
    RequestType,
    read_request,
)
from services.gateways.redis_chat.sessions import Session
from services.gateways.redis_chat.shapes import (
    Written,
    envelope,
    error,
    user_object,
    user_objects,
    written_object,
)
from services.gateways.websocket_server import Client
from services.sdk import Mesh, MeshError, ServiceError

__all__ = ["RedisChatGateway"]

_LOG: Final = logging.getLogger(__name__)

# For telling the chat that a client has gone; it finds out by itself, later, if it is not told.
_GOODBYE_SECONDS: Final = 2.0

# A message that its sender follows comes to them in the order of the channel. As a rule that is
# before the answer of the chat itself, so it is waited for only where something is lost.
_SHOWN_SECONDS: Final = 2.0

# What is read has to be as new as what has come meanwhile: as a rule, the second time it is.
_TRIES: Final = 5

# What a list of users holds at most.
_MAX_USERS: Final = 10_000


class RedisChatGateway(Audience):
    """Lets clients talk.

    Args:
        mesh: connected, in the gateways' group.

    Attributes:
        hub: its side of the mesh.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.hub = Hub(mesh, self)
        self._chat = self.hub.chat
        self._sessions: set[Session] = set()
        self._following: Following[Session, str] = Following()
        self._directory = Directory(self._chat)
        self._courier = Courier(self._directory, self._following)
        self._public: Room | None = None
        self._handlers: dict[RequestType, Callable[[Session, Request], Awaitable[None]]] = {
            RequestType.SIGN_IN: self._sign_in,
            RequestType.SIGN_UP: self._sign_up,
            RequestType.SIGN_OUT: self._sign_out,
            RequestType.USERS: self._list_users,
            RequestType.CHANNEL_JOIN: self._join,
            RequestType.CHANNEL_MESSAGE: self._send,
            RequestType.CHANNEL_MESSAGES: self._list_messages,
            RequestType.CHANNEL_LEAVE: self._leave,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hear the chat until the mesh is closed. Started when all is in place.

        Raises:
            MeshError: the mesh has ended for good.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._courier.run)
            await nursery.start(self.hub.run)
            task_status.started()

    # What happens.

    def on_posted(self, posted: Posted) -> None:
        """There is a new message."""
        self._courier.bring(posted, self._following.receivers(posted))

    def on_user(self, user: User) -> None:
        """There is a new user."""
        self._directory.note(user)

    def on_presence(self, change: PresenceChanged) -> None:
        """Somebody has entered or left a room."""
        come = [user for user in change.users if user.id in change.joined]
        for place in self._following.places(change.room_id):
            to = place.client
            for user in come:
                # Their own joining they are told by the answer to it.
                if to.user is not None and to.user.id != user.id:
                    _tell_joined(to, user, to.user.uuid if place.label else "")

    def on_room_removed(self, room: RoomRemoved) -> None:
        """A room has gone away."""
        self._following.forget_room(room.id)

    # Clients.

    async def talk(self, client: Client) -> None:
        """Answer a client until it has gone."""
        session = Session(client)
        self._sessions.add(session)
        client.send(envelope("ready", {"sessionUUID": client.session}))
        try:
            async for message in client:
                await self._answer(session, message)
        finally:
            self._sessions.discard(session)
            with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                await self._end(session)

    async def _answer(self, session: Session, message: str | bytes) -> None:
        try:
            request = read_request(message)
            await self._handlers[request.type](session, request)
        except RefusedError as why:
            session.client.answer(error(why))
        except MeshError as why:
            _LOG.debug("refused: %s", why)
            session.client.answer(error(refused(why)))

    async def _end(self, session: Session) -> None:
        """Let nobody be signed in by a session."""
        session.user = None
        session.access_key = ""
        self._following.forget(session)
        await self.hub.close(session.client.session)

    # Signing in and out.

    async def _sign_in(self, session: Session, request: Request) -> None:
        username, password = request.username(), request.password()
        try:
            entered = await self._chat.log_in(username, password)
        except ServiceError as why:
            if why.code != ChatError.WRONG_PASSWORD:
                raise
            entered = await self._make_user(username, password, refused(why))
        await self._let_in(session, entered)

    async def _make_user(self, username: str, password: str, wrong: RefusedError) -> LoggedIn:
        """Make the user who could not sign in; where there is one, the password was wrong."""
        try:
            return await self._chat.register(username, password)
        except ServiceError as why:
            if why.code != ChatError.NAME_TAKEN:
                raise
        known = await self._chat.user(username=username)
        if known.kind is UserKind.ACCOUNT:
            raise wrong
        raise RefusedError(ErrorCode.NAME_TAKEN, "somebody is there under that name, as a guest")

    async def _sign_up(self, session: Session, request: Request) -> None:
        made = await self._chat.register(request.username(), request.password())
        await self._let_in(session, made)

    async def _let_in(self, session: Session, entered: LoggedIn) -> None:
        await self._take_over(session, entered.user, entered.token)
        user = entered.user
        session.client.answer(
            envelope("authorized", {"userUUID": user.uuid, "accessKey": entered.token})
        )
        # To this client alone: the public one takes whoever it names for its own user.
        who = {"uuid": user.uuid, "username": user.username}
        session.client.answer(envelope("sys", {"type": "signIn", "signIn": who}))

    async def _take_over(self, session: Session, user: User, access_key: str) -> None:
        await self.hub.open(session.client.session, user.id)
        if session.user is not None and session.user.id != user.id:
            self._following.forget(session)
        session.user, session.access_key = user, access_key
        self._directory.note(user)

    async def _sign_out(self, session: Session, request: Request) -> None:
        user = await self._authorize(session, request)
        access_key = session.access_key
        await self._chat.log_out(access_key)
        for other in list(self._sessions):
            if other.access_key == access_key:
                await self._end(other)
        session.client.answer(envelope("unauthorized", {"userUUID": user.uuid}))

    async def _authorize(self, session: Session, request: Request) -> User:
        """Return who asks; they are signed in by this session then.

        Raises:
            RefusedError: the key is not the user's.
            MeshError: as `ChatClient.authenticate`.
        """
        who = request.credentials()
        # A client that has just signed in may ask on before it has the answer with its key.
        own = session.user if who.user_uuid == who.access_key == "" else None
        if own is not None:
            return await self._chat.authenticate(session.access_key)
        user = await self._chat.authenticate(who.access_key)
        if user.uuid != who.user_uuid:
            raise RefusedError(ErrorCode.NOT_SIGNED_IN, "the access key is not this user's")
        if session.user is None:
            await self._take_over(session, user, who.access_key)
        elif session.user.id != user.id:
            raise RefusedError(
                ErrorCode.NOT_SIGNED_IN, "another user is signed in on this connection"
            )
        return user

    async def _list_users(self, session: Session, request: Request) -> None:
        await self._authorize(session, request)
        found: list[User] = []
        while True:
            page = await self._chat.users(len(found), MAX_PAGE, accounts_only=True)
            found += page.users
            if not page.users or len(found) >= min(page.total, _MAX_USERS):
                break
        users = {"total": page.total, "received": len(found), "users": user_objects(found)}
        session.client.answer(envelope("users", users))

    # Channels.

    async def _join(self, session: Session, request: Request) -> None:
        recipient = request.recipient()
        user = await self._authorize(session, request)
        room = await self._room(user, recipient)
        # Who has joined already goes on to get what comes, and may see the newest messages again.
        again = self._following.room_of(session, recipient) == room.id
        with self._following.expect(session, room.name):
            join = JoinRoom(session.client.session, user.id, id=room.id)
            joined = await self.hub.join(join)
            messages = await self._newest(session, user, room)
            # What is in the answer does not come once more.
            first = messages[0].message.number + 1 if messages else 0
            kept = self._following.begin(session, room, recipient, first)
        channel = {
            "recipientUUID": recipient,
            # In the order in which they were written, as those that follow.
            "messages": [written_object(written) for written in reversed(messages)],
            "users": user_objects(joined.users),
        }
        session.client.answer(envelope("channelJoin", channel))
        _tell_joined(session, user, recipient)
        place = Place(session, recipient, first)
        for posted in () if again else kept:
            self._courier.bring(posted, [place])

    async def _newest(self, session: Session, user: User, room: Room) -> list[Written]:
        """Return the newest messages, and none that is older than what has been shown already."""
        which = ListMessages(room.id, user.id, limit=DEFAULT_LIMIT, newest_first=True)
        for _ in range(_TRIES):
            page = await self._chat.messages(which)
            found = [await self._courier.write(message, room) for message in page.messages]
            if not found or found[0].message.number >= session.shown(room.id):
                break
        return found

    async def _send(self, session: Session, request: Request) -> None:
        recipient, text = request.recipient(), request.message()
        user = await self._authorize(session, request)
        room = await self._room(user, recipient)
        message = await self._chat.post(room.id, user.id, text)
        if self._following.room_of(session, recipient) == room.id:
            with trio.move_on_after(_SHOWN_SECONDS):
                await session.wait_shown(room.id, message.number)
        else:
            written = await self._courier.write(message, room)
            session.client.answer(envelope("channelMessage", written_object(written)))

    async def _list_messages(self, session: Session, request: Request) -> None:
        recipient, (offset, limit) = request.recipient(), request.page()
        user = await self._authorize(session, request)
        room = await self._room(user, recipient)
        which = ListMessages(room.id, user.id, offset=offset, limit=limit, newest_first=True)
        page = await self._chat.messages(which)
        found = [written_object(await self._courier.write(one, room)) for one in page.messages]
        answer = {"messagesTotal": page.total, "messagesReceived": len(found), "messages": found}
        # The document's name for the answer, though its data stand under that of the request.
        session.client.answer(write_json({"type": "channelRead", "channelMessages": answer}))

    async def _leave(self, session: Session, request: Request) -> None:
        recipient = request.recipient()
        await self._authorize(session, request)
        if not recipient:
            raise RefusedError(ErrorCode.PUBLIC_CHANNEL, "nobody can leave the public channel")
        room_id = self._following.room_of(session, recipient)
        if room_id is None:
            raise RefusedError(ErrorCode.NOT_IN_CHANNEL, "that channel has not been joined")
        try:
            await self.hub.leave(session.client.session, room_id)
        except ServiceError as why:
            if why.code not in {ChatError.NO_ROOM, ChatError.NOT_IN_ROOM}:
                raise
            # That is what was asked for.
        self._following.leave(session, recipient)
        session.client.answer(envelope("channelLeave", {"recipientUUID": recipient}))

    async def _room(self, user: User, recipient: str) -> Room:
        """Return the room of a channel."""
        if recipient:
            other = await self._chat.user(uuid=recipient)
            return await self._chat.private_room(user.id, other.id)
        if self._public is None:
            self._public = await self._chat.room(name=PUBLIC_ROOM)
        return self._public


def _tell_joined(to: Session, user: User, recipient: str) -> None:
    """Tell a client that somebody has joined a channel."""
    to.client.send(
        envelope(
            "sys",
            {"type": "channelJoin", "channelJoin": {"recipientUUID": recipient}},
            userUUID=user.uuid,
            user=user_object(user),
        )
    )
