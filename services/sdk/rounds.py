"""Where brokers are, and trying them in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from broker.protocol.errors import Reason
from broker.protocol.identify import Identification
from services.sdk.backoff import Backoff
from services.sdk.connection import Connection
from services.sdk.dialing import Dial
from services.sdk.errors import ConnectionLost, Disconnected, MeshError
from services.sdk.opening import open_connection
from services.sdk.parting import heals
from services.sdk.receiver import Receiver
from services.sdk.urls import Address

__all__ = ["LinkOptions", "Rounds"]


@attrs.frozen
class LinkOptions:
    """How a link is made.

    Attributes:
        addresses: where brokers are; tried in turn.
        identify: says who this client is; asked anew for each connection.
        dial: opens the bytes.
        timeout: seconds for one connection to stand.
        backoff: pauses between attempts; None for a single connection.
        insist: whether the very first connection is tried for as often as later ones.
        renews: whether `identify` may have another token the next time, so that coming back is of
            use where a token has expired.
    """

    addresses: Sequence[Address]
    identify: Callable[[], Identification]
    dial: Dial
    timeout: float
    backoff: Backoff | None
    insist: bool
    renews: bool = False

    def heals(self, error: MeshError) -> bool:
        """Tell whether a new connection may fare better than the one that ended with this."""
        expired = isinstance(error, Disconnected) and error.reason == Reason.UNAUTHORIZED
        return heals(error) or (self.renews and expired)


class Rounds:
    """Makes connections, to one address or another.

    Args:
        options: where to, and how.
        receiver: whom the connections tell.
    """

    def __init__(self, options: LinkOptions, receiver: Receiver) -> None:
        self._options = options
        self._receiver = receiver
        self._next = 0

    async def connect(self) -> Connection:
        """Try every address once; the next time begins behind the one that was taken.

        Raises:
            CannotConnect, Disconnected, IdentifyFailed: none has worked. The last error is raised,
                those before it stand in its notes. One that would come again elsewhere too ends the
                round.
        """
        options = self._options
        failures: list[ConnectionLost] = []
        for number in range(len(options.addresses)):
            index = (self._next + number) % len(options.addresses)
            try:
                connection = await open_connection(
                    options.addresses[index],
                    options.identify(),
                    self._receiver,
                    dial=options.dial,
                    timeout=options.timeout,
                )
            except ConnectionLost as error:
                failures.append(error)
                if not options.heals(error):
                    break
            else:
                self._next = (index + 1) % len(options.addresses)
                return connection
        for earlier in failures[:-1]:
            failures[-1].add_note(f"before that: {earlier}")
        raise failures[-1]
