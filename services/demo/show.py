"""All of the demo: the programs, and what is needed to talk through them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs

from services.demo.addresses import how_to_talk
from services.demo.conversation import converse
from services.demo.fleet import Fleet
from services.demo.ports import check_ports
from services.demo.programs import BROKER, CHAT, GATEWAYS
from services.demo.report import Report
from services.demo.screen import Screen
from services.demo.talkers.systems import System

__all__ = ["Show", "open_show"]


@attrs.frozen
class Show:
    """The demo, before and while it runs. `open_show` makes one.

    Attributes:
        fleet: the programs.
        directory: of their logs, and of the chat where nothing else is said.
    """

    fleet: Fleet
    directory: Path
    _screen: Screen
    _ports: Mapping[str, int]
    _token: str = attrs.field(repr=False)
    _lasting: bool

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the programs for the body of an `async with`.

        Raises:
            DemoError: one of them does not start.
        """
        async with self.fleet.sail([[BROKER], [CHAT], GATEWAYS], self._ports):
            yield

    async def converse(self) -> Report:
        """Let people talk.

        Raises:
            DemoError: somebody cannot come in.
        """
        # In a store that lasts, the names of the last time are taken.
        return await converse(self._addresses(), self._screen, new_names=self._lasting)

    def how_to_talk(self) -> list[tuple[str, str]]:
        """Return what one may want to do now, and the line for it."""
        broker_url = self.fleet.member(BROKER.name).addresses[0]
        return how_to_talk(self._addresses(), broker_url, self._token)

    def programs(self) -> list[dict[str, Any]]:
        """Return the programs for JSON."""
        return [
            {
                "name": member.name,
                "pid": None if member.child is None else member.child.pid,
                "addresses": member.addresses,
                "restarts": member.restarts,
            }
            for member in self.fleet.members
        ]

    def _addresses(self) -> dict[System, Sequence[str]]:
        return {system: self.fleet.member(system.value).addresses for system in System}


@contextmanager
def open_show(screen: Screen, ports: Mapping[str, int], store: str | None) -> Iterator[Show]:
    """Prepare all for the body of a `with`.

    Args:
        screen: is told what goes on.
        ports: numbers by name; 0 is the system's choice.
        store: the URL of where the chat is kept; None for a file that goes away.

    Raises:
        DemoError: a port cannot be had.
    """
    check_ports(ports)
    with tempfile.TemporaryDirectory(prefix="switchboard-demo-") as name:
        directory = Path(name)
        token = secrets.token_urlsafe()
        environment = {
            # Not as options, where everybody on the machine could read them.
            "SWITCHBOARD_TOKEN": token,
            "SWITCHBOARD_CHAT_STORE": store or f"sqlite:///{directory}/chat.db",
        }
        fleet = Fleet(screen, directory, environment)
        yield Show(fleet, directory, screen, ports, token, store is not None)
