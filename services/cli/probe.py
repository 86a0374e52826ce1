"""The probe behind `switchboard check`: a client that has no code in common with the broker.

WebSocket by trio-websocket, JSON by the standard library. Only the URL is read by the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import trio
import trio_websocket
from trio_websocket import WebSocketConnection

from services.cli.failures import leaves
from services.cli.probe_findings import (
    Expectations,
    Finding,
    Level,
    Steps,
    Verdict,
    disconnected,
    explain,
    judge,
    refused,
)
from services.sdk.tls import Tls
from services.sdk.urls import Address, Scheme, parse_url

if TYPE_CHECKING:
    from services.cli.target import Target

__all__ = ["probe"]

_EVENT, _IDENTIFY, _DISCONNECT, _PING, _PONG, _REPLY = range(6)

_ByteStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_NAME: Final = "switchboard check"
_SELF_CHECK: Final = "SELF_CHECK"

_SETTLE_SECONDS: Final = 0.1


async def probe(target: Target, expectations: Expectations) -> Finding:
    """Probe a broker. Never raises but `KeyboardInterrupt` and `Cancelled`."""
    steps = Steps()
    try:
        with trio.fail_after(expectations.timeout):
            await _Probe(target, expectations, steps).run()
    except BaseExceptionGroup as group:
        errors = list(leaves(group))
        for one in errors:
            # What has no word here is for the caller: a Ctrl-C, say.
            if not isinstance(one, Exception):
                raise
        verdicts = [one for one in errors if isinstance(one, Verdict)]
        error: Exception = [*verdicts, *(one for one in errors if isinstance(one, Exception))][0]
    except Exception as one:  # noqa: BLE001 - a probe says what is wrong, whatever it is
        error = one
    else:
        return judge(target.url, expectations, steps)
    verdict = explain(error, target.url, expectations, steps)
    return Finding(verdict.level, verdict.reason, steps.milliseconds)


class _Probe:
    """One connection, and the questions on it."""

    def __init__(self, target: Target, expectations: Expectations, steps: Steps) -> None:
        self._target = target
        self._expectations = expectations
        self._steps = steps

    async def run(self) -> None:
        address = parse_url(self._target.url)
        self._steps.begin("connect")
        stream = await _dial(address, self._target.tls)
        try:
            self._steps.end()
            await self._talk(stream, address)
        finally:
            # Whatever has happened: a probe that is run every second must leave nothing behind.
            await trio.aclose_forcefully(stream)

    async def _talk(self, stream: _ByteStream, address: Address) -> None:
        async with trio.open_nursery() as nursery:
            self._steps.begin("handshake")
            watched = _WatchedStream(stream)
            nursery.start_soon(self._watch_handshake, watched)
            self._connection = await _open(nursery, watched, address)
            self._steps.end()
            await self._ask_everything()
            with trio.move_on_after(1):
                await self._send(op=_DISCONNECT)
            nursery.cancel_scope.cancel()

    async def _watch_handshake(self, stream: _WatchedStream) -> None:
        """End a handshake that can't come about any more: trio-websocket would wait for ever."""
        await stream.ended.wait()
        # If it has a word of its own for what came, it says so now.
        await trio.sleep(_SETTLE_SECONDS)
        if self._steps.current == "handshake":
            raise stream.error or Verdict(Level.CRITICAL, "it hung up without a word")

    async def _ask_everything(self) -> None:
        steps = self._steps
        steps.begin("identify")
        said = {"group": self._target.group, "name": _NAME}
        if self._target.token is not None:
            said["token"] = self._target.token
        await self._send(op=_IDENTIFY, data=said)
        welcome = await self._receive(_IDENTIFY)
        me = (welcome.get("data") or {}).get("id")
        steps.end()
        steps.begin("whoami")
        await self._send(op=_EVENT, id="who", event="WHOAMI", intent=_direct("$broker"))
        answer = await self._reply("who", "$broker", optional=True)
        if answer is not None and (answer.get("data") or {}).get("id") != me:
            raise Verdict(Level.CRITICAL, "the broker takes this client for another one")
        steps.end()
        steps.begin("route")
        await self._request("self", _SELF_CHECK, _direct(me))
        await self._reply("self", "itself", optional=True)
        steps.end()
        group, event = self._expectations.group, self._expectations.event
        if group is not None and event is not None:
            steps.begin("request")
            intent = {"target": "GROUP", "identifier": group, "pick": "ONE"}
            await self._request("group", event, intent)
            await self._reply("group", f"{event} to {group}")
            steps.end()

    async def _request(self, id: str, event: str, intent: Mapping[str, str]) -> None:
        left = trio.current_effective_deadline() - trio.current_time()
        timeout = max(1, int(left * 1000))
        await self._send(op=_EVENT, id=id, event=event, intent=intent, timeout=timeout)

    async def _reply(self, id: str, what: str, *, optional: bool = False) -> dict[str, Any] | None:
        """Wait for the reply; None where it is not permitted to ask, and need not be."""
        reply = await self._receive(_REPLY, id)
        error = reply.get("error")
        if error is None:
            return reply
        verdict, code = refused(error, what)
        if optional and code == "FORBIDDEN":
            return None
        raise verdict

    async def _send(self, **frame: object) -> None:
        await self._connection.send_message(json.dumps(frame))

    async def _receive(self, op: int, id: str | None = None) -> dict[str, Any]:
        """Wait for a frame; answer what must be answered meanwhile."""
        while True:
            frame = _read(await self._connection.get_message())
            match frame.get("op"):
                case 2:
                    raise disconnected(frame)
                case 3:
                    await self._send(op=_PONG, id=frame.get("id"))
                case 0 if frame.get("id") == "self" and frame.get("event") == _SELF_CHECK:
                    intent = _direct(frame["source"]["id"])
                    await self._send(op=_REPLY, id="self", event=_SELF_CHECK, intent=intent)
                case 0 if frame.get("timeout") and not str(frame.get("event")).startswith("$"):
                    # Of somebody who asks everyone: without a word, they would wait.
                    error = {"code": "UNKNOWN_EVENT", "message": "this is a probe"}
                    intent = _direct(frame["source"]["id"])
                    await self._send(op=_REPLY, id=frame["id"], intent=intent, error=error)
                case found if found == op and (id is None or frame.get("id") == id):
                    return frame


