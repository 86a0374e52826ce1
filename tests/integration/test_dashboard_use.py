"""The dashboard on a phone, by keyboard, in the light and in the dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from services.sdk import NoRoute
from tests.integration.browser import PATIENCE_MS, chromium, open_page
from tests.integration.crowd import frame
from tests.integration.dashboard import PHONE, WatchedMesh, fold, row, watched_mesh, width_of

expect.set_options(timeout=PATIENCE_MS)

# For every text that can be seen: the contrast with what is behind it, where it is less than what
# WCAG 2 asks for (AA: 4.5, large text 3). A canvas makes numbers out of any way to write a colour.
LOW_CONTRAST: Final = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const box = at.closest("g.box")?.querySelector("rect");
      const colour = rgba(box ? getComputedStyle(box).fill : getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("white");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.data.trim();
    if (!text || !node.checkVisibility({visibilityProperty: true})) continue;
    if (node.closest("noscript, .unseen")) continue;
    seen += 1;
    const style = getComputedStyle(node);
    const ink = rgba(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(behind(node))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (contrast < (large ? 3 : 4.5)) found.push(`${contrast.toFixed(2)}: ${text}`);
  }
  return seen > 40 ? found : [`only ${seen} texts were there to see`];
}"""

# Where the focus is, and whether that can be seen.
FOCUSED: Final = """() => {
  const node = document.activeElement;
  if (node === document.body) return null;
  const shown = node.closest("g.box")?.querySelector("rect") ?? node;
  const style = getComputedStyle(shown);
  const seen = style.outlineStyle !== "none" || (shown !== node && style.strokeWidth === "3px");
  const name = node.id || (node.matches(".box") ? "a box" : node.textContent.trim());
  return [name || node.tagName, seen];
}"""


