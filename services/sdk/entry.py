"""`connect`: the way in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.protocol.identify import Identification
from services.sdk.dialing import Dial, dial
from services.sdk.inbox import ErrorCallback
from services.sdk.mesh import Mesh

__all__ = ["connect"]


def connect(
    url: str,
    *,
    group: str | None = None,
    token: str,
    name: str | None = None,
    meta: Mapping[str, Any] | None = None,
    echo: bool | None = None,
    concurrency: int | None = None,
    on_error: ErrorCallback | None = None,
    timeout: float = 10.0,
    dial: Dial = dial,
) -> Mesh:
    """Connect to a broker, for the body of an `async with`.

    Leaving the body sends what is left, says goodbye and closes; it takes two seconds at most.

    Args:
        url: `ws://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`.
        group: the group to join; may be left out where the token is good for one group only.
        token: the credential.
        name: a name for people.
        meta: a small object, shown to whoever may list the services.
        echo: False: no copies of one's own broadcasts.
        concurrency: how many requests the broker may hand to this connection at a time.
        on_error: is told of errors that belong to no call in progress, such as an emit that reached
            nobody; they are logged where it is absent. Runs in the connection's reader: it must not
            block.
        timeout: seconds for the connection to stand.
        dial: opens the bytes to the broker; for tests.

    Raises (on entering):
        CannotConnect: there is no broker, or it did not answer in time.
        IdentifyFailed: the broker did not accept the token or the group.
        Disconnected: the broker takes no one at present.

    Example:
        >>> async with connect("ws://127.0.0.1:8420", group="web", token="...") as mesh:
        ...     await mesh.emit("HELLO")
    """
    identification = Identification(
        token=token,
        group=group,
        name=name,
        meta=None if meta is None else dict(meta),
        echo=echo,
        concurrency=concurrency,
    )
    return Mesh(url, identification, on_error=on_error, connect_timeout=timeout, dial=dial)