class _WatchedStream(trio.abc.Stream):
    """Bytes, and how they ended."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.ended = trio.Event()
        self.error: Exception | None = None
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive, and note the end."""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            self.error = error
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


async def _dial(address: Address, tls: Tls | None) -> _ByteStream:
    if address.scheme is Scheme.UNIX:
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    if not address.scheme.encrypted:
        return stream
    files = tls or Tls()
    name = files.server_name or address.host
    try:
        encrypted = trio.SSLStream(stream, files.context(), server_hostname=name)
        await encrypted.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return encrypted


async def _open(
    nursery: trio.Nursery, stream: trio.abc.Stream, address: Address
) -> WebSocketConnection:
    host, path = address.authority, address.path
    if address.scheme is Scheme.UNIX:
        host = "localhost"
    if not address.scheme.websocket:
        # Every listener of a broker takes WebSocket.
        path = "/"
    # Its annotation is narrower than what it takes.
    narrow = cast("trio.SocketStream", stream)
    return await trio_websocket.wrap_client_stream(nursery, narrow, host, path)


def _direct(id: object) -> dict[str, str]:
    return {"target": "DIRECT", "identifier": str(id)}


def _read(message: str | bytes) -> dict[str, Any]:
    try:
        frame = json.loads(message)
    except ValueError:
        frame = None
    if not isinstance(frame, dict):
        raise Verdict(Level.CRITICAL, f"what came is no frame: {str(message)[:80]!r}")
    return frame
