"""Who a connection belongs to."""

from __future__ import annotations

import attrs

from broker.core.access_settings import PermissionSettings
from broker.protocol.errors import SwitchboardError

__all__ = ["AuthenticationError", "Credentials", "Principal"]


class AuthenticationError(SwitchboardError):
    """Nobody is known by these credentials. The message says why, and repeats none of them."""


@attrs.frozen
class Credentials:
    """What somebody shows to be let in.

    Attributes:
        token: from the IDENTIFY.
        certificate_names: whom the client certificate names, once TLS has verified it.
    """

    token: str | None = attrs.field(default=None, repr=False)
    certificate_names: tuple[str, ...] = ()


@attrs.frozen
class Principal:
    """Who a connection belongs to, and what that allows.

    Attributes:
        name: what logs call it.
        groups: the groups that it may join; empty for any.
        permissions: what it may do.
        expires: when it has to leave, in seconds since 1970; None for never.
        proof: what it was known by, for its method of authentication to find it again after a
            reload. It holds no secret.
    """

    name: str
    groups: frozenset[str] = frozenset()
    permissions: PermissionSettings = attrs.field(factory=PermissionSettings)
    expires: float | None = None
    proof: object = attrs.field(default=None, repr=False)

    def may_join(self, group: str) -> bool:
        """Whether a connection of this principal may be a member of `group`."""
        return not self.groups or group in self.groups
