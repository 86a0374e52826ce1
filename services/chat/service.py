"""The chat service: what the gateways ask, answered by the store under the chat's rules."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from services.chat.announcing import Announcer
from services.chat.clock import Clock, wall_clock
from services.chat.message_requests import MessageRequests
from services.chat.messages import CHAT_GROUP, GATEWAYS_GROUP, ChatError, ChatRequest
from services.chat.passwords import Passwords
from services.chat.presence_requests import PresenceRequests
from services.chat.room_requests import RoomRequests
from services.chat.rules import refuse
from services.chat.store import Store, StoreDownError
from services.chat.user_requests import UserRequests
from services.sdk import Down, Mesh, MeshError, NoRoute, Service, Snapshot
from services.sdk.handlers import HandlerFunction

__all__ = ["ChatService"]

_LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")

_GRACE_SECONDS: Final = 10.0

# Between attempts to reach a store that is away.
_PAUSE_SECONDS: Final = 1.0

# More than a store may take, and telling it while the connection to the broker is another one.
_FINISH_SECONDS: Final = 15.0

# Most handlers wait: for the store, or for their turn to hash a password. Those who sign in must
# not hold up those who write.
_CONCURRENCY: Final = 1000

# What nobody is told of may be left off when nobody waits for it any more.
_QUIET: Final = frozenset(
    {
        ChatRequest.USER_LOGIN,
        ChatRequest.USER_AUTHENTICATE,
        ChatRequest.USER_GET,
        ChatRequest.USER_LIST,
        ChatRequest.ROOM_GET,
        ChatRequest.ROOM_LIST,
        ChatRequest.ROOM_USERS,
        ChatRequest.MESSAGE_GET,
        ChatRequest.MESSAGE_LIST,
        ChatRequest.STATISTICS,
    }
)


class ChatService:
    """One instance of the chat service.

    Args:
        store: opened already; closing it is the caller's business.
        passwords: for tests, cheap ones.
        clock: the time, in milliseconds since 1970.
        grace: how long a gateway that has gone may take to come back, in seconds, before its
            clients are taken to have gone with it. A restart of the broker takes less.
    """

    def __init__(
        self,
        store: Store,
        *,
        passwords: Passwords | None = None,
        clock: Clock = wall_clock,
        grace: float = _GRACE_SECONDS,
    ) -> None:
        hashing = passwords or Passwords()
        announcer = Announcer(store)
        self._store = store
        self._grace = grace
        self._presence = PresenceRequests(store, announcer, hashing, clock)
        self._service = Service(CHAT_GROUP)
        for requests in (
            UserRequests(store, announcer, hashing, clock),
            RoomRequests(store, announcer, hashing, clock),
            self._presence,
            MessageRequests(store, announcer, hashing, clock),
        ):
            for request, handler in requests.handlers().items():
                finished = handler if request in _QUIET else _to_the_end(handler)
                self._service.on(request.value)(_with_store_errors(finished))

    @asynccontextmanager
    async def serve(
        self,
        url: str | Sequence[str],
        *,
        token: str,
        **options: Any,  # noqa: ANN401 - those of `Service.serve`
    ) -> AsyncIterator[Mesh]:
        """Be on the mesh for the body of an `async with`. Takes what `Service.serve` takes."""
        options.setdefault("on_error", _log_error)
        options.setdefault("concurrency", _CONCURRENCY)
        async with (
            self._service.serve(url, token=token, **options) as mesh,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._watch_gateways, mesh, tasks)
            yield mesh
            tasks.cancel_scope.cancel()

    async def _watch_gateways(self, mesh: Mesh, tasks: TaskGroup) -> None:
        """End the sessions of gateways that have gone and do not come back."""
        async with mesh.watch() as changes:
            async for change in changes:
                match change:
                    case Snapshot(services):
                        there = {service.id for service in services}
                        tasks.start_soon(self._close_absent, there, mesh)
                    case Down(service) if service.group == GATEWAYS_GROUP:
                        tasks.start_soon(self._close_later, service.id, mesh)
                    case _:
                        pass

    async def _close_absent(self, there: set[str], mesh: Mesh) -> None:
        # Before the grace: those that come only then are none that have gone.
        gone = await self._insist(self._store.gateways) - there
        await anyio.sleep(self._grace)
        for gateway in sorted(gone):
            await self._close(gateway, mesh)

    async def _close_later(self, gateway: str, mesh: Mesh) -> None:
        await anyio.sleep(self._grace)
        await self._close(gateway, mesh)

    async def _close(self, gateway: str, mesh: Mesh) -> None:
        # One that has come back meanwhile has taken its sessions with it.
        await self._insist(lambda: self._presence.close_gateway(gateway, mesh))

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store for as long as it takes."""
        while True:
            try:
                return await ask()
            except StoreDownError as error:
                _LOG.warning("the sessions of gateways that have gone remain for now: %s", error)
                await anyio.sleep(_PAUSE_SECONDS)


def _to_the_end(handler: HandlerFunction) -> HandlerFunction:
    """Let a handler finish, though its requester may have gone.

    What it has changed by then, it must tell: the last message of a room would not be missed by
    anybody before the next one.
    """

    @functools.wraps(handler)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes
        with anyio.fail_after(_FINISH_SECONDS, shield=True):
            return await handler(*args, **kwargs)

    return wrapped


def _with_store_errors(handler: HandlerFunction) -> HandlerFunction:
    """Let a handler answer STORE_DOWN where the store cannot be reached."""

    @functools.wraps(handler)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes
        try:
            return await handler(*args, **kwargs)
        except StoreDownError as error:
            _LOG.warning("%s", error)
            raise refuse(ChatError.STORE_DOWN, "the chat's database is away; try again") from None

    return wrapped


def _log_error(error: MeshError) -> None:
    # No gateway is there to hear an event: that is nobody's fault.
    if not isinstance(error, NoRoute):
        _LOG.warning("%s", error)
