"""What `switchboard check` has to say of what the probe met."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import attrs
import trio
import trio_websocket

from services.cli.exits import CommandError
from services.cli.words import in_words_of_the_command

__all__ = [
    "Expectations",
    "Finding",
    "Level",
    "Steps",
    "Verdict",
    "disconnected",
    "explain",
    "judge",
    "refused",
]

# By these a broker says that it is about to stop.
_STOPPING: Final = frozenset({"SERVER_RESTART", "DRAINING"})


class Level(IntEnum):
    """How it stands; the value is the exit code, as monitoring plugins have it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@attrs.frozen
class Expectations:
    """What to ask, and what is good enough.

    Attributes:
        group: whom to ask besides the broker.
        event: what to ask it.
        warn: milliseconds; a slower round trip is a warning.
        crit: milliseconds; a slower one is critical.
        timeout: seconds for all of it.
    """

    group: str | None = None
    event: str | None = None
    warn: float | None = None
    crit: float | None = None
    timeout: float = 5.0


@attrs.frozen
class Finding:
    """What was found.

    Attributes:
        level: how it stands.
        reason: why, on one line.
        milliseconds: how long each step took, by its name.
    """

    level: Level
    reason: str
    milliseconds: Mapping[str, float] = attrs.field(factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "status": self.level.name,
            "exit": int(self.level),
            "reason": self.reason,
            "ms": {step: round(taken, 3) for step, taken in self.milliseconds.items()},
        }


class Verdict(Exception):  # noqa: N818 - it may be no error
    """The probe need not go on."""

    def __init__(self, level: Level, reason: str) -> None:
        super().__init__(reason)
        self.level = level
        self.reason = reason


class Steps:
    """What has been done, and what is being done.

    Attributes:
        milliseconds: how long each step took that has been done.
        current: the step that is being done.
    """

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self.current = ""
        self._begun = 0.0

    def begin(self, step: str) -> None:
        """Begin a step."""
        self.current = step
        self._begun = time.perf_counter()

    def end(self) -> None:
        """End it."""
        self.milliseconds[self.current] = (time.perf_counter() - self._begun) * 1000
        self.current = ""


def judge(url: str, expectations: Expectations, steps: Steps) -> Finding:
    """All has worked; was it fast enough?"""
    taken = steps.milliseconds
    trips = {name: taken[name] for name in ("whoami", "route", "request") if name in taken}
    slowest = max(trips, key=lambda name: trips[name])
    trip = trips[slowest]
    reason = f"{url}: round trip {trip:.1f} ms"
    level = Level.OK
    for above, limit in ((Level.WARNING, expectations.warn), (Level.CRITICAL, expectations.crit)):
        if limit is not None and trip > limit:
            level = above
            reason = f"{url}: round trip {trip:.1f} ms ({slowest}), more than {limit:g} ms"
    connected = taken["connect"] + taken["handshake"] + taken["identify"]
    return Finding(level, f"{reason}; connected and identified in {connected:.1f} ms", taken)


_SILENT: Final = {
    "connect": "nobody answers",
    "handshake": "it accepts connections, but says nothing",
    "identify": "the broker does not answer IDENTIFY",
    "whoami": "the broker does not answer",
    "route": "the broker does not hand on a request",
    "request": "no reply",
}


def explain(error: Exception, url: str, expectations: Expectations, steps: Steps) -> Verdict:
    """Say what an error means."""
    if isinstance(error, Verdict):
        return Verdict(error.level, f"{url}: {error.reason}")
    if isinstance(error, CommandError):
        return Verdict(Level.CRITICAL, str(error))
    if isinstance(error, trio.TooSlowError):
        what = _SILENT.get(steps.current, "no answer")
        if steps.current == "request":
            what = f"no reply to {expectations.event} from {expectations.group}"
        reason = f"{url}: {what} within {expectations.timeout:g} s"
        return Verdict(Level.CRITICAL, reason)
    if isinstance(error, ssl.SSLError | trio.BrokenResourceError) and _of_tls(error) is not None:
        return Verdict(Level.CRITICAL, f"{url}: TLS failed: {_of_tls(error)}")
    if isinstance(error, OSError):
        return Verdict(Level.CRITICAL, f"{url}: cannot connect: {_cause(error)}")
    if isinstance(error, ValueError):
        return Verdict(Level.CRITICAL, in_words_of_the_command(str(error)))
    return _explain_websocket(error, url, steps)


def _explain_websocket(error: Exception, url: str, steps: Steps) -> Verdict:
    if isinstance(error, trio_websocket.ConnectionRejected):
        status = error.status_code
        more = ", it takes no more connections" if status == 503 else ""
        return Verdict(Level.CRITICAL, f"{url}: it opens no WebSocket: HTTP {status}{more}")
    if isinstance(error, trio_websocket.ConnectionClosed):
        reason = error.reason
        name = getattr(reason, "name", None)
        text = getattr(reason, "reason", None) or name or "without a word"
        level = Level.WARNING if getattr(reason, "code", None) == 1012 else Level.CRITICAL
        return Verdict(level, f"{url}: the broker hung up: {text}")
    if isinstance(error, trio_websocket.HandshakeError):
        return Verdict(Level.CRITICAL, f"{url}: no WebSocket is spoken there")
    step = f" ({steps.current})" if steps.current else ""
    return Verdict(Level.CRITICAL, f"{url}: {type(error).__name__}: {error}{step}")


def _of_tls(error: BaseException | None) -> str | None:
    """What OpenSSL has to say of it."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the broker's certificate is not valid: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return (error.reason or str(error)).lower().replace("_", " ")
        error = error.__cause__ or error.__context__
    return None


def _cause(error: OSError) -> str:
    """The words of the system; trio wraps one error for each address that it has tried."""
    inner = error.__cause__
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[-1]
    if isinstance(inner, OSError):
        error = inner
    # Of a name that can't be looked up, the number is none of the system's.
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


def disconnected(frame: Mapping[str, Any]) -> Verdict:
    """Say what a DISCONNECT means."""
    reason = str(frame.get("data") or "NO_REASON")
    error = frame.get("error")
    message = str(error.get("message") or "") if isinstance(error, dict) else ""
    if reason in _STOPPING:
        return Verdict(Level.WARNING, f"the broker is draining: {reason}{_after_colon(message)}")
    return Verdict(
        Level.CRITICAL, f"the broker ended the connection: {reason}{_after_colon(message)}"
    )


def refused(error: object, what: str) -> tuple[Verdict, str]:
    """Say what the `error` of a REPLY means.

    Returns:
        The verdict, and the error's code.
    """
    said = error if isinstance(error, dict) else {"message": error}
    code, message = str(said.get("code") or "UNKNOWN"), str(said.get("message") or "")
    if code in _STOPPING:
        text = f"the broker, or who was asked, is draining{_after_colon(message)}"
        return Verdict(Level.WARNING, text), code
    return Verdict(Level.CRITICAL, f"{what}: {code}{_after_colon(message)}"), code


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
