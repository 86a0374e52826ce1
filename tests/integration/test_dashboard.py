"""The dashboard in a real browser, beside a real broker with real services."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, HttpCredentials, Route, expect

from broker.core.authentication import hash_token
from services.sdk import NoRoute
from tests.integration.browser import PATIENCE_MS, chromium, open_page
from tests.integration.crowd import frame
from tests.integration.dashboard import (
    PHONE,
    WatchedMesh,
    cell,
    fold,
    number,
    row,
    watched_mesh,
    width_of,
)

# What the browser says in its console of a broker that is gone.
GONE: Final = r"net::ERR_"

MORE_THAN_NOTHING: Final = re.compile(r"^(?!0$)[\d,.]+( k)?$")

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[WatchedMesh]:
    with watched_mesh(tmp_path) as started:
        yield started


def test_it_tells_how_to_connect_a_service_while_there_is_none(
    browser: Browser, mesh: WatchedMesh
) -> None:
    with open_page(browser, mesh.dashboard) as page:
        expect(page.get_by_text("No services yet")).to_be_visible()
        expect(page.locator("#example-service")).to_contain_text("greeter.run(")
        expect(page.locator("#services-table")).to_be_hidden()
        expect(page.get_by_text("No requests yet")).to_be_visible()
        expect(page.locator("#state")).to_have_text("Live")
        mesh.join("web")
        expect(row(page, "web")).to_be_visible()
        expect(page.get_by_text("No services yet")).to_be_hidden()


def test_numbers_move_under_load_and_come_to_rest_after_it(
    browser: Browser, mesh: WatchedMesh
) -> None:
    mesh.serve()
    web = mesh.join("web")
    with open_page(browser, mesh.dashboard) as page:
        billing = row(page, "billing")
        expect(cell(billing, "Requests/s")).to_have_text("0")
        with mesh.load(web):
            for label in ("Requests/s", "In/s", "Out/s"):
                expect(cell(billing, label)).to_have_text(MORE_THAN_NOTHING)
            expect(cell(billing, "p99")).to_have_text(re.compile(r"^[\d.]+ (µs|ms|s)$"))
            for card in ("messages_in", "messages_out", "requests"):
                expect(number(page, card)).to_have_text(MORE_THAN_NOTHING)
            expect(number(page, "latency_requests")).to_have_text(re.compile(r"(µs|ms|s)$"))
            expect(number(page, "latency_transit")).to_have_text(re.compile(r"(µs|ms|s)$"))
            expect(number(page, "busy")).to_have_text(re.compile(r"^(?!0 %)[\d.]+ %$"))
            expect(number(page, "connections")).to_have_text("2")
            arrow = page.locator('.arrow[data-caller="web"][data-callee="billing"]')
            expect(arrow).to_have_attribute("data-kind", "busy")
            expect(page.locator(".picture .label")).to_have_text(re.compile(r"^[\d,.]+/s$"))
            # A curve has more than one point.
            line = page.locator('[data-card="requests"] .line:not(.upper)')
            expect(line).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+L.*L"))
        expect(cell(billing, "Requests/s")).to_have_text("0")
        expect(arrow).to_have_attribute("data-kind", "idle")
        # The text alternative has the same pair, with what it came to in all.
        page.get_by_text("The same as a table").click()
        pair = page.locator("#calls-rows tr")
        expect(cell(pair, "Caller")).to_have_text("web")
        expect(cell(pair, "Callee")).to_have_text("billing")
        expect(cell(pair, "Requests in all")).to_have_text(MORE_THAN_NOTHING)


def test_a_killed_service_disappears_and_the_reason_shows(
    browser: Browser, mesh: WatchedMesh
) -> None:
    process = mesh.serve()
    web = mesh.join("web")
    with open_page(browser, mesh.dashboard) as page:
        expect(row(page, "billing")).to_be_visible()
        process.send_signal(signal.SIGKILL)
        ended = page.locator("#ended li")
        expect(ended).to_have_count(1)
        expect(ended).to_contain_text("LOST")
        expect(ended).to_contain_text("billing")
        expect(ended).to_contain_text("without a goodbye")
        expect(fold(page, "billing")).to_have_count(0)
        with pytest.raises(NoRoute):
            web.request("INVOICE_CREATE", group="billing")
        errors = page.locator("#errors li")
        expect(errors).to_contain_text("NO_ROUTE")
        expect(errors).to_contain_text("web → billing · INVOICE_CREATE")


def test_names_are_text_whatever_they_look_like(browser: Browser, mesh: WatchedMesh) -> None:
    markup = "<img src=x onerror=alert(1)>"
    names = [
        markup,
        "</script><script>alert(2)</script>",
        "x" * 128,
        "خدمة الفواتير",
        "👩‍👩‍👧‍👦🧾",
        "javascript:alert(3)",
    ]
    with open_page(browser, mesh.dashboard, viewport=PHONE) as page:
        for name in names:
            mesh.join(name, name=name)
        # A name that is shown from right to left by a character that can't be seen.
        mesh.join("pay\u202eloot")
        caller = mesh.join("web")
        with pytest.raises(NoRoute):
            caller.request(markup, group="<b>nobody</b>")
        for name in names:
            expect(row(page, name)).to_be_visible()
        expect(fold(page, r"pay\u{202e}loot")).to_be_visible()
        page.get_by_role("button", name="Unfold all").click()
        expect(page.locator("tr.member")).to_have_count(len(names) + 2)
        expect(page.locator("tr.member .name").get_by_text(markup, exact=True)).to_be_visible()
        expect(page.locator("#errors li")).to_contain_text(f"web → <b>nobody</b> · {markup}")
        # Beside the page's own sign there is no picture, and beside its own two no script.
        assert page.locator("img").count() == 1
        assert page.locator("script").count() == 2
        assert page.locator("main b").count() == 0
        assert width_of(page) == PHONE["width"]


def test_it_survives_a_restart_of_the_broker(browser: Browser, mesh: WatchedMesh) -> None:
    mesh.join("web")
    with open_page(browser, mesh.dashboard, tolerate=GONE) as page:
        expect(row(page, "web")).to_be_visible()
        mesh.broker.kill()
        banner = page.get_by_role("status")
        expect(banner).to_have_text(
            re.compile(r"^No connection to the broker since \d\d:\d\d:\d\d\.")
        )
        expect(page.locator("#state")).to_have_text("Connection lost")
        expect(page).to_have_title(re.compile("Connection lost"))
        # The last numbers are still there, but look like what they are.
        expect(row(page, "web")).to_be_visible()
        expect(number(page, "connections")).to_have_text("1")
        expect(page.locator("main")).to_have_css("filter", "grayscale(1)")
        mesh.broker.start()
        expect(page.locator("#state")).to_have_text("Live")
        expect(banner).to_have_text(
            re.compile(r"^Connected to the broker again, which was restarted at \d\d:\d\d:\d\d")
        )
        expect(page.locator("main")).to_have_css("filter", "none")
        # The service has come back by itself, and so has its row.
        expect(row(page, "web")).to_be_visible()
        mesh.join("late")
        expect(row(page, "late")).to_be_visible()


def test_a_broker_that_falls_silent_is_noticed(browser: Browser, mesh: WatchedMesh) -> None:
    with open_page(browser, mesh.dashboard, tolerate=GONE) as page:
        expect(page.locator("#state")).to_have_text("Live")
        mesh.broker.freeze()
        expect(page.locator("#state")).to_have_text("Connection lost")
        mesh.broker.thaw()
        expect(page.locator("#state")).to_have_text("Live")
        expect(page.get_by_role("status")).to_have_text("Connected to the broker again.")


def test_a_refused_feed_is_asked_for_again(browser: Browser, mesh: WatchedMesh) -> None:
    asked = 0

    def refuse_once(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            route.continue_()
        else:
            route.fulfill(status=503, body="too many viewers")

    with open_page(browser, mesh.dashboard, tolerate="status of 503") as page:
        page.route("**/events", refuse_once)
        page.reload()
        expect(page.get_by_role("status")).to_contain_text("there may be too many viewers")
        expect(page.locator("#state")).to_have_text("Live")
        assert asked == 2


def test_a_slow_service_is_marked_and_the_reason_of_its_end_shows(
    browser: Browser, tmp_path: Path
) -> None:
    settings = "[limits]\noutbox_high_bytes = 65536\n[timing]\nstall_ms = 8000\n"
    with (
        watched_mesh(tmp_path, settings) as mesh,
        open_page(browser, mesh.dashboard) as page,
    ):
        mesh.join_raw("sleepy", buffer=4096)
        flooder = mesh.join_raw("flooder")
        flooder.sock.settimeout(0.2)
        intent = {"target": "GROUP", "identifier": "sleepy"}
        # Until the broker reads no more of it, since the other one reads nothing.
        with contextlib.suppress(TimeoutError):
            while True:
                flooder.sock.sendall(frame(op=0, event="E", intent=intent, data="x" * 60_000))
        state = cell(row(page, "sleepy"), "State")
        expect(state).to_have_text(re.compile(r"^slow: [\d.]+ (KB|MB) unread$"))
        expect(page.locator('[data-count="stalled_now"]')).to_have_attribute("data-bad", "")
        ended = page.locator("#ended li")
        expect(ended).to_contain_text("SLOW_CONSUMER")
        expect(ended).to_contain_text("sleepy")
        evictions = page.locator('[data-count="evictions"]')
        expect(evictions).to_have_text("Evictions1")
        expect(evictions).to_have_attribute("data-bad", "")


def test_what_is_drained_says_so(browser: Browser, tmp_path: Path) -> None:
    settings = "[tokens.permissions]\ndrain = true\n[timing]\ngrace_ms = 60000\n"
    with (
        watched_mesh(tmp_path, settings) as mesh,
        open_page(browser, mesh.dashboard) as page,
    ):
        mesh.join_raw("busy")
        intent = {"target": "GROUP", "identifier": "busy", "pick": "ONE"}
        caller = mesh.join_raw("web")
        caller.send(frame(op=0, id="1", event="E", intent=intent, timeout=60_000))
        busy = row(page, "busy")
        expect(cell(busy, "In flight")).to_have_text("1")
        mesh.join("operator").request("DRAIN", {"group": "busy"}, to="$broker")
        expect(cell(busy, "State")).to_have_text("draining")
        os.kill(mesh.broker.pid, signal.SIGTERM)
        expect(page.locator("#state")).to_have_text("Draining")
        expect(page.get_by_role("status")).to_have_text(re.compile("^Not ready: draining: "))


def test_a_token_is_the_password_that_the_browser_asks_for(
    browser: Browser, tmp_path: Path
) -> None:
    # It stands in the section of the ops port.
    settings = f'token_sha256 = "{hash_token("an-operator")}"\n'
    password: HttpCredentials = {"username": "anybody", "password": "an-operator"}
    with (
        watched_mesh(tmp_path, settings) as mesh,
        open_page(browser, mesh.dashboard, http_credentials=password) as page,
    ):
        expect(page.locator("#state")).to_have_text("Live")


def test_rows_keep_their_places_and_the_focus(browser: Browser, mesh: WatchedMesh) -> None:
    mesh.join("middle", name="middle-1")
    with open_page(browser, mesh.dashboard) as page:
        button = fold(page, "middle")
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(page.locator("tr.member .name")).to_have_text("middle-1")
        mesh.join("alpha")
        mesh.join("omega")
        mesh.join("middle", name="middle-2")
        expect(page.locator("tbody#services-rows .name")).to_have_text(
            ["alpha", "middle", "middle-1", "middle-2", "omega"]
        )
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("tr.member")).to_have_count(0)
