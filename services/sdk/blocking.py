"""The mesh for programs without an event loop: scripts, notebooks, threads.

The asynchronous `Mesh` lives in a thread of its own; each call here is carried over and waited for.
"""

# ruff: noqa: ANN401 - `returns` takes any type form
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import (
    Any,
    Final,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from services.sdk.blocking_feeds import SyncFeed, SyncReplies
from services.sdk.entry import ConnectOptions, Token, connect
from services.sdk.events import Event
from services.sdk.gathering import Replies
from services.sdk.loop_thread import LoopThread
from services.sdk.mesh import Mesh
from services.sdk.outgoing import Picking
from services.sdk.registry import Change, ServiceInfo
from services.sdk.request_errors import RequestError
from services.sdk.speaking import GatherOptions, RequestOptions
from services.sdk.states import State
from services.sdk.statistics import MeshStatistics

__all__ = ["SyncMesh", "connect_sync"]

T = TypeVar("T")

_BUFFER: Final = 4096


class EmitOptions(TypedDict, total=False):
    """What `emit` takes beside the event and its data; see `Mesh.emit`."""

    group: str | None
    to: str | None
    pick: Picking | None
    key: str | None
    id: str | None
    patience: float | None


def connect_sync(
    url: str | Sequence[str],
    *,
    token: Token,
    **options: Unpack[ConnectOptions],
) -> SyncMesh:
    """Connect to a broker, for the body of a `with`, in a program without an event loop.

    It goes well with an event loop that runs in this thread, as in a notebook: the mesh has another
    one, in a thread of its own. Any number of threads may use it at a time.

    Ctrl-C takes back the call that is under way and comes out of it as KeyboardInterrupt.

    Args:
        url: as for `connect`.
        token: as for `connect`.
        options: the others of `connect`. `on_error` is called in the mesh's thread, and so cannot
            call the mesh itself.

    Raises (on entering):
        CannotConnect, IdentifyFailed, Disconnected: as for `connect`.

    Raises (at once):
        ValueError: as for `connect`.

    Example:
        >>> with connect_sync("ws://127.0.0.1:8420", group="web", token="...") as mesh:
        ...     invoice = mesh.request("INVOICE_CREATE", order, group="billing", returns=Invoice)
    """
    make = partial(connect, url, token=token, **options)
    # What is wrong with the arguments is told at once; but the mesh belongs into its own thread.
    make()
    return SyncMesh(make)


class SyncMesh:
    """A client of the mesh whose methods wait. Made by `connect_sync`.

    It is used inside its `with`; where that does not fit (the cells of a notebook), between `open`
    and `close`. Its methods are those of `Mesh`, which see for what they do and raise; once it is
    closed, they raise `MeshClosed`.
    """

    def __init__(self, make: Callable[[], Mesh]) -> None:
        self._loop = LoopThread(make)

    def open(self) -> Self:
        """Connect.

        Raises:
            CannotConnect, IdentifyFailed, Disconnected: as for `connect`.
        """
        self._loop.open()
        return self

    def close(self) -> None:
        """Send what is left, say goodbye, and end. The second time, it does nothing."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The connection's id, by which others reach it with `to=`."""
        return self._loop.resource.id

    @property
    def group(self) -> str:
        """The group that this connection is a member of."""
        return self._loop.resource.group

    @property
    def state(self) -> State:
        """CONNECTED, CONNECTING (again), or CLOSED for good."""
        return self._loop.resource.state

    def statistics(self) -> MeshStatistics:
        """Return a snapshot of the counts."""
        return self._loop.resource.statistics()

    def emit(self, event: str, data: object = None, **options: Unpack[EmitOptions]) -> str:
        """Send an event that awaits no reply; return its id. See `Mesh.emit`."""
        return self._loop.call(partial(self._loop.resource.emit, event, data, **options))

    @overload
    def request(
        self,
        event: str,
        data: object = None,
        *,
        returns: type[T],
        **options: Unpack[RequestOptions],
    ) -> T: ...
    @overload
    def request(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[RequestOptions],
    ) -> Any: ...
    def request(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Ask one, and wait for the reply. See `Mesh.request`."""
        return self._loop.call(partial(self._request, event, data, returns, options))

    @overload
    def gather(
        self, event: str, data: object = None, *, returns: type[T], **options: Unpack[GatherOptions]
    ) -> SyncReplies[T]: ...
    @overload
    def gather(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[GatherOptions],
    ) -> SyncReplies[Any]: ...
    def gather(
        self,
        event: str,
        data: object = None,
        *,
        returns: Any = None,
        **options: Unpack[GatherOptions],
    ) -> SyncReplies[Any]:
        """Ask many, and take their replies as they come. See `Mesh.gather`.

        Example:
            >>> with mesh.gather("STATS", group="shards", timeout=1) as replies:
            ...     for reply in replies:
            ...         print(reply.source.id, reply.data)
        """

        async def make() -> Replies[Any]:
            return self._loop.resource.gather(event, data, returns=returns, **options)

        return SyncReplies(self._loop, self._loop.call(make))

    def reply(
        self, event: Event, data: object = None, *, error: RequestError | None = None
    ) -> None:
        """Send the REPLY to an event that a listener has heard."""
        self._loop.call(partial(self._loop.resource.reply, event, data, error=error))

    def listen(
        self, pattern: str, *, buffer: int = _BUFFER, timeout: float | None = None
    ) -> SyncFeed[Event]:
        """Listen to events by name. See `Mesh.listen`.

        Args:
            pattern: an event's name, or a pattern such as "USER_*" or "*".
            buffer: how many events it holds while its consumer is busy.
            timeout: seconds of silence after which iterating ends; without it, it never does.

        Example:
            >>> with mesh.listen("USER_*", timeout=10) as events:
            ...     for event in events:
            ...         print(event.name, event.data)
        """
        return SyncFeed(self._loop, self._loop.resource.listen(pattern, buffer=buffer), timeout)

    def watch(self, *, buffer: int = _BUFFER, timeout: float | None = None) -> SyncFeed[Change]:
        """Watch who comes and goes. See `Mesh.watch`; `timeout` is as for `listen`."""
        return SyncFeed(self._loop, self._loop.resource.watch(buffer=buffer), timeout)

    def services(self) -> list[ServiceInfo]:
        """Return everyone who is connected."""
        return self._loop.call(self._loop.resource.services)

    def whoami(self) -> ServiceInfo:
        """Return this connection as the others see it."""
        return self._loop.call(self._loop.resource.whoami)

    async def _request(
        self, event: str, data: object, returns: Any, options: RequestOptions
    ) -> Any:
        return await self._loop.resource.request(event, data, returns=returns, **options)
