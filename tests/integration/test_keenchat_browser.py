"""A web page that talks to Keenchat from another origin, in Chromium."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.gateways.node_client import install
from tests.integration.browser import PATIENCE_MS, chromium, open_page
from tests.integration.chat_programs import chat_programs

PAGE = Path(__file__).parent / "pages" / "keenchat.html"
MARKUP = "<img src=x onerror=alert(1)> & <b>\U0001f980</b>"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """Serve the files of a directory; return the origin."""
    handler = functools.partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def sign_in(page: Page, name: str) -> None:
    expect(page.locator("#state")).to_have_text("connected", timeout=PATIENCE_MS)
    page.get_by_label("name").fill(name)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#state")).to_have_text("identified", timeout=PATIENCE_MS)


def check_lines(page: Page, selector: str, lines: list[str]) -> None:
    expect(page.locator(f"{selector} li")).to_have_text(lines, timeout=PATIENCE_MS)


def test_two_pages_talk_to_each_other(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    install(node)
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(PAGE, site)
    shutil.copy(node / "node_modules/socket.io-client/dist/socket.io.min.js", site)
    with chat_programs(tmp_path) as programs, web_server(site) as origin, chromium() as browser:
        options = ("--websockets-port", "0", "--allow-origin", origin)
        gateway = programs.gateway("keenchat", *options)
        events = int(gateway.next_line().rpartition(":")[2])
        url = f"{origin}/{PAGE.name}?rest={gateway.port}&events={events}"
        elsewhere = rf"^a request to http://127\.0\.0\.1:({gateway.port}|{events})/"
        with (
            open_page(browser, url, tolerate=elsewhere) as ann,
            open_page(browser, url, tolerate=elsewhere) as ben,
        ):
            sign_in(ann, "Ann")
            check_lines(ben, "#users", ["Ann"])
            sign_in(ben, "Ben")
            for page in (ann, ben):
                check_lines(page, "#users", ["Ann", "Ben"])
            ann.get_by_label("text").fill(MARKUP)
            expect(ben.locator("#typing")).to_have_text("Ann types", timeout=PATIENCE_MS)
            ann.get_by_role("button", name="Send").click()
            for page in (ann, ben):
                check_lines(page, "#messages", [f"Ann: {MARKUP}"])
            expect(ben.locator("#typing")).to_have_text("", timeout=PATIENCE_MS)
            ben.get_by_label("text").fill("hello Ann")
            ben.get_by_role("button", name="Send").click()
            for page in (ann, ben):
                check_lines(page, "#messages", [f"Ann: {MARKUP}", "Ben: hello Ann"])


def test_the_page_about_the_api_works_without_any_other_server(tmp_path: Path) -> None:
    with chat_programs(tmp_path) as programs, chromium() as browser:
        gateway = programs.gateway("keenchat", "--websockets-port", "0")
        url = f"http://127.0.0.1:{gateway.port}/docs"
        with open_page(browser, url) as page:
            endpoint = page.get_by_text("/channel/{id}").first
            expect(endpoint).to_be_visible(timeout=PATIENCE_MS)
