"""Ports that are in use, found before anything is started."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from typing import Final

from services.demo.errors import DemoError

__all__ = ["HOST", "check_ports"]

HOST: Final = "127.0.0.1"


def check_ports(wanted: Mapping[str, int]) -> None:
    """See that all ports can be had.

    Args:
        wanted: numbers by name; 0 is the system's choice.

    Raises:
        DemoError: some cannot, and which.
    """
    problems = {
        name: (port, problem)
        for name, port in wanted.items()
        if port and (problem := _problem_with(port))
    }
    if not problems:
        return
    told = "; ".join(f"port {port}, for {name}, {why}" for name, (port, why) in problems.items())
    first = next(iter(problems))
    raise DemoError(
        f"{told}. --port {first}=NUMBER names another, --any-port lets the system choose"
    )


def _problem_with(port: int) -> str:
    try:
        # As the programs do: what lingers of a connection that is over does not count.
        socket.create_server((HOST, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "is in use"
        return f"cannot be had: {os.strerror(error.errno or 0)}"
    return ""
