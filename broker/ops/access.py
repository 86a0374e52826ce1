"""Who may see what the ops port shows.

Where there is a token, whoever shows it: as `Authorization: Bearer`, or as the password of HTTP's
Basic, since that is what browsers can ask their user for. Where there is none, the port is for this
machine alone; but a page that somebody opens in a browser there may point a host name of its own at
127.0.0.1, and then read what that answers ("DNS rebinding"). Such a request has the page's own host
name in `Host`; so without a token, only IP addresses, localhost and names that the operator has
listed may stand there.

The probes are open to all: they say no more than whether the broker is ready, and whoever probes
(a load balancer, a kubelet) has no secrets.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers

from broker.core.authentication import hash_token

__all__ = ["CHALLENGES", "PROBES", "Access"]

PROBES: Final = ("/healthz", "/readyz")

CHALLENGES: Final = ('Bearer realm="switchboard"', 'Basic realm="switchboard", charset="UTF-8"')
"""What comes with 401, in `WWW-Authenticate`."""


class Access:
    """Judges requests.

    Args:
        token_sha256: the hash of the token; None for none.
        host_names: names that may stand in `Host` where there is no token.
    """

    def __init__(self, token_sha256: str | None, host_names: Collection[str]) -> None:
        self._token = token_sha256
        self._host_names = {"localhost", *(name.lower() for name in host_names)}

    def objection(self, headers: Headers) -> tuple[int, str] | None:
        """Return the status and the words that a request is turned away with; None for none."""
        if self._token is not None:
            shown = _token_in(headers.get("authorization", ""))
            if shown is not None and hmac.compare_digest(hash_token(shown), self._token):
                return None
            return 401, "show the token of ops.token_sha256, as a bearer or as a password"
        host = headers.get("host", "")
        if _is_address(host) or _without_port(host).lower() in self._host_names:
            return None
        return 403, "this host name is not known here: add it to ops.host_names, or set a token"


def _token_in(authorization: str) -> str | None:
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        return None
    try:
        _user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(_without_port(host))
    except ValueError:
        return False
    return True
