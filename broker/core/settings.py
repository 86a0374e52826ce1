"""What an operator can set, with safe defaults. Loading them is `broker.settings_loader`'s work.

Durations are in milliseconds and sizes in bytes, as on the wire; names say which.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
from attrs import validators

from broker.core.access_settings import (
    CertificateSettings,
    JwtSettings,
    TokenSettings,
    check_sha256,
)
from broker.protocol.limits import (
    MAX_GROWTH,
    MAX_HANDSHAKE_SIZE,
    MAX_MESSAGE_SIZE,
    MAX_NESTING,
    MAX_UNIDENTIFIED_SIZE,
)

__all__ = [
    "DEFAULT_OPS_PORT",
    "DEFAULT_PORT",
    "LimitSettings",
    "ListenerSettings",
    "OpsSettings",
    "Settings",
    "TimingSettings",
    "TokenSettings",
]

DEFAULT_PORT: Final = 8420
DEFAULT_OPS_PORT: Final = 8421

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

_TCP_ADDRESS: Final = re.compile(
    r"(?P<scheme>tcp|tls)://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/]+):(?P<port>\d{1,5})"
)
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")
_MAX_PORT: Final = 65_535
_UNIX_ADDRESS: Final = re.compile(r"unix://(?P<path>/.+)")


def _at_least(smallest: int) -> Any:  # noqa: ANN401 - attrs types its validators by the attribute
    return validators.and_(validators.instance_of(int), validators.ge(smallest))


def _between(smallest: int, largest: int) -> Any:  # noqa: ANN401 - likewise
    return validators.and_(_at_least(smallest), validators.le(largest))


_TLS_KEYS: Final = ("certificate", "key", "client_ca", "client_certificate")


def _optional_path(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and not value:
        raise ValueError("is empty: write the path of a PEM file, or leave it out")


def _host_and_port(address: str) -> tuple[str, int] | None:
    found = _HOST_AND_PORT.fullmatch(address)
    if found is None or int(found["port"]) > _MAX_PORT:
        return None
    return found["host"].strip("[]"), int(found["port"])


def _check_ops(_instance: object, _attribute: object, value: str) -> None:
    if value and _host_and_port(value) is None:
        raise ValueError(
            f"{value!r} is no address: write HOST:PORT, such as 127.0.0.1:{DEFAULT_OPS_PORT}, "
            'or "" for none'
        )


def _check_host_names(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise ValueError(f"{name!r} is no host name: write it without scheme and port")


@attrs.frozen
class ListenerSettings:
    """One address to listen on.

    Attributes:
        address: `tcp://HOST:PORT` (`tcp://[::1]:8420` for IPv6; port 0 lets the system choose
            one), `tls://HOST:PORT` for the same with TLS, or `unix:///PATH`.
        certificate: for `tls://`: a PEM file with the broker's certificate, and behind it those
            that lead to a root.
        key: for `tls://`: a PEM file with the certificate's private key, not encrypted.
        client_ca: for `tls://`: a PEM file with the roots that clients' certificates have to lead
            to. Where it is left out, clients are not asked for certificates.
        client_certificate: "required" (the default where there is a `client_ca`) or "optional".

    Raises:
        ValueError: the address has another form, or the files don't belong to it.
    """

    address: str = attrs.field(validator=validators.instance_of(str))
    certificate: str | None = attrs.field(default=None, validator=_optional_path)
    key: str | None = attrs.field(default=None, validator=_optional_path)
    client_ca: str | None = attrs.field(default=None, validator=_optional_path)
    client_certificate: str | None = attrs.field(default=None)

    @address.validator
    def _check_address(self, _attribute: object, value: str) -> None:
        tcp = _TCP_ADDRESS.fullmatch(value)
        if tcp is None and _UNIX_ADDRESS.fullmatch(value) is None:
            raise ValueError(
                f"{value!r} is no address: write tcp://127.0.0.1:{DEFAULT_PORT}, "
                f"tls://0.0.0.0:{DEFAULT_PORT} or unix:///run/switchboard.sock"
            )
        if tcp is not None and int(tcp["port"]) > 65535:
            raise ValueError(f"{value!r}: a port is a number up to 65535")

    @client_certificate.validator
    def _check_client_certificate(self, _attribute: object, value: str | None) -> None:
        if value not in (None, "required", "optional"):
            raise ValueError(f'must be "required" or "optional" (is {value!r})')

    def __attrs_post_init__(self) -> None:
        given = {name: getattr(self, name) is not None for name in _TLS_KEYS}
        if not self.tls:
            for name in _TLS_KEYS:
                if given[name]:
                    raise ValueError(
                        f"{name} is for TLS alone: write tls://HOST:PORT as the address"
                    )
        elif not (given["certificate"] and given["key"]):
            raise ValueError(
                "tls:// needs certificate and key in the configuration: the paths of PEM files"
            )
        elif given["client_certificate"] and not given["client_ca"]:
            raise ValueError("client_certificate needs client_ca, the roots to check it by")

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.address.startswith("tls://")

    @property
    def unix_path(self) -> str | None:
        """The socket's path, or None for TCP (and for TLS, which is over TCP)."""
        found = _UNIX_ADDRESS.fullmatch(self.address)
        return None if found is None else found["path"]

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Host and port, or None for a Unix socket."""
        found = _TCP_ADDRESS.fullmatch(self.address)
        return None if found is None else (found["host"].strip("[]"), int(found["port"]))


def _check_origins(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for origin in value:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError(
                f"{origin!r} is no origin: write scheme, host and port alone, "
                "such as https://example.org"
            )


@attrs.frozen
class TimingSettings:
    """How long things may take, in milliseconds.

    Attributes:
        ping_ms: a connection idle this long gets a PING, and this long again to answer. The default
            finds a dead service within a minute; NATS takes up to four.
        identify_ms: from the accepted connection to a valid IDENTIFY. Slow links need two or three
            seconds for TCP, an upgrade and a frame.
        grace_ms: how long a broker that is told to stop goes on as ever, but for saying at
            `/readyz` that it is not ready: the time that a load balancer takes to notice.
        drain_ms: from then to the end, whatever clients do.
        goodbye_ms: how long a connection that was told to leave may take to close its side.
        stall_ms: how long a receiver past its high mark may hold up its senders before it is cut.
    """

    ping_ms: int = attrs.field(default=30_000, validator=_at_least(100))
    identify_ms: int = attrs.field(default=5_000, validator=_at_least(100))
    grace_ms: int = attrs.field(default=0, validator=_at_least(0))
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
        connections_per_address: connections of one IP address; an IPv6 address stands for its /64,
            which is the least that a customer is given. As many as in all: services on one host,
            or behind one proxy or NAT, share an address. To be lowered where strangers can knock.
        unidentified_connections: connections that have not identified themselves. Past it, the
            oldest makes room for the next, so those who can identify themselves get in. Each takes
            2 to 24 KiB. More than a flood at `accepts_per_second` brings about within the time for
            IDENTIFY.
        accepts_per_second: connections that are taken in; more wait in the system's backlog. A
            mesh of some thousand services is back within seconds, and the others get most of the
            processor's time meanwhile.
        requests_per_connection: requests in flight that one connection may have made.
        requests: requests in flight in all; each takes about a kilobyte of the broker's memory.
        waiting_per_group: requests that wait while every member of a group is at its concurrency.
            Where more would have to wait, the group needs members, not a longer queue.
        waiting_bytes: the `data` of all waiting requests together.
        outbox_high_bytes: past this much unsent, senders that feed a receiver are not read. Room
            for some thousand ordinary messages, so that a busy pair never meets it.
        outbox_bytes: past this much unsent, a receiver is cut as SLOW_CONSUMER. Room for the
            largest message in any case.
        outboxes_bytes: past this much memory for what all receivers have yet to take, the largest
            outboxes are cut until it is less. The bounds of each connection multiply: 16 MiB for
            each of 65,536 would be a terabyte. With this default a broker does with a gigabyte, and
            it takes 32 receivers at their own limit to come to it.
        nesting: how deep `data` and `error` may be nested; see `MAX_NESTING`, which is also the
            most, for why.
        messages_per_second: what a principal may send, all its connections together; no bound where
            it is left out, since most meshes trust their services. At most a second's worth at
            once.
        bytes_per_second: likewise.
        failures_per_address: failed authentications from one address (of IPv6, one /64) in a
            minute; whoever has more is turned away for a minute. Enough for a service that is
            restarted with a wrong token every other second, and far too few to guess anything.
            0 for no such limit, where all connections come through one proxy.
    """

    message_bytes: int = attrs.field(default=MAX_MESSAGE_SIZE, validator=_at_least(_KIB))
    unidentified_bytes: int = attrs.field(default=MAX_UNIDENTIFIED_SIZE, validator=_at_least(256))
    handshake_bytes: int = attrs.field(default=MAX_HANDSHAKE_SIZE, validator=_at_least(_KIB))
    connections: int = attrs.field(default=65_536, validator=_at_least(1))
    connections_per_address: int = attrs.field(default=65_536, validator=_at_least(1))
    unidentified_connections: int = attrs.field(default=16_384, validator=_at_least(1))
    accepts_per_second: int = attrs.field(default=1_000, validator=_at_least(1))
    requests_per_connection: int = attrs.field(default=16_384, validator=_at_least(1))
    requests: int = attrs.field(default=262_144, validator=_at_least(1))
    waiting_per_group: int = attrs.field(default=4_096, validator=_at_least(0))
    waiting_bytes: int = attrs.field(default=64 * _MIB, validator=_at_least(0))
    outbox_high_bytes: int = attrs.field(default=4 * _MIB, validator=_at_least(_KIB))
    outbox_bytes: int = attrs.field(default=16 * _MIB, validator=_at_least(_KIB))
    outboxes_bytes: int = attrs.field(default=512 * _MIB, validator=_at_least(_KIB))
    nesting: int = attrs.field(default=MAX_NESTING, validator=_between(8, MAX_NESTING))
    messages_per_second: int | None = attrs.field(
        default=None, validator=validators.optional(_at_least(1))
    )
    bytes_per_second: int | None = attrs.field(
        default=None, validator=validators.optional(_at_least(1))
    )
    failures_per_address: int = attrs.field(default=30, validator=_at_least(0))

    def __attrs_post_init__(self) -> None:
        if self.outbox_bytes < self.outbox_high_bytes:
            raise ValueError("outbox_bytes must be at least outbox_high_bytes")
        if self.outbox_bytes < self.message_bytes + MAX_GROWTH:
            raise ValueError(
                f"outbox_bytes must be at least message_bytes and {MAX_GROWTH} more: a receiver of "
                "the largest message would be cut on its account"
            )
        if self.outboxes_bytes < self.outbox_bytes:
            raise ValueError("outboxes_bytes must be at least outbox_bytes")