# Boxes that stand on one another, or beyond their frame.
MISPLACED: Final = """() => {
  const frame = document.querySelector(".frame").getBoundingClientRect();
  const boxes = [...document.querySelectorAll(".picture rect")]
    .map((rect) => rect.getBoundingClientRect());
  const apart = (a, b) =>
    a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
  return boxes.filter((box, index) =>
    box.left < frame.left || box.right > frame.right || box.top < frame.top ||
    box.bottom > frame.bottom || !boxes.slice(index + 1).every((other) => apart(box, other)));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedMesh]:
    """A mesh in which something of everything can be seen."""
    with watched_mesh(tmp_path_factory.mktemp("mesh")) as started:
        started.serve()
        web = started.join("web")
        for group in ("catalogue", "a-group-with-a-name-that-is-long-" * 3, "search", "mail"):
            started.join(group, name="x" * 128)
        member = started.join_raw("ledger")
        member.reset()
        with started.load(web):
            for missing in ("nobody", "n" * 128):
                with pytest.raises(NoRoute):
                    web.request("E", group=missing)
            yield started


def tab_through(page: Page) -> dict[str, bool]:
    """Press Tab until the page is over; return what got the focus, and whether that showed."""
    reached: dict[str, bool] = {}
    while True:
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None or focused[0] in reached:
            return reached
        reached[focused[0]] = focused[1]


def wait_for_all(page: Page) -> None:
    """Everything is there: services, a picture, errors, ends."""
    expect(row(page, "billing")).to_be_visible()
    expect(page.locator('.arrow[data-callee="billing"][data-kind="busy"]')).to_be_attached()
    for happening in ("#errors li", "#ended li"):
        expect(page.locator(happening).first).to_be_visible()


def test_on_a_phone_nothing_has_to_be_scrolled_sideways(
    browser: Browser, mesh: WatchedMesh
) -> None:
    with open_page(browser, mesh.dashboard, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        wait_for_all(page)
        assert width_of(page) == PHONE["width"]
        # What matters most of a group is there at once, the rest when it is opened.
        expect(row(page, "billing").locator("td:visible")).to_have_count(5)
        page.get_by_role("button", name="Unfold all").tap()
        page.get_by_text("The same as a table").tap()
        expect(page.locator("#calls-rows tr").first).to_be_visible()
        expect(page.locator("tr.member").first).to_be_visible()
        assert width_of(page) == PHONE["width"]


@pytest.mark.parametrize("number", [2, 30])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}])
def test_the_picture_has_room_for_few_groups_and_for_many(
    browser: Browser, tmp_path: Path, viewport: ViewportSize, number: int
) -> None:
    with (
        watched_mesh(tmp_path) as mesh,
        open_page(browser, mesh.dashboard, viewport=viewport) as page,
    ):
        members = [mesh.join_raw(f"service-{index:02}") for index in range(number)]
        # A long chain, shortcuts, and one that leads back.
        calls = [
            (caller, callee)
            for caller in range(number)
            for callee in {caller + 1, caller + 4, 0 if caller == number - 1 else caller + 1}
            if callee < number
        ]
        for caller, callee in calls:
            intent = {"target": "GROUP", "identifier": f"service-{callee:02}", "pick": "ONE"}
            request = {"op": 0, "id": f"{callee}", "event": "E", "intent": intent}
            members[caller].send(frame(**request, timeout=60_000))
        expect(page.locator(".arrow")).to_have_count(len(calls))
        shown = page.locator(".box").evaluate_all("boxes => boxes.map((b) => b.dataset.group)")
        assert set(shown) == {f"service-{index:02}" for index in range(number)}
        assert page.evaluate(MISPLACED) == []
        assert width_of(page) == viewport["width"]


def test_the_keyboard_reaches_everything(browser: Browser, mesh: WatchedMesh) -> None:
    with open_page(browser, mesh.dashboard) as page:
        wait_for_all(page)
        reached = tab_through(page)
        assert set(reached) >= {
            "Skip to the services",
            "theme",
            "filter",
            "fold-all",
            "billing",
            "web",
            "a box",
            "The same as a table",
            "errors",
            "ended",
        }
        # A browser shows by itself where the focus is; here it must be seen in each place.
        assert all(reached.values()), reached


def test_keys_open_groups_filter_them_and_walk_through_the_picture(
    browser: Browser, mesh: WatchedMesh
) -> None:
    with open_page(browser, mesh.dashboard) as page:
        wait_for_all(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.url.endswith("#services")
        page.locator("#filter").focus()
        page.keyboard.type("BILL")
        expect(page.locator("tr.group")).to_have_count(1)
        expect(page.locator("#services-note")).to_contain_text("1 of ")
        fold(page, "billing").focus()
        page.keyboard.press("Space")
        expect(page.locator("tr.member")).to_have_count(1)
        boxes = page.locator(".box")
        expect(boxes.first).to_have_attribute("tabindex", "0")
        boxes.first.focus()
        page.keyboard.press("ArrowRight")
        expect(boxes.nth(1)).to_be_focused()
        page.keyboard.press("Home")
        expect(boxes.first).to_be_focused()
        # Its own calls stand out from the others.
        expect(page.locator(".arrow.related")).to_have_attribute("data-caller", "web")
        page.locator("#theme").focus()
        expect(page.locator(".arrow.related")).to_have_count(0)
        expect(boxes.first).to_have_attribute(
            "aria-label", re.compile(r"^web; calls .*billing [\d,.]+/s")
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(
    browser: Browser, mesh: WatchedMesh, scheme: Literal["light", "dark"]
) -> None:
    with open_page(browser, mesh.dashboard, color_scheme=scheme) as page:
        wait_for_all(page)
        page.get_by_role("button", name="Unfold all").click()
        page.get_by_text("The same as a table").click()
        expect(page.locator("tr.member").first).to_be_visible()
        assert page.evaluate(LOW_CONTRAST) == []
        # And when the connection is lost, in its greys.
        lose = "document.documentElement.toggleAttribute('data-lost', true)"
        assert page.evaluate(f"() => {{ {lose}; return ({LOW_CONTRAST})(); }}") == []


def test_colours_are_the_systems_until_chosen_and_then_remembered(
    browser: Browser, mesh: WatchedMesh
) -> None:
    dark, light = "rgb(14, 19, 25)", "rgb(244, 245, 247)"
    with open_page(browser, mesh.dashboard, color_scheme="dark", reduced_motion="reduce") as page:
        body = page.locator("body")
        switch = page.locator("#theme")
        expect(body).to_have_css("background-color", dark)
        expect(switch).to_have_text("Colours: system")
        switch.click()
        expect(switch).to_have_text("Colours: light")
        expect(body).to_have_css("background-color", light)
        page.reload()
        expect(switch).to_have_text("Colours: light")
        expect(body).to_have_css("background-color", light)
        # Whoever wants no motion gets none.
        expect(page.locator(".arrow").first).to_have_css("transition-duration", "0s")
