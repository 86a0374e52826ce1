"""What limits by address count by."""

from __future__ import annotations

import pytest

from broker.core.addresses import network_of


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1:2%eth0", "fe80::%eth0/64"),
        ("fe80::1:2%eth1", "fe80::%eth1/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_what_stands_for_everybody_at_an_address(host: str, network: str) -> None:
    assert network_of(host) == network
