"""`connect`: the way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict

import msgspec

from broker.protocol.identify import Identification
from services.sdk.backoff import Backoff
from services.sdk.dialing import Dial, dial
from services.sdk.errors import CannotConnect
from services.sdk.inbox import ErrorCallback
from services.sdk.mesh import Mesh
from services.sdk.rounds import LinkOptions
from services.sdk.tls import TlsOption, secure
from services.sdk.urls import parse_url

__all__ = [
    "DEFAULT_BACKOFF",
    "DEFAULT_PATIENCE",
    "CommonOptions",
    "ConnectOptions",
    "Token",
    "connect",
]

DEFAULT_BACKOFF: Final = Backoff()

# A broker that is restarted is back within seconds; who waits for longer wants to know.
DEFAULT_PATIENCE: Final = 5.0


Token: TypeAlias = str | Callable[[], str] | None
"""A credential, or what returns the one of the moment, or none."""


class CommonOptions(TypedDict, total=False):
    """What `connect` and `Service.serve` both take beside the URL and the token."""

    name: str | None
    meta: Mapping[str, Any] | None
    echo: bool | None
    on_error: ErrorCallback | None
    timeout: float
    reconnect: Backoff | None
    insist: bool
    patience: float
    tls: TlsOption
    dial: Dial


class ConnectOptions(CommonOptions, total=False):
    """What `connect` takes beside the URL and the token."""

    group: str | None
    concurrency: int | None


def connect(
    url: str | Sequence[str],
    *,
    group: str | None = None,
    token: Token,
    name: str | None = None,
    meta: Mapping[str, Any] | None = None,
    echo: bool | None = None,
    concurrency: int | None = None,
    on_error: ErrorCallback | None = None,
    timeout: float = 10.0,
    reconnect: Backoff | None = DEFAULT_BACKOFF,
    insist: bool = False,
    patience: float = DEFAULT_PATIENCE,
    tls: TlsOption = None,
    dial: Dial = dial,
) -> Mesh:
    """Connect to a broker, for the body of an `async with`.

    Leaving the body sends what is left, says goodbye and closes; it takes two seconds at most.

    A connection that is lost is made again, unless the reason is one that would only come again (a
    token that is not accepted, say). Requests that were under way fail with `ConnectionLost`, whose
    `may_have_arrived` says whether the callee may have got them. What is sent meanwhile waits, for
    as long as `patience`. Listeners go on, and watches begin anew with a `Snapshot`.

    Args:
        url: `ws://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`, with TLS `wss://HOST:PORT` or
            `tls://HOST:PORT`; or several of them, to be tried in turn.
        group: the group to join; may be left out where the token is good for one group only.
        token: the credential. A function is asked for it at each connection, for tokens that expire
            and are renewed; it must not block, and where it raises that attempt has failed. None
            where the client's certificate is enough.
        name: a name for people.
        meta: a small object, shown to whoever may list the services.
        echo: False: no copies of one's own broadcasts.
        concurrency: how many requests the broker may hand to this connection at a time.
        on_error: is told of errors that belong to no call in progress, such as an emit that reached
            nobody; they are logged where it is absent. Runs in the connection's reader: it must not
            block.
        timeout: seconds for a connection to stand.
        reconnect: the pauses between attempts to connect again; None: a lost connection is the end.
        insist: whether entering tries for as long as it takes, where otherwise it raises when there
            is no broker.
        patience: seconds that sending waits for a connection where there is none.
        tls: for `wss://` and `tls://`: whom to trust, and who this client is; see `Tls`. Where it
            is absent, the broker's certificate must come from an authority that the system trusts.
            An `ssl.SSLContext` is taken as it is.
        dial: opens the bytes to the broker; for tests.

    Raises (on entering):
        CannotConnect: there is no broker, or none of them answered in time.
        TlsFailed, CertificateInvalid: TLS did not come about, and will not on another attempt.
        IdentifyFailed: the broker did not accept the token or the group.
        Disconnected: the broker takes no one at present.

    Raises (at once):
        ValueError: a URL has none of these forms, or there is no URL; or what `tls` names cannot be
            read, or is of no use to any URL.

    Example:
        >>> async with connect("ws://127.0.0.1:8420", group="web", token="...") as mesh:
        ...     await mesh.emit("HELLO")
    """
    urls = [url] if isinstance(url, str) else url
    if not urls:
        raise ValueError("there is no URL to connect to")
    identification = Identification(
        token=token if isinstance(token, str) else None,
        group=group,
        name=name,
        meta=None if meta is None else dict(meta),
        echo=echo,
        concurrency=concurrency,
    )
    addresses = [parse_url(one) for one in urls]
    options = LinkOptions(
        addresses=addresses,
        identify=_identify_with(token, identification),
        dial=secure(dial, addresses, tls),
        timeout=timeout,
        backoff=reconnect,
        insist=insist,
        renews=callable(token),
    )
    return Mesh(options, on_error=on_error, patience=patience)


def _identify_with(token: Token, identification: Identification) -> Callable[[], Identification]:
    if token is None or isinstance(token, str):
        return lambda: identification

    def identify() -> Identification:
        try:
            current = token()
        except Exception as error:
            raise CannotConnect(f"there is no token to identify with: {error!r}") from error
        return msgspec.structs.replace(identification, token=current)

    return identify
