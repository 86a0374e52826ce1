"""Whose address it is: what limits by address count by."""

from __future__ import annotations

import ipaddress

__all__ = ["network_of"]

# RFC 6177: the least that a site is given. One customer has all of its addresses, and may use
# another for every connection.
_IPV6_PREFIX = 64


def network_of(host: str) -> str:
    """Return what stands for everybody at an address: it itself, or its /64 where it is IPv6.

    Args:
        host: an IP address as the system writes it, without a port. Whatever else it may be stands
            for itself.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        # `%eth0` behind a link-local address says which link it is on; each link has its own.
        scope = "" if address.scope_id is None else f"%{address.scope_id}"
        prefix = int(address) >> _IPV6_PREFIX << _IPV6_PREFIX
        return f"{ipaddress.IPv6Address(prefix)}{scope}/{_IPV6_PREFIX}"
    return str(address)
