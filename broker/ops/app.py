"""What is answered at which path."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import msgspec
import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.core.peer import Peer
from broker.ops.access import CHALLENGES, PROBES, Access
from broker.ops.exposition import Exposition
from broker.ops.feed import Feed
from broker.ops.pages import SECURITY_HEADERS, Page, load_pages
from broker.ops.source import Source

__all__ = ["OpsApp"]

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"

# A scrape is good for so long, in seconds: to write the metrics takes some milliseconds, for which
# every message has to wait, and nobody needs them more often.
_FRESH: Final = 0.5

# Services that are written in one piece, before messages have their turn again.
_AT_A_TIME: Final = 250

_NOT_BY_OTHERS: Final = "only GET and HEAD are of use here"


class OpsApp:
    """The ASGI application.

    Args:
        source: what is shown.
        feed: what `/events` shows.
        access: who may see it; can be replaced while it runs.
    """

    def __init__(self, source: Source, feed: Feed, access: Access) -> None:
        self.access = access
        self._source = source
        self._feed = feed
        self._exposition = Exposition(source)
        # By what the client takes; there are two or three of those in use.
        self._scrapes: dict[str, tuple[float, bytes, str]] = {}
        handlers: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/services": self._services,
            "/statistics": self._statistics,
            "/events": self._events,
        }
        handlers |= {path: _page(page) for path, page in load_pages().items()}
        self._app: ASGIApp = Starlette(
            routes=[Route(path, handler) for path, handler in handlers.items()]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, unless whoever asks may not."""
        if scope["type"] != "http":
            # Starlette closes WebSockets; there is no lifespan here.
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        answer: ASGIApp = self._app
        if scope["method"] not in ("GET", "HEAD"):
            answer = PlainTextResponse(_NOT_BY_OTHERS + "\n", 405, {"Allow": "GET, HEAD"})
        elif scope["path"] not in PROBES:
            objection = self.access.objection(Headers(scope=scope))
            if objection is not None:
                answer = _refusal(*objection)
        await answer(scope, receive, send_safely)

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        readiness = self._source.readiness
        body = msgspec.json.encode({"ready": readiness.ready, "reasons": readiness.reasons})
        return Response(body, 200 if readiness.ready else 503, media_type=_JSON)

    async def _metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        now = trio.current_time()
        written, body, media_type = self._scrapes.get(accept, (-_FRESH, b"", ""))
        if now - written >= _FRESH:
            body, media_type = self._exposition.write(accept)
            if len(self._scrapes) > 8:
                self._scrapes.clear()
            self._scrapes[accept] = now, body, media_type
        return Response(body, media_type=media_type)

    async def _statistics(self, _request: Request) -> Response:
        statistics = self._source.dispatcher.statistics()
        return Response(msgspec.json.encode(attrs.asdict(statistics)), media_type=_JSON)

    async def _services(self, _request: Request) -> Response:
        return _Stream(self._write_services(), _JSON)

    async def _write_services(self) -> AsyncGenerator[bytes, None]:
        """Write the registry, some at a time: with very many, it would be a pause for messages."""
        peers = list(self._source.dispatcher.registry)
        yield b'{"services":['
        for start in range(0, len(peers), _AT_A_TIME):
            piece = [self._describe(peer) for peer in peers[start : start + _AT_A_TIME]]
            yield (b"," if start else b"") + msgspec.json.encode(piece)[1:-1]
            await trio.lowlevel.checkpoint()
        yield b"]}"

    def _describe(self, peer: Peer) -> dict[str, Any]:
        member = peer.member
        since = self._source.epoch + (0.0 if member is None else member.since)
        return {
            "id": peer.id,
            "group": peer.source.group,
            "name": None if member is None else member.name,
            "meta": {} if member is None else member.meta,
            "principal": None if member is None else member.principal.name,
            "address": peer.address,
            "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds"),
            "in_flight": len(peer.working),
            "concurrency": peer.concurrency,
            "draining": peer.draining,
            "outbox_bytes": peer.outbox_bytes,
            "messages_in": peer.messages_in,
            "messages_out": peer.messages_out,
            "requests": peer.requests,
            "answers": peer.answers,
        }

    async def _events(self, request: Request) -> Response:
        if self._feed.full:
            return PlainTextResponse("too many look on already\n", 503, {"Retry-After": "10"})
        if request.method == "HEAD":
            return Response(media_type=_EVENTS)
        return _Stream(self._feed.watch(), _EVENTS)


class _Stream(Response):
    """A body that comes piece by piece, until it ends or the client has gone.

    Starlette has one of its own; this one ends the generator where it was begun, and at once.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with trio.open_nursery() as nursery, aclosing(self._pieces) as pieces:
            nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
            await send(start)
            if scope["method"] != "HEAD":
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            # With this the connection ends, or is free for the next request: "the client has gone"
            # comes in the midst of it, and must not leave that half done.
            with trio.CancelScope(shield=True):
                await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


_HEADERS: Final = [
    (name.lower().encode("ascii"), value.encode("ascii"))
    for name, value in SECURITY_HEADERS.items()
]


def _refusal(status: int, text: str) -> Response:
    response = PlainTextResponse(f"{text}\n", status)
    if status == 401:
        for challenge in CHALLENGES:
            response.headers.append("WWW-Authenticate", challenge)
    return response


def _page(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def show(_request: Request) -> Response:
        headers = {"Cache-Control": "no-cache"}
        return Response(page.content, media_type=page.media_type, headers=headers)

    return show
