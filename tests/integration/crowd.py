"""Many raw streams in one thread, for what has to be measured: no event loop, no tasks."""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.integration.broker_process import TOKEN

__all__ = ["Crowd", "Member", "frame", "peak_memory", "resident_memory"]

# A hang guard, in seconds; nothing is measured by it.
_PATIENCE: Final = 60.0

_RECEIVE_SIZE: Final = 1 << 20

# Where many are read in turns, each gets so much at a time.
_PIECE: Final = 1 << 16


def frame(**properties: Any) -> bytes:
    """Write a frame on a line."""
    return json.dumps(properties, separators=(",", ":")).encode() + b"\n"


def resident_memory(pid: int) -> int:
    """Return the memory that a process has now, in bytes."""
    return _memory(pid, "VmRSS")


def peak_memory(pid: int) -> int:
    """Return the most memory that a process has had so far, in bytes."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, what: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise AssertionError(f"the system does not tell {what}")


class Member:
    """One connection, identified.

    Attributes:
        id: the connection id.
        ended: the broker has ended the connection, or it broke.
        received: bytes behind the last whole line that was taken.
    """

    def __init__(self, port: int, group: str, *, buffer: int | None = None, **said: Any) -> None:
        self.sock = socket.socket()
        if buffer is not None:
            # Set before connecting, this keeps the system from making room for megabytes.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.ended = False
        self.sock.sendall(frame(op=1, data={"token": TOKEN, "group": group, **said}))
        self.id = ""
        self._group = group

    def welcome(self) -> None:
        """Wait for the answer to IDENTIFY. Apart, so that many can be on their way at a time."""
        while b"\n" not in self.received:
            data = self.sock.recv(4096)
            assert data, "the broker has hung up"
            self.received += data
        (answer, *_) = self.take()
        assert answer["op"] == 1, answer
        self.id = answer["data"]["id"]
        self.sock.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send, and wait until the system has taken it."""
        self.sock.settimeout(_PATIENCE)
        self.sock.sendall(data)
        self.sock.setblocking(False)

    def read(self, size: int = _RECEIVE_SIZE) -> int:
        """Read what is there, as much as `size`; return how much it was."""
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""
        self.ended = self.ended or not data
        self.received += data
        return len(data)

    def take(self) -> list[Any]:
        """Return the frames that have come whole."""
        end = self.received.rfind(b"\n") + 1
        lines = bytes(self.received[:end]).splitlines()
        del self.received[:end]
        return [json.loads(line) for line in lines]

    def read_to_the_end(self) -> list[Any]:
        """Read until the broker hangs up; return the frames."""
        self.sock.settimeout(_PATIENCE)
        while not self.ended:
            self.read()
        return self.take()

    def reset(self) -> None:
        """Be gone, with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Be gone."""
        self.sock.close()


class Crowd:
    """Members whose sockets are watched together."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self._selector = selectors.DefaultSelector()

    def join(self, port: int, group: str, number: int = 1, **said: Any) -> list[Member]:
        """Connect and identify some more."""
        members = [Member(port, group, **said) for _ in range(number)]
        for member in members:
            member.welcome()
            self._selector.register(member.sock, selectors.EVENT_READ, member)
        self.members += members
        return members

    def ignore(self, member: Member) -> None:
        """Do not read from a member any more."""
        self._selector.unregister(member.sock)

    def leave(self, member: Member) -> None:
        """Take a member out, and close its connection."""
        self._selector.unregister(member.sock)
        self.members.remove(member)
        member.close()

    def ready(self, timeout: float = 0.0) -> Iterable[Member]:
        """Return the members for whom something has come."""
        return [key.data for key, _ in self._selector.select(timeout)]

    def read_until(self, condition: Callable[[], bool], on_read: Callable[[Member], None]) -> None:
        """Read whatever comes for anybody, until something has come about."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "nothing has come for a long time"
            for member in self.ready(1.0):
                if member.sock.fileno() < 0:
                    continue  # It has left since it was found ready.
                if member.read(_PIECE):
                    on_read(member)
                    deadline = time.monotonic() + _PATIENCE
                elif member.ended:
                    raise AssertionError(f"{member.id} was cut: {member.take()[-1:]}")

    def close(self) -> None:
        """Close all."""
        for member in self.members:
            member.close()
        self._selector.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
