"""Keenchat's REST API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import APIKeyQuery
from fastapi_offline import FastAPIOffline

from services.chat.client import ChatClient
from services.chat.messages import (
    MAX_PAGE,
    ChatError,
    CreateRoom,
    ListMessages,
    ListRooms,
    UpdateRoom,
)
from services.chat.model import Room, RoomKind, User
from services.gateways.history import all_rooms, newest_messages
from services.gateways.keenchat.body_limit import BodyLimit
from services.gateways.keenchat.problems import RefusedError, handle_problems, responses
from services.gateways.keenchat.resources import (
    ChannelChange,
    ChannelResource,
    Credentials,
    MessageResource,
    NewChannel,
    NewMessage,
    NewUser,
    TokenResource,
    UserResource,
)
from services.gateways.socket_io.arguments import MAX_ID
from services.sdk import ServiceError

__all__ = ["make_api"]

_MAX_LIST: Final = 50_000
_MAX_MESSAGES: Final = 10_000
_MAX_MESSAGES_BYTES: Final = 8 * 1024 * 1024

_TOTAL_HEADER: Final = "X-Total-Count"

_token = APIKeyQuery(name="auth", auto_error=False, description="A token of POST /auth.")

router = APIRouter()


def _chat(request: Request) -> ChatClient:
    chat: ChatClient = request.app.state.chat
    return chat


Chat = Annotated[ChatClient, Depends(_chat)]


async def _signed_in(chat: Chat, auth: Annotated[str | None, Depends(_token)]) -> User:
    if auth is None:
        raise RefusedError(ChatError.BAD_TOKEN, "this takes ?auth=TOKEN, of POST /auth")
    return await chat.authenticate(auth)


SignedIn = Annotated[User, Depends(_signed_in)]
Limit = Annotated[int, Query(ge=1, le=_MAX_LIST, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=MAX_ID, description="How many to leave out before.")]


def make_api(chat: ChatClient, origins: Sequence[str] = ()) -> Any:  # noqa: ANN401 - ASGI
    """Make the application.

    Args:
        chat: is asked for everything.
        origins: web pages of these origins may use it; `*` for all.
    """
    # Its pages about the API, /docs and /redoc, load nothing from elsewhere.
    api = FastAPIOffline(
        title="Keenchat",
        version="1",
        description="Users, channels and messages. What is new comes over Socket.IO.",
    )
    api.state.chat = chat
    api.include_router(router)
    handle_problems(api)
    if origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Content-Type"],
            expose_headers=[_TOTAL_HEADER, "Location"],
        )
    api.add_middleware(BodyLimit)
    return api


# Users.


@router.post("/auth", responses=responses(401), tags=["users"])
async def sign_in(body: Credentials, chat: Chat) -> TokenResource:
    """Get a token. It is good for 30 days."""
    logged_in = await chat.log_in(body.username, body.password)
    return TokenResource(token_value=logged_in.token, user_id=logged_in.user.id)


@router.get("/user", responses=responses(), tags=["users"])
async def list_users(
    chat: Chat,
    response: Response,
    username: Annotated[str | None, Query(description="Only the user of this name.")] = None,
    limit: Limit = _MAX_LIST,
    offset: Offset = 0,
) -> list[UserResource]:
    """List users by id: those with an account, and the guests of the other systems."""
    if username is not None:
        return await _find(chat, username)
    found: list[UserResource] = []
    while True:
        page = await chat.users(offset + len(found), min(MAX_PAGE, limit - len(found)))
        found += [UserResource.of(user) for user in page.users]
        if not page.users or len(found) >= limit or offset + len(found) >= page.total:
            response.headers[_TOTAL_HEADER] = str(page.total)
            return found


async def _find(chat: ChatClient, username: str) -> list[UserResource]:
    try:
        return [UserResource.of(await chat.user(username=username))]
    except ServiceError as error:
        if error.code == ChatError.NO_USER:
            return []
        raise


@router.post("/user", status_code=201, responses=responses(409), tags=["users"])
async def create_user(body: NewUser, chat: Chat, response: Response) -> UserResource:
    """Make an account."""
    user = (await chat.register(body.username, body.password)).user
    response.headers["Location"] = f"/user/{user.id}"
    return UserResource.of(user)


@router.get("/user/{id}", responses=responses(404), tags=["users"])
async def get_user(id: int, chat: Chat) -> UserResource:
    """Get one user."""
    _require_id(id, ChatError.NO_USER, "user")
    return UserResource.of(await chat.user(id=id))


# Channels.


@router.get("/channel", responses=responses(), tags=["channels"])
async def list_channels(
    chat: Chat, response: Response, limit: Limit = _MAX_LIST, offset: Offset = 0
) -> list[ChannelResource]:
    """List the public channels by id."""
    which = ListRooms(offset, kinds=(RoomKind.PUBLIC,))
    rooms, total = await all_rooms(chat, which, limit)
    response.headers[_TOTAL_HEADER] = str(total)
    return [ChannelResource.of(room) for room in rooms]


@router.post("/channel", status_code=201, responses=responses(401, 409), tags=["channels"])
async def create_channel(
    body: NewChannel, user: SignedIn, chat: Chat, response: Response
) -> ChannelResource:
    """Make a channel."""
    room = await chat.create_room(
        CreateRoom(body.title, description=body.description, creator_id=user.id)
    )
    response.headers["Location"] = f"/channel/{room.id}"
    return ChannelResource.of(room)


@router.get("/channel/{id}", responses=responses(404), tags=["channels"])
async def get_channel(id: int, chat: Chat) -> ChannelResource:
    """Get one channel."""
    return ChannelResource.of(await _channel(chat, id))


@router.put("/channel/{id}", responses=responses(401, 403, 404, 409), tags=["channels"])
async def change_channel(
    id: int, body: ChannelChange, user: SignedIn, chat: Chat
) -> ChannelResource:
    """Change the title or the description of a channel that one has made."""
    await _channel(chat, id)
    return ChannelResource.of(
        await chat.update_room(UpdateRoom(id, user.id, body.title, body.description))
    )


@router.delete(
    "/channel/{id}", status_code=204, responses=responses(401, 403, 404), tags=["channels"]
)
async def remove_channel(id: int, user: SignedIn, chat: Chat) -> None:
    """Remove a channel that one has made, and its messages."""
    await _channel(chat, id)
    await chat.remove_room(id, user.id)


async def _channel(chat: ChatClient, id: int) -> Room:
    """Return a public room: others are no channels of Keenchat."""
    _require_id(id, ChatError.NO_ROOM, "channel")
    room = await chat.room(id=id)
    if room.kind is not RoomKind.PUBLIC:
        raise RefusedError(ChatError.NO_ROOM, f"there is no channel {id}")
    return room


# Messages.


@router.get("/message", responses=responses(), tags=["messages"])
async def list_messages(
    *,
    chat: Chat,
    response: Response,
    channel_id: Annotated[int | None, Query(description="Only of this channel.")] = None,
    user_id: Annotated[int | None, Query(description="Only by this user.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MAX_MESSAGES)] = _MAX_MESSAGES,
    offset: Annotated[
        int, Query(ge=0, le=MAX_ID, description="How many of the newest to leave out.")
    ] = 0,
) -> list[MessageResource]:
    """List the newest messages of the public channels, the oldest of them first.

    Where they are very long, there are fewer than `limit`.
    """
    response.headers[_TOTAL_HEADER] = "0"
    if not all(id is None or 1 <= id <= MAX_ID for id in (channel_id, user_id)):
        return []
    which = ListMessages(channel_id, user_id=user_id, offset=offset)
    try:
        history = await newest_messages(chat, which, limit, _MAX_MESSAGES_BYTES)
    except ServiceError as error:
        # No channel, or none of Keenchat's.
        if error.code in {ChatError.NO_ROOM, ChatError.NOT_IN_ROOM, ChatError.NOT_ALLOWED}:
            return []
        raise
    response.headers[_TOTAL_HEADER] = str(history.total)
    return [MessageResource.of(message) for message in history.messages]


@router.post("/message", status_code=201, responses=responses(401, 403, 404), tags=["messages"])
async def post_message(
    body: NewMessage, user: SignedIn, chat: Chat, response: Response
) -> MessageResource:
    """Write a message."""
    if body.user_id is not None and body.user_id != user.id:
        raise RefusedError(ChatError.NOT_ALLOWED, f"the token is not that of user {body.user_id}")
    await _channel(chat, body.channel_id)
    message = await chat.post(body.channel_id, user.id, body.message_text)
    response.headers["Location"] = f"/message/{message.id}"
    return MessageResource.of(message)


@router.get("/message/{id}", responses=responses(404), tags=["messages"])
async def get_message(id: int, chat: Chat) -> MessageResource:
    """Get one message."""
    _require_id(id, ChatError.NO_MESSAGE, "message")
    return MessageResource.of(await chat.message(id))


def _require_id(id: int, code: ChatError, what: str) -> None:
    # Others are no more than large numbers: no store has given them.
    if not 1 <= id <= MAX_ID:
        raise RefusedError(code, f"there is no {what} {id}")
