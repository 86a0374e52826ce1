"""What an operator can set, with safe defaults. Loading them is `broker.settings_loader`'s work.

Durations are in milliseconds and sizes in bytes, as on the wire; names say which.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
from attrs import validators

from broker.protocol.limits import (
    MAX_HANDSHAKE_SIZE,
    MAX_MESSAGE_SIZE,
    MAX_NAME_LENGTH,
    MAX_UNIDENTIFIED_SIZE,
)

__all__ = [
    "DEFAULT_PORT",
    "LimitSettings",
    "ListenerSettings",
    "Settings",
    "TimingSettings",
    "TokenSettings",
]

DEFAULT_PORT: Final = 8420

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

_TCP_ADDRESS: Final = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/]+):(?P<port>\d{1,5})")
_UNIX_ADDRESS: Final = re.compile(r"unix://(?P<path>/.+)")


def _at_least(smallest: int) -> Any:  # noqa: ANN401 - attrs types its validators by the attribute
    return validators.and_(validators.instance_of(int), validators.ge(smallest))


@attrs.frozen
class ListenerSettings:
    """One address to listen on.

    Attributes:
        address: `tcp://HOST:PORT` (`tcp://[::1]:8420` for IPv6; port 0 lets the system choose one)
            or `unix:///PATH`.

    Raises:
        ValueError: the address has another form.
    """

    address: str = attrs.field(validator=validators.instance_of(str))

    @address.validator
    def _check_address(self, _attribute: object, value: str) -> None:
        tcp = _TCP_ADDRESS.fullmatch(value)
        if tcp is None and _UNIX_ADDRESS.fullmatch(value) is None:
            raise ValueError(
                f"{value!r} is no address: write tcp://127.0.0.1:{DEFAULT_PORT} "
                "or unix:///run/switchboard.sock"
            )
        if tcp is not None and int(tcp["port"]) > 65535:
            raise ValueError(f"{value!r}: a port is a number up to 65535")

    @property
    def unix_path(self) -> str | None:
        """The socket's path, or None for TCP."""
        found = _UNIX_ADDRESS.fullmatch(self.address)
        return None if found is None else found["path"]

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Host and port, or None for a Unix socket."""
        found = _TCP_ADDRESS.fullmatch(self.address)
        return None if found is None else (found["host"].strip("[]"), int(found["port"]))


def _check_sha256(_instance: object, _attribute: object, value: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(
            "must be the SHA-256 of a token as 64 lower-case hex digits; "
            "`switchboard token new` makes both"
        )


def _check_groups(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not name or len(name) > MAX_NAME_LENGTH or name.startswith("$"):
            raise ValueError(
                f"{name!r} is no group name: "
                f"1 to {MAX_NAME_LENGTH} characters, not beginning with $"
            )


def _check_origins(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for origin in value:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError(
                f"{origin!r} is no origin: write scheme, host and port alone, "
                "such as https://example.org"
            )


@attrs.frozen
class TokenSettings:
    """A token that opens the door.

    Attributes:
        sha256: the token's SHA-256, in hex. The token itself is in no file of the broker's; tokens
            are long and random, so a fast hash keeps them as safe as a slow one would.
        name: what logs call it.
        groups: the groups that its holder may join; empty for any.
    """

    sha256: str = attrs.field(validator=_check_sha256, repr=False)
    name: str = attrs.field(default="", validator=validators.instance_of(str))
    groups: tuple[str, ...] = attrs.field(default=(), validator=_check_groups)


@attrs.frozen
class TimingSettings:
    """How long things may take, in milliseconds.

    Attributes:
        ping_ms: a connection idle this long gets a PING, and this long again to answer. The default
            finds a dead service within a minute; NATS takes up to four.
        identify_ms: from the accepted connection to a valid IDENTIFY. Slow links need two or three
            seconds for TCP, an upgrade and a frame.
        drain_ms: from SIGTERM to the end, whatever clients do.
        goodbye_ms: how long a connection that was told to leave may take to close its side.
        stall_ms: how long a receiver past its high mark may hold up its senders before it is cut.
    """

    ping_ms: int = attrs.field(default=30_000, validator=_at_least(100))
    identify_ms: int = attrs.field(default=5_000, validator=_at_least(100))
    drain_ms: int = attrs.field(default=10_000, validator=_at_least(100))
    goodbye_ms: int = attrs.field(default=2_000, validator=_at_least(0))
    stall_ms: int = attrs.field(default=5_000, validator=_at_least(0))


@attrs.frozen
class LimitSettings:
    """How much there may be, in bytes or connections.

    Attributes:
        message_bytes: the largest message.
        unidentified_bytes: the largest message of a connection that has not identified itself.
        handshake_bytes: the largest WebSocket opening handshake.
        connections: connections in all; more are told TRY_AGAIN_LATER.
        requests_per_connection: requests in flight that one connection may have made.
        requests: requests in flight in all; each takes about a kilobyte of the broker's memory.
        waiting_per_group: requests that wait while every member of a group is at its concurrency.
            Where more would have to wait, the group needs members, not a longer queue.
        waiting_bytes: the `data` of all waiting requests together.
        outbox_high_bytes: past this much unsent, senders that feed a receiver are not read. Room
            for some thousand ordinary messages, so that a busy pair never meets it.
        outbox_bytes: past this much unsent, a receiver is cut as SLOW_CONSUMER.
    """

    message_bytes: int = attrs.field(default=MAX_MESSAGE_SIZE, validator=_at_least(_KIB))
    unidentified_bytes: int = attrs.field(default=MAX_UNIDENTIFIED_SIZE, validator=_at_least(256))
    handshake_bytes: int = attrs.field(default=MAX_HANDSHAKE_SIZE, validator=_at_least(_KIB))
    connections: int = attrs.field(default=65_536, validator=_at_least(1))
    requests_per_connection: int = attrs.field(default=16_384, validator=_at_least(1))
    requests: int = attrs.field(default=262_144, validator=_at_least(1))
    waiting_per_group: int = attrs.field(default=4_096, validator=_at_least(0))
    waiting_bytes: int = attrs.field(default=64 * _MIB, validator=_at_least(0))
    outbox_high_bytes: int = attrs.field(default=4 * _MIB, validator=_at_least(_KIB))
    outbox_bytes: int = attrs.field(default=16 * _MIB, validator=_at_least(_KIB))

    def __attrs_post_init__(self) -> None:
        if self.outbox_bytes < self.outbox_high_bytes:
            raise ValueError("outbox_bytes must be at least outbox_high_bytes")


@attrs.frozen
class Settings:
    """Everything, frozen: a reload makes a new one.

    Attributes:
        allowed_origins: the web pages that may connect from their visitors' browsers, as these
            write them in `Origin`: "https://example.org". Whoever sends no `Origin` is no page.
    """

    listeners: tuple[ListenerSettings, ...] = attrs.field(
        default=(ListenerSettings(f"tcp://127.0.0.1:{DEFAULT_PORT}"),),
        validator=validators.min_len(1),
    )
    tokens: tuple[TokenSettings, ...] = ()
    allowed_origins: tuple[str, ...] = attrs.field(default=(), validator=_check_origins)
    timing: TimingSettings = TimingSettings()
    limits: LimitSettings = LimitSettings()
