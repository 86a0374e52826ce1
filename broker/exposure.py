"""Would these settings expose the broker to strangers?

Whoever can reach a port without TLS can read the tokens and frames of others on the way; whoever
can reach any port can try tokens. So an address that other machines can reach asks for TLS, and for
credentials that nobody guesses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from broker.core.authentication import hash_token
from broker.core.settings import ListenerSettings, OpsSettings, Settings

__all__ = ["SHORTEST_TOKEN", "exposures"]

# `switchboard token new` makes 47 characters, of which 43 are random: 256 bits. With 20 characters
# that are really random there are some 100 bits still.
SHORTEST_TOKEN: Final = 20

# What people and documents write where a secret should stand. Only hashes are known of the tokens
# in a configuration, so there is no other way to tell a bad one.
_WELL_KNOWN: Final = (
    "a-long-random-secret",
    "admin",
    "broker",
    "change-me",
    "changeme",
    "default",
    "demo",
    "dev",
    "guest",
    "let-me-in",
    "letmein",
    "nats",
    "password",
    "secret",
    "swb_RkZgJnEGtLWrYvbKCiQyjiVzeyoFvZ4p1h0JyjmkkVM",  # stands in docs/operations.md
    "switchboard",
    "test",
    "token",
    "xxx",
)

_HOW: Final = "; or say --insecure, if nothing but a trusted network can reach it"


def exposures(settings: Settings, *, environment_token: str | None, made_up: bool) -> list[str]:
    """Return what is wrong with listening on addresses that others can reach.

    Looks host names up, which may take its time.

    Args:
        settings: what the broker would run with.
        environment_token: the token that came from the environment, if one did.
        made_up: whether its only token is one that was made up and shown on the terminal.

    Returns:
        One line each, with what to do. Nothing where no other machine can reach the broker.
    """
    exposed = [listener for listener in settings.listeners if _reachable(listener.tcp_address)]
    return [
        *(
            _listener_problems(settings, exposed, environment_token, made_up=made_up)
            if exposed
            else []
        ),
        *_ops_problems(settings.ops),
    ]


def _ops_problems(ops: OpsSettings) -> list[str]:
    """What is wrong with the ops port: it tells who is connected, and how much goes on."""
    if not _reachable(ops.host_and_port):
        return []
    reached = f"{ops.address}, the ops port, can be reached from other machines"
    if ops.token_sha256 is None:
        problem = f"{reached}, and anybody could read it: set ops.token_sha256, for which "
        return [f"{problem}`switchboard token new` makes a token{_HOW}"]
    if ops.token_sha256 in {hash_token(token) for token in _WELL_KNOWN}:
        problem = f"the token of ops.token_sha256 is one that everybody knows, and {reached}"
        return [f"{problem}: make one with `switchboard token new`{_HOW}"]
    return []


def _listener_problems(
    settings: Settings,
    exposed: Sequence[ListenerSettings],
    environment_token: str | None,
    *,
    made_up: bool,
) -> list[str]:
    problems = [
        f"{listener.address} can be reached from other machines, and has no TLS: "
        f"use tls:// with certificate and key, or a proxy in front of tcp://127.0.0.1{_HOW}"
        for listener in exposed
        if not listener.tls
    ]
    address = exposed[0].address
    if made_up:
        problems.append(
            f"{address} can be reached from other machines, and no token is configured: "
            f"make one with `switchboard token new`{_HOW}"
        )
    if environment_token and len(environment_token) < SHORTEST_TOKEN:
        problems.append(
            f"SWITCHBOARD_TOKEN is shorter than {SHORTEST_TOKEN} characters, and {address} can be "
            f"reached from other machines: make a token with `switchboard token new`{_HOW}"
        )
    known = {hash_token(token) for token in _WELL_KNOWN}
    problems += [
        f"the token {token.name!r} is one that everybody knows, and {address} can be reached from "
        f"other machines: make one with `switchboard token new`{_HOW}"
        for token in settings.tokens
        if token.sha256 in known
    ]
    return problems


def _reachable(address: tuple[str, int] | None) -> bool:
    """Whether other machines can reach a host and port."""
    if address is None:
        return False
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # Listening there will fail, and say why.
        return False
    return any(not _is_loopback(str(entry[4][0])) for entry in found)


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback
