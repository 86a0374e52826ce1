"""A broker with its dashboard and what is connected to it, and where things stand on the page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Locator, Page, ViewportSize

from services.sdk import Backoff, SyncMesh, Up, connect_sync
from tests.integration.broker_process import ROOT, TOKEN, BrokerProcess, broker_process
from tests.integration.crowd import Member

__all__ = [
    "PHONE",
    "WatchedMesh",
    "cell",
    "fold",
    "free_port",
    "number",
    "row",
    "watched_mesh",
    "width_of",
]

# For a process to start and to connect, in seconds.
_PATIENCE: Final = 30.0

PHONE: Final[ViewportSize] = {"width": 360, "height": 640}


def free_port() -> int:
    """A port that is free now, and stays the same when the broker is restarted."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class WatchedMesh:
    """A broker, its dashboard, and what is connected to it."""

    def __init__(self, broker: BrokerProcess, ops: str, stack: ExitStack) -> None:
        self.broker = broker
        self.dashboard = f"http://{ops}/"
        self._stack = stack

    def serve(self) -> subprocess.Popen[str]:
        """Start the example service of the group `billing`, as a process that can be killed.

        Return when it is on the mesh.
        """
        environment = {
            **os.environ,
            "SWITCHBOARD_URL": self.broker.address,
            "SWITCHBOARD_TOKEN": TOKEN,
        }
        command = [sys.executable, "-m", "examples.service"]
        with (
            connect_sync(self.broker.address, group="watcher", token=TOKEN) as watcher,
            watcher.watch(timeout=_PATIENCE) as changes,
        ):
            process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True)
            self._stack.callback(process.wait)
            self._stack.callback(process.kill)
            for change in changes:
                if isinstance(change, Up) and change.service.group == "billing":
                    return process
        raise AssertionError("the service did not come")

    def join(self, group: str, **options: Any) -> SyncMesh:
        """Connect by the SDK."""
        again = Backoff(first=0.05, longest=0.5)
        return self._stack.enter_context(
            connect_sync(self.broker.address, group=group, token=TOKEN, reconnect=again, **options)
        )

    def join_raw(self, group: str, **said: Any) -> Member:
        """Connect by a socket that does only what it is told."""
        member = Member(self.broker.port, group, **said)
        self._stack.callback(member.close)
        member.welcome()
        return member

    @staticmethod
    @contextmanager
    def load(caller: SyncMesh) -> Iterator[None]:
        """Ask the example service again and again, until the end of the block."""
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                caller.request("INVOICE_CREATE", {"item": "tea", "count": 3}, group="billing")

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            try:
                yield
            finally:
                over.set()
            asking.result()


@contextmanager
def watched_mesh(tmp_path: Path, settings: str = "") -> Iterator[WatchedMesh]:
    """A broker with a dashboard, until the end of the block; `settings` are more of its TOML."""
    ops = f"127.0.0.1:{free_port()}"
    with (
        broker_process(tmp_path, f'[ops]\naddress = "{ops}"\n{settings}') as broker,
        ExitStack() as stack,
    ):
        yield WatchedMesh(broker, ops, stack)


def fold(page: Page, group: str) -> Locator:
    """The button that opens a group."""
    return page.get_by_role("button", name=group, exact=True)


def row(page: Page, group: str) -> Locator:
    """A group in the table of services."""
    return page.locator("tr.group").filter(has=fold(page, group))


def cell(of: Locator, label: str) -> Locator:
    """A figure in a row."""
    return of.locator(f'td[data-label="{label}"]')


def number(page: Page, card: str) -> Locator:
    """The figure on a card."""
    return page.locator(f'[data-card="{card}"] .number')


def width_of(page: Page) -> int:
    """How wide the page is, with what can only be reached by scrolling, in pixels."""
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width
