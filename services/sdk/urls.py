"""Where a broker is: `ws://`, `tcp://` and `unix://` URLs, and with TLS `wss://` and `tls://`."""

from __future__ import annotations

from enum import Enum
from typing import Final
from urllib.parse import urlsplit

import attrs

__all__ = ["Address", "Scheme", "parse_url"]

_DEFAULT_PORT: Final = 8420
_FORMS: Final = "ws://HOST:PORT, wss://..., tcp://..., tls://... or unix:///PATH"


class Scheme(Enum):
    """How a broker is reached. WebSocket and raw streams share one port of it."""

    WS = "ws"
    WSS = "wss"
    TCP = "tcp"
    TLS = "tls"
    UNIX = "unix"

    @property
    def websocket(self) -> bool:
        """Whether frames are carried by WebSocket messages; if not, by lines."""
        return self is Scheme.WS or self is Scheme.WSS

    @property
    def encrypted(self) -> bool:
        """Whether the bytes go through TLS."""
        return self is Scheme.WSS or self is Scheme.TLS


_OTHERS: Final = {
    Scheme.WS: Scheme.WSS,
    Scheme.WSS: Scheme.WS,
    Scheme.TCP: Scheme.TLS,
    Scheme.TLS: Scheme.TCP,
    Scheme.UNIX: Scheme.UNIX,
}


@attrs.frozen
class Address:
    """A URL, taken apart.

    Attributes:
        host: name or number; empty for UNIX.
        port: 0 for UNIX.
        path: what a WebSocket handshake asks for, or the path of the Unix socket.
    """

    url: str
    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = "/"

    @property
    def authority(self) -> str:
        """`HOST:PORT` as the Host header of a WebSocket handshake has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def other_url(self) -> str:
        """The same without TLS where it has it, and with TLS where it has not; for advice."""
        _, _, rest = self.url.partition("://")
        return f"{_OTHERS[self.scheme].value}://{rest}"


def parse_url(url: str) -> Address:
    """Take a broker's URL apart. Without a port, it is 8420.

    Raises:
        ValueError: it is none of these forms.

    Example:
        >>> parse_url("tcp://127.0.0.1:8420").port
        8420
    """
    try:
        parts = urlsplit(url)
        scheme = Scheme(parts.scheme)
        port = parts.port if parts.port is not None else _DEFAULT_PORT
    except ValueError:
        raise ValueError(f"{url!r} is no address of a broker: write {_FORMS}") from None
    if parts.username is not None or parts.fragment:
        raise ValueError(f"{url!r}: credentials and fragments have no place there; use token=")
    if scheme is Scheme.UNIX:
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"{url!r}: a Unix socket has an absolute path: unix:///run/name.sock")
        return Address(url, scheme, path=parts.path)
    if not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is no address of a broker: write {_FORMS}")
    if not scheme.websocket and parts.path.strip("/"):
        raise ValueError(f"{url!r}: the address of a raw stream ends with its port")
    path = parts.path or "/"
    if parts.query:
        path = f"{path}?{parts.query}"
    return Address(url, scheme, parts.hostname, port, path)
