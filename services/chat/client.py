"""What the gateways ask the chat service, typed: a method a request."""

from __future__ import annotations

import uuid
from typing import Final, TypeVar

from services.chat.messages import (
    CHAT_GROUP,
    MAX_PAGE,
    ChatRequest,
    ClaimGuest,
    CloseSession,
    CreateRoom,
    FindRoom,
    FindUser,
    GetMessage,
    Joined,
    JoinRoom,
    LeaveRoom,
    ListMessages,
    ListRooms,
    ListUsers,
    LoggedIn,
    LogIn,
    Messages,
    OpenPrivateRoom,
    OpenSession,
    PostMessage,
    RegisterUser,
    RemoveRoom,
    Rooms,
    RoomUsers,
    Statistics,
    Synced,
    SyncSessions,
    TokenHolder,
    Typing,
    UpdateRoom,
    Users,
    Visits,
)
from services.chat.model import Message, Room, User
from services.sdk import ConnectionLost, Mesh, PeerGone

__all__ = ["ChatClient"]

T = TypeVar("T")

# People wait for these, so an answer is of no use for longer.
_TIMEOUT_SECONDS: Final = 5.0


class ChatClient:
    """The chat service, as its gateways see it.

    Every method raises `ServiceError` with a code of `ChatError` where the service says no, and the
    SDK's other errors where the service cannot be asked; see `services.chat.messages`.

    Args:
        mesh: the gateway's.
        timeout: for each request, in seconds.
    """

    def __init__(self, mesh: Mesh, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._mesh = mesh
        self._timeout = timeout

    async def _ask(self, request: ChatRequest, data: object, returns: type[T]) -> T:
        return await self._mesh.request(
            request.value, data, group=CHAT_GROUP, returns=returns, timeout=self._timeout
        )

    async def _tell(self, request: ChatRequest, data: object) -> None:
        await self._mesh.request(request.value, data, group=CHAT_GROUP, timeout=self._timeout)

    # Users.

    async def register(self, username: str, password: str) -> LoggedIn:
        """Make an account."""
        return await self._ask(
            ChatRequest.USER_REGISTER, RegisterUser(username, password), LoggedIn
        )

    async def log_in(self, username: str, password: str) -> LoggedIn:
        """Get a token for an account."""
        return await self._ask(ChatRequest.USER_LOGIN, LogIn(username, password), LoggedIn)

    async def authenticate(self, token: str) -> User:
        """Return whom a token belongs to."""
        return await self._ask(ChatRequest.USER_AUTHENTICATE, TokenHolder(token), User)

    async def log_out(self, token: str) -> None:
        """End a token."""
        await self._tell(ChatRequest.USER_LOGOUT, TokenHolder(token))

    async def user(
        self, *, id: int | None = None, uuid: str | None = None, username: str | None = None
    ) -> User:
        """Return one user."""
        return await self._ask(
            ChatRequest.USER_GET, FindUser(id=id, uuid=uuid, username=username), User
        )

    async def users(
        self, offset: int = 0, limit: int = MAX_PAGE, *, accounts_only: bool = False
    ) -> Users:
        """Return a page of the users."""
        return await self._ask(
            ChatRequest.USER_LIST, ListUsers(offset, limit, accounts_only), Users
        )

    async def claim_guest(
        self, session: str, username: str | None, *, exclusive: bool = False
    ) -> User:
        """Take a name without a password, for a session."""
        return await self._ask(
            ChatRequest.GUEST_CLAIM, ClaimGuest(session, username, exclusive), User
        )

    # Rooms.

    async def create_room(self, room: CreateRoom) -> Room:
        """Make a room."""
        return await self._ask(ChatRequest.ROOM_CREATE, room, Room)

    async def room(
        self, *, id: int | None = None, name: str | None = None, reader_id: int | None = None
    ) -> Room:
        """Return one room."""
        return await self._ask(ChatRequest.ROOM_GET, FindRoom(id, name, reader_id), Room)

    async def rooms(self, which: ListRooms) -> Rooms:
        """Return a page of the rooms."""
        return await self._ask(ChatRequest.ROOM_LIST, which, Rooms)

    async def update_room(self, change: UpdateRoom) -> Room:
        """Change a room's name or description."""
        return await self._ask(ChatRequest.ROOM_UPDATE, change, Room)

    async def remove_room(self, id: int, user_id: int) -> None:
        """Remove a room and its messages."""
        await self._tell(ChatRequest.ROOM_DELETE, RemoveRoom(id, user_id))

    async def private_room(self, user_id: int, other_id: int) -> Room:
        """Return the room between two users."""
        return await self._ask(ChatRequest.ROOM_PRIVATE, OpenPrivateRoom(user_id, other_id), Room)

    # Presence.

    async def join(self, join: JoinRoom) -> Joined:
        """Let a session enter a room."""
        return await self._ask(ChatRequest.ROOM_JOIN, join, Joined)

    async def leave(self, session: str, room_id: int) -> None:
        """Let a session leave a room."""
        await self._tell(ChatRequest.ROOM_LEAVE, LeaveRoom(session, room_id))

    async def room_users(self, room_id: int, reader_id: int | None = None) -> Users:
        """Return who is in a room."""
        return await self._ask(ChatRequest.ROOM_USERS, RoomUsers(room_id, reader_id), Users)

    async def open_session(self, session: str, user_id: int) -> None:
        """Let a user be online by a session."""
        await self._tell(ChatRequest.SESSION_OPEN, OpenSession(session, user_id))

    async def close_session(self, session: str) -> None:
        """End a session."""
        await self._tell(ChatRequest.SESSION_CLOSE, CloseSession(session))

    async def sync_sessions(self, sessions: SyncSessions) -> Synced:
        """Tell all sessions of this gateway."""
        return await self._ask(ChatRequest.SESSION_SYNC, sessions, Synced)

    # Messages.

    async def post(self, room_id: int, user_id: int, text: str, key: str | None = None) -> Message:
        """Write a message; return it as it is stored.

        Where an instance of the service dies at it, another one is asked, once; the key keeps the
        message from being stored twice.

        Args:
            room_id: where.
            user_id: the author.
            text: as it is.
            key: of this message; made up where it is left out.
        """
        data = PostMessage(room_id, user_id, text, key or str(uuid.uuid4()))
        try:
            return await self._ask(ChatRequest.MESSAGE_POST, data, Message)
        except (PeerGone, ConnectionLost):
            return await self._ask(ChatRequest.MESSAGE_POST, data, Message)

    async def message(self, id: int, reader_id: int | None = None) -> Message:
        """Return one message."""
        return await self._ask(ChatRequest.MESSAGE_GET, GetMessage(id, reader_id), Message)

    async def messages(self, which: ListMessages) -> Messages:
        """Return a page of messages."""
        return await self._ask(ChatRequest.MESSAGE_LIST, which, Messages)

    # The rest.

    async def typing(self, room_id: int, user_id: int, *, started: bool) -> None:
        """Tell the others that somebody has begun or stopped to type."""
        await self._tell(ChatRequest.TYPING, Typing(room_id, user_id, started))

    async def visit(self) -> Visits:
        """Count a connection to a gateway."""
        return await self._ask(ChatRequest.VISIT, None, Visits)

    async def statistics(self) -> Statistics:
        """Return what there is, in numbers."""
        return await self._ask(ChatRequest.STATISTICS, None, Statistics)
