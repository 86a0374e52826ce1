"""What can go wrong for a client, one type each, so that a program can tell cases apart.

Three questions, three branches:

* Who ended the connection? `MeshClosed`: this program did. `ConnectionLost`: it broke, or the
  broker ended it (`Disconnected` has the reason).
* Why did a request not get its result? `RequestError`, a subclass for each code of the protocol:
  see `request_errors`.
* What else was there to say? `ListenerOverflow`, `MessageTooBig`, `InvalidReply`.
"""

# ruff: noqa: N818 - they are named for what has happened, as trio's are
from __future__ import annotations

from typing import TYPE_CHECKING

from broker.protocol.errors import SwitchboardError

if TYPE_CHECKING:
    from services.sdk.request_errors import Call

__all__ = [
    "CannotConnect",
    "CertificateInvalid",
    "ConnectionLost",
    "Disconnected",
    "IdentifyFailed",
    "InvalidReply",
    "ListenerOverflow",
    "MeshClosed",
    "MeshError",
    "MessageTooBig",
    "TlsFailed",
    "UnsentEvents",
]


class MeshError(SwitchboardError):
    """Root of every error of the SDK."""


class MeshClosed(MeshError):
    """This program has closed the mesh that it is now trying to use.

    Attributes:
        may_have_arrived: as for `ConnectionLost`.
    """

    may_have_arrived = False


class ConnectionLost(MeshError):
    """The connection broke, or there is none.

    Attributes:
        may_have_arrived: what the call was to send had been written when the connection broke, so
            the callee may have got it. False: it has not, and can be sent again without harm.
    """

    may_have_arrived = False


class UnsentEvents(ConnectionLost):
    """Events that were emitted, and not yet written when the connection ended. They are lost.

    Attributes:
        calls: which they were, in the order in which they were emitted.
    """

    def __init__(self, calls: tuple[Call, ...]) -> None:
        super().__init__(calls)
        self.calls = calls

    def __str__(self) -> str:
        some = ", ".join(map(str, self.calls[:3]))
        more = ", ..." if len(self.calls) > 3 else ""
        return f"not sent before the connection ended: {len(self.calls)} events: {some}{more}"


class CannotConnect(ConnectionLost):
    """There was no connection to begin with: nobody listens there, or it is no broker."""


class TlsFailed(CannotConnect):
    """Somebody was there, but TLS did not come about: a certificate is wrong, or the address is.

    Trying again with the same values is of no use.
    """


class CertificateInvalid(TlsFailed):
    """The broker's certificate does not prove that it is the broker of the URL."""


class Disconnected(ConnectionLost):
    """The broker ended the connection and said why.

    Attributes:
        reason: a `Reason`, or the text that stood in its place.
        message: what the broker said for people; may be empty.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"the broker ended the connection: {self.reason}{_after_colon(self.message)}"


class IdentifyFailed(Disconnected):
    """The broker did not accept this client: the token, the group, or how it said so is wrong.

    Trying again with the same values is of no use.
    """

    def __str__(self) -> str:
        return f"the broker did not let this client in: {self.reason}{_after_colon(self.message)}"


class ListenerOverflow(MeshError):
    """A listener was slower than its events for so long that its buffer is full.

    It has delivered everything up to the first event that found no room, and nothing after.
    """


class MessageTooBig(MeshError):
    """A message is larger than the broker takes. It was not sent."""


class InvalidReply(MeshError):
    """A reply came, but its data is not what `returns=` asked for."""


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
