"""The requests about messages, and how they are answered."""

from __future__ import annotations

from services.chat.access import check_access, require_room
from services.chat.clock import MS_PER_DAY
from services.chat.messages import (
    MAX_PAGE,
    ChatError,
    ChatRequest,
    GetMessage,
    ListMessages,
    Messages,
    PostMessage,
    Statistics,
    Visits,
)
from services.chat.model import Message
from services.chat.requests import Requests
from services.chat.rules import bounded, check_text, refuse
from services.chat.store import MessageQuery, NameTakenError, NoRecordError
from services.sdk import Mesh, ServiceError
from services.sdk.handlers import HandlerFunction

__all__ = ["MessageRequests"]


class MessageRequests(Requests):
    """Answers what is asked about messages, and in numbers."""

    def handlers(self) -> dict[ChatRequest, HandlerFunction]:
        """The handler of each request."""
        return {
            ChatRequest.MESSAGE_POST: self._post,
            ChatRequest.MESSAGE_GET: self._find,
            ChatRequest.MESSAGE_LIST: self._list,
            ChatRequest.VISIT: self._visit,
            ChatRequest.STATISTICS: self._count,
        }

    async def _post(self, data: PostMessage, mesh: Mesh) -> Message:
        check_text(data.text)
        room = await require_room(self._store, data.room_id)
        await check_access(self._store, room, data.user_id)
        try:
            message, _ = await self._store.add_message(
                room.id, data.user_id, data.text, data.key, self._clock()
            )
        except NoRecordError:
            if await self._store.user(id=data.user_id) is None:
                raise refuse(ChatError.NO_USER, f"there is no user {data.user_id}") from None
            raise refuse(ChatError.NO_ROOM, "there is no such room") from None
        except NameTakenError:
            raise refuse(ChatError.NOT_ALLOWED, "the key is another message's") from None
        # Told again where it was posted again: who stored it may have died before telling. The
        # gateways give out each message once.
        await self._announcer.posted(mesh, message, room)
        return message

    async def _find(self, data: GetMessage) -> Message:
        message = await self._store.message(data.id)
        if message is not None:
            try:
                room = await require_room(self._store, message.room_id)
                await check_access(self._store, room, data.reader_id)
            except ServiceError:
                message = None
        if message is None:
            raise refuse(ChatError.NO_MESSAGE, f"there is no message {data.id}")
        return message

    async def _list(self, data: ListMessages) -> Messages:
        if data.room_id is not None:
            room = await require_room(self._store, data.room_id)
            if not data.trusted:
                await check_access(self._store, room, data.reader_id)
        query = MessageQuery(
            room_id=data.room_id,
            user_id=data.user_id,
            after=None if data.room_id is None or data.after is None else bounded(data.after, -1),
            offset=bounded(data.offset),
            limit=min(bounded(data.limit), MAX_PAGE),
            newest_first=data.newest_first,
        )
        page = await self._store.messages(query)
        return Messages(page.messages, page.total)

    async def _visit(self) -> Visits:
        today, total = await self._store.add_visit(self._today())
        return Visits(today, total)

    async def _count(self) -> Statistics:
        counts = await self._store.counts(self._today())
        return Statistics(
            users=counts.users,
            accounts=counts.accounts,
            online=counts.online,
            rooms=counts.rooms,
            messages=counts.messages,
            visits=Visits(counts.visits_today, counts.visits),
        )

    def _today(self) -> int:
        return self._clock() // MS_PER_DAY
