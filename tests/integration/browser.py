"""A real browser: Debian's Chromium without a window, driven by playwright."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Dialog, Page, Request, sync_playwright

__all__ = ["PATIENCE_MS", "chromium", "open_page"]

# For what should take a moment; a browser on a busy machine may need some.
PATIENCE_MS: Final = 30_000

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

_INSTALL: Final = (("apt-get", "update"), ("apt-get", "install", "--yes", "chromium"))

# What tests don't need and a machine without a screen, or without the Internet, doesn't have. The
# profile is playwright's: a fresh directory for each browser, removed when it is closed.
_ARGUMENTS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for tests that are not async: playwright has an event loop of its own.

    Raises:
        RuntimeError: there is none, and it can't be installed; the message says what to do.
    """
    path = _find_or_install()
    # Chromium's sandbox refuses to work for root.
    sandbox = () if os.geteuid() else ("--no-sandbox",)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=[*_ARGUMENTS, *sandbox]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser, url: str, *, tolerate: str | None = None, **context: Any
) -> Iterator[Page]:
    """A page, as a visitor opens it; in the end, whatever it complained of is an error.

    That is: what is in its console (and so what its Content-Security-Policy had to prevent), what
    its scripts raised, dialogs, and requests to anybody else than where it came from.

    Args:
        browser: as `chromium` gives it.
        url: of the page.
        tolerate: a pattern for complaints that belong to the test.
        context: as for playwright's `Browser.new_context`, for example `viewport`.
    """
    visitor = browser.new_context(**context)
    visitor.set_default_timeout(PATIENCE_MS)
    page = visitor.new_page()
    complaints = _listen(page, urlsplit(url).netloc)
    try:
        page.goto(url)
        yield page
    finally:
        visitor.close()
    left = [one for one in complaints if tolerate is None or not re.search(tolerate, one)]
    assert not left, left


def _listen(page: Page, origin: str) -> list[str]:
    """Return a list to which complaints will be added."""
    complaints: list[str] = []

    def on_dialog(dialog: Dialog) -> None:
        complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def on_request(request: Request) -> None:
        if urlsplit(request.url).netloc != origin:
            complaints.append(f"a request to {request.url}")

    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"raised: {error}"))
    page.on("dialog", on_dialog)
    page.on("request", on_request)
    return complaints


def _find() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _find_or_install() -> str:
    # Tests run several at a time, and the package manager lets in one; while it is at work, what it
    # installs may be there already, and is not complete.
    with (Path(tempfile.gettempdir()) / "install-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _find() or _install()


def _install() -> str:
    missing = "the tests of web pages need Chromium: `apt-get install chromium` on Debian"
    if os.geteuid() or shutil.which("apt-get") is None:
        raise RuntimeError(f"{missing}, or any package that puts one of {_NAMES} on the PATH")
    for command in _INSTALL:
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{missing}; here, as root, it failed: {done.stderr.strip()}")
    path = _find()
    if path is None:
        raise RuntimeError(f"{missing}; here it was installed, but is not on the PATH")
    return path