@attrs.frozen
class OpsSettings:
    """The HTTP port for those who operate the broker.

    Attributes:
        address: `HOST:PORT`; "" for none. Where it is left out, `switchboard serve` takes
            127.0.0.1:8421 if that is free, and goes without it if not.
        token_sha256: the SHA-256 of a token that has to be shown, as for `tokens`; None for none.
        host_names: what else than an IP address or "localhost" may stand in `Host` where no token
            is asked for: the names under which the port is reached.
        metrics: whether what costs time on the hot path is measured: latencies, who asks whom.
    """

    address: str | None = attrs.field(
        default=None,
        validator=validators.optional(validators.and_(validators.instance_of(str), _check_ops)),
    )
    token_sha256: str | None = attrs.field(
        default=None, validator=validators.optional(check_sha256), repr=False
    )
    host_names: tuple[str, ...] = attrs.field(default=(), validator=_check_host_names)
    metrics: bool = attrs.field(default=True, validator=validators.instance_of(bool))

    @property
    def host_and_port(self) -> tuple[str, int] | None:
        """Where to listen; None for nowhere."""
        return None if not self.address else _host_and_port(self.address)


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
    certificates: tuple[CertificateSettings, ...] = ()
    jwt: JwtSettings | None = None
    allowed_origins: tuple[str, ...] = attrs.field(default=(), validator=_check_origins)
    timing: TimingSettings = TimingSettings()
    limits: LimitSettings = LimitSettings()
    ops: OpsSettings = OpsSettings()
