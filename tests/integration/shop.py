"""A small shop on the mesh, to look at: real services that ask each other at a steady pace.

`python -m tests.integration.shop docs/dashboard.png` takes the picture of the dashboard that stands
in the documents. It lets the shop run for `--seconds` before, so that the curves have something to
show.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs
import trio

from services.sdk import Backoff, Mesh, RequestError, Service, connect
from tests.integration.broker_process import TOKEN, broker_process
from tests.integration.browser import PATIENCE_MS, chromium
from tests.integration.crowd import Member
from tests.integration.dashboard import free_port

_AGAIN: Final = Backoff(first=0.05, longest=0.5)


@attrs.frozen
class Part:
    """A group of the shop.

    Attributes:
        members: how many services it has.
        event: what they are asked for.
        seconds: for which it works at a request, on average.
        asks: the groups that it asks for help with each.
        lost: the share of requests that it lets expire.
    """

    members: int
    event: str
    seconds: float
    asks: tuple[str, ...] = ()
    lost: float = 0.0


_PARTS: Final = {
    "basket": Part(2, "BASKET_ADD", 0.002, ("pricing",)),
    "billing": Part(3, "INVOICE_CREATE", 0.006, ("ledger",)),
    "catalogue": Part(3, "ITEM_GET", 0.001),
    "indexer": Part(1, "TERMS_FIND", 0.010),
    "ledger": Part(1, "ENTRY_BOOK", 0.004),
    "loyalty": Part(0, "POINTS_ADD", 0.001),
    "mail": Part(1, "MAIL_SEND", 0.030),
    "pricing": Part(2, "PRICE_GET", 0.001, ("catalogue",)),
    "search": Part(2, "SEARCH", 0.008, ("indexer",), lost=0.004),
}

# Who begins: caller, callee, and how often a second.
_VISITS: Final = (
    ("web", "catalogue", 60.0),
    ("web", "search", 25.0),
    ("web", "basket", 15.0),
    ("web", "billing", 8.0),
    ("mobile", "catalogue", 35.0),
    ("mobile", "basket", 10.0),
    ("billing", "mail", 3.0),
    ("web", "loyalty", 0.1),
)


def _service(group: str, part: Part) -> Service:
    service = Service(group)

    @service.on(part.event)
    async def work(mesh: Mesh) -> str:
        if random.random() < part.lost:
            await trio.sleep_forever()
        await trio.sleep(random.expovariate(1 / part.seconds))
        for other in part.asks:
            await _ask(mesh, other)
        return "done"

    return service


async def _ask(mesh: Mesh, group: str) -> None:
    # An error is what the dashboard is there to show.
    with contextlib.suppress(RequestError):
        await mesh.request(_PARTS[group].event, group=group, timeout=0.8)


async def _visit(mesh: Mesh, group: str, rate: float) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(_ask, mesh, group)
            await trio.sleep(random.expovariate(rate))


async def _open(url: str, until: trio.Event) -> None:
    """Run the shop."""
    async with AsyncExitStack() as stack:
        meshes = {}
        for group, part in _PARTS.items():
            for number in range(1, part.members + 1):
                serving = _service(group, part).serve(
                    url, token=TOKEN, name=f"{group}-{number}", reconnect=_AGAIN
                )
                meshes[group] = await stack.enter_async_context(serving)
        for group in ("web", "mobile"):
            caller = connect(url, group=group, token=TOKEN, name=f"{group}-1", reconnect=_AGAIN)
            meshes[group] = await stack.enter_async_context(caller)
        async with trio.open_nursery() as nursery:
            for caller_group, callee, rate in _VISITS:
                nursery.start_soon(_visit, meshes[caller_group], callee, rate)
            await until.wait()
            nursery.cancel_scope.cancel()


def _photograph(url: str, seconds: float, port: int, target: Path) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.wait_for_timeout(seconds * 850)
        reports = Member(port, "reports", name="reports-1")
        reports.welcome()
        page.wait_for_timeout(seconds * 50)
        reports.reset()
        page.get_by_role("button", name="billing", exact=True).click()
        page.wait_for_timeout(seconds * 100)
        page.screenshot(path=target, full_page=True)


async def _main(seconds: float, target: Path) -> None:
    ops = f"127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory() as directory,
        broker_process(Path(directory), f'[ops]\naddress = "{ops}"\n') as broker,
    ):
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_open, broker.address, over)
            photograph = partial(_photograph, f"http://{ops}/", seconds, broker.port, target)
            await trio.to_thread.run_sync(photograph)
            over.set()


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description="Take a picture of the dashboard.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--seconds", type=float, default=310.0)
    options = parser.parse_args(arguments)
    anyio.run(_main, options.seconds, options.target, backend="trio")


if __name__ == "__main__":
    main()
