"""The programs of the demo: what each is started with, and where it listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

__all__ = ["BROKER", "CHAT", "GATEWAYS", "PROGRAMS", "Program", "port_names", "wanted_ports"]

_HIGHEST_PORT: Final = 65_535


@attrs.frozen
class Program:
    """A program.

    Attributes:
        name: in what the demo says.
        module: is run with `python -m`.
        arguments: that it always gets.
        ports: the names of its ports, and the usual number of each; 0 is the system's choice.
        port_options: how it is told of them, with `{}` for the number.
    """

    name: str
    module: str
    arguments: Sequence[str] = ()
    ports: Mapping[str, int] = attrs.field(factory=dict)
    port_options: Sequence[str] = ()

    @property
    def ready_lines(self) -> int:
        """How many lines it writes to stdout when it is ready."""
        return max(1, len(self.ports))

    def command(self, ports: Sequence[int], broker_url: str) -> list[str]:
        """Return the module, and its arguments.

        Args:
            ports: the numbers of its ports.
            broker_url: where the broker is; empty for the broker itself.
        """
        numbers = [
            option.format(port) for option, port in zip(self.port_options, ports, strict=True)
        ]
        broker = ["--url", broker_url] if broker_url else []
        return [self.module, *self.arguments, *broker, *numbers]


BROKER: Final = Program(
    "broker",
    "broker",
    arguments=("serve", "--log-format", "json"),
    # Nobody but the demo's own programs has to find it, and 8420 may be another broker's.
    ports={"broker": 0},
    port_options=("--listen=tcp://127.0.0.1:{}",),
)

CHAT: Final = Program("chat", "services.chat")

GATEWAYS: Final = (
    Program(
        "mirage",
        "services.gateways.mirage",
        ports={"mirage": 5000},
        port_options=("--port={}",),
    ),
    Program(
        "keenchat",
        "services.gateways.keenchat",
        # Two of the four documents say 5000. Of these, this one has its port chosen at the start.
        ports={"keenchat": 5002, "keenchat-events": 5001},
        port_options=("--port={}", "--websockets-port={}"),
    ),
    Program(
        "rooms",
        "services.gateways.rooms",
        ports={"rooms": 8888},
        port_options=("--port={}",),
    ),
    Program(
        "redis_chat",
        "services.gateways.redis_chat",
        ports={"redis-chat": 8080},
        port_options=("--port={}",),
    ),
)

PROGRAMS: Final = (BROKER, CHAT, *GATEWAYS)


def port_names() -> list[str]:
    """Return the names of all ports."""
    return [name for program in PROGRAMS for name in program.ports]


def wanted_ports(chosen: Sequence[str], *, any_port: bool) -> dict[str, int]:
    """Return the number of each port by its name; 0 is the system's choice.

    Args:
        chosen: as `NAME=PORT`, in place of the usual one.
        any_port: the system chooses the others.

    Raises:
        ValueError: there is no such port, or two are to have the same number.
    """
    wanted = {name: number for program in PROGRAMS for name, number in program.ports.items()}
    if any_port:
        wanted = dict.fromkeys(wanted, 0)
    for choice in chosen:
        name, _, number = choice.partition("=")
        if name not in wanted or not number.isdecimal() or int(number) > _HIGHEST_PORT:
            raise ValueError(
                f"{choice}: that is no NAME=PORT; the names are {', '.join(wanted)}, and 0 lets "
                "the system choose"
            )
        wanted[name] = int(number)
    taken: dict[int, str] = {}
    for name, port in wanted.items():
        if port and port in taken:
            raise ValueError(
                f"{taken[port]} and {name} cannot both have port {port}; --port {name}=NUMBER "
                "gives it another"
            )
        taken[port] = name
    return wanted
