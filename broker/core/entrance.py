"""Lets connections in: who they are, what they may do, and until when.

Operations: `admit` (the cost of one authentication), `leave`, `expired`, `reload` (linear in the
connections that are there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from broker.core.addresses import network_of
from broker.core.authentication import Authenticator
from broker.core.deadlines import Alarm, Deadlines
from broker.core.peer import Member, Peer
from broker.core.permissions import sending_rules
from broker.core.principal import AuthenticationError, Credentials, Principal
from broker.core.rates import Rates
from broker.core.settings import Settings
from broker.core.statistics import Counters
from broker.core.throttle import FailureThrottle
from broker.protocol.codec import Envelope
from broker.protocol.errors import Reason, RemoteProtocolError
from broker.protocol.identify import Identification, parse_identification

__all__ = ["Entrance"]

# No deadline is set for what lies further ahead, in seconds: some ten years.
_FOREVER: Final = 300_000_000.0


class Entrance:
    """Admits whoever can say who it is.

    Args:
        settings: who is known, and how many failures are borne.
        counters: what has happened so far.
        alarm: when to look at `expired`.
        wall_clock: returns the wall-clock time, in seconds since 1970, at a time of the monotonic
            clock. It is looked at when a JWT is shown, and never again for that connection: setting
            the clock disconnects nobody.

    Raises:
        ValueError: the keys for JWTs are no good.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        alarm: Alarm,
        wall_clock: Callable[[float], float],
    ) -> None:
        self._authenticator = Authenticator(settings)
        self._rates = Rates(settings.limits)
        self._throttle = FailureThrottle(settings.limits.failures_per_address)
        self._counters = counters
        self._wall_clock = wall_clock
        self._expiring: Deadlines[Peer] = Deadlines(alarm)

    @property
    def next(self) -> float:
        """When to look again, in seconds."""
        return self._expiring.next

    def admit(self, peer: Peer, envelope: Envelope, now: float) -> str:
        """Authenticate; fill in what the peer said of itself; return its group.

        Raises:
            RemoteProtocolError: it is not let in.
        """
        said = parse_identification(envelope.data)
        principal = self._authenticate(peer, said, now)
        group = said.group
        if group is None and len(principal.groups) == 1:
            (group,) = principal.groups
        if group is None:
            raise RemoteProtocolError(Reason.IDENTIFY_FAILED, "data.group: is missing")
        if not principal.may_join(group):
            raise RemoteProtocolError(
                Reason.IDENTIFY_FAILED, f"data.group: you may not join {group!r}"
            )
        peer.set_group(group)
        peer.echo = said.echo is not False
        peer.concurrency = said.concurrency
        peer.permissions = sending_rules(principal.permissions)
        peer.member = Member(principal=principal, name=said.name, meta=said.meta or {}, since=now)
        self._rates.join(peer, principal, now)
        if principal.expires is not None:
            left = principal.expires - self._wall_clock(now)
            if left < _FOREVER:
                self._expiring.add(peer, now + left, now)
        return group

    def leave(self, peer: Peer) -> None:
        """Note that a peer is gone."""
        self._expiring.discard(peer)
        self._rates.leave(peer)

    def expired(self, now: float) -> Iterator[Peer]:
        """Return the peers whose credentials have expired."""
        return self._expiring.due(now)

    def reload(
        self, settings: Settings, peers: Sequence[Peer], now: float
    ) -> list[tuple[Peer, str]]:
        """Go by other settings from now on.

        Args:
            settings: the new ones.
            peers: the identified peers. What they may do is as in the new settings at once.
            now: seconds.

        Returns:
            The peers that may not stay, each with the reason.

        Raises:
            ValueError: the keys for JWTs are no good; nothing has changed.
        """
        self._authenticator = Authenticator(settings)
        self._throttle.most = settings.limits.failures_per_address
        self._rates.set_limits(settings.limits)
        return list(self._renew(peers, now))

    def _renew(self, peers: Sequence[Peer], now: float) -> Iterator[tuple[Peer, str]]:
        for peer in peers:
            member = peer.member
            if member is None:
                continue
            principal = self._authenticator.renew(member.principal)
            if principal is None:
                yield peer, "what you identified yourself with is not accepted any more"
            elif not principal.may_join(peer.source.group):
                yield peer, f"you may not be in group {peer.source.group!r} any more"
            else:
                peer.permissions = sending_rules(principal.permissions)
                peer.member = Member(principal, member.name, member.meta, member.since)
                self._rates.join(peer, principal, now)

    def _authenticate(self, peer: Peer, said: Identification, now: float) -> Principal:
        network = _network_of(peer)
        if network is not None:
            wait = self._throttle.blocked_for(network, now)
            if wait:
                self._counters.throttled += 1
                raise RemoteProtocolError(
                    Reason.TRY_AGAIN_LATER,
                    "too many failed IDENTIFYs came from your address; "
                    f"try again in {int(wait) + 1} s",
                )
        credentials = Credentials(said.token, peer.certificate_names)
        try:
            return self._authenticator.authenticate(credentials, self._wall_clock(now))
        except AuthenticationError as error:
            self._counters.failed_authentications += 1
            if network is not None:
                self._throttle.failed(network, now)
            raise RemoteProtocolError(Reason.IDENTIFY_FAILED, str(error)) from None


def _network_of(peer: Peer) -> str | None:
    """Return whose failures a peer's count among; None for a Unix socket, which has no address."""
    host, separator, _port = peer.address.rpartition(":")
    return network_of(host.strip("[]")) if separator else None
