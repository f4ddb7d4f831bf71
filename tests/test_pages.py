"""Every page in a real browser: accessible, quiet, and no wider than the screen."""

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = pytest.mark.site
SITE = Path(__file__).parent.parent / os.environ.get("BOOK_SITE", "_build/html")
PAGES = [SITE / "intro.html", *sorted(SITE.glob("chapters/*.html")), SITE / "search.html"]
PAGES += sorted(SITE.glob("results/*.html"))
SCREENS = {"phone": (375, "dark"), "tablet": (768, "light"), "desktop": (1440, "light")}
WCAG = [f"wcag{level}" for level in ("2a", "2aa", "21a", "21aa", "22aa")]
KNOWN = "label-content-name-mismatch"  # the theme's search button is named otherwise than it reads


def problems(browser, address, screen):
    """Return what is wrong with a page on a screen, one line each."""
    width, theme = SCREENS[screen]
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    page, found = context.new_page(), []
    page.on("console", lambda m: m.type == "error" and found.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: found.append(f"script: {error}"))
    page.on("request", lambda r: r.url.startswith("file:") or found.append(f"loads {r.url}"))
    page.goto(address)
    page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")  # formulas are set
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        found.append(f"{wide} pixels wide on a screen of {width}")
    options = {"runOnly": WCAG, "resultTypes": ["violations"], "preload": False}
    for violation in Axe().run(page, options=options).response["violations"]:
        where = violation["nodes"][0]["html"][:150]
        found.append(f"{violation['id']}: {violation['help']}: {where}")
    context.close()
    return [line for line in found if not re.search(KNOWN, line)]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, screen, browser):
    assert not problems(browser, page.as_uri(), screen)


TECHNIQUES = [page for page in PAGES if re.match("0[1-6]_", page.name)]
PHONE = {"width": 390, "height": 844}
MEASURES = """() => {
  const seen = (query) => [...document.querySelectorAll(".bd-article " + query)]
    .filter((e) => e.checkVisibility());
  const end = (e) => e ? (e.getBoundingClientRect().bottom + scrollY) / innerHeight : Infinity;
  const lines = (before) => seen(".highlight pre")
    .filter((e) => !e.closest(".cell_output"))
    .filter((e) => !before || e.compareDocumentPosition(before) & 4)
    .map((e) => e.textContent.trimEnd().split("\\n").length).reduce((a, b) => a + b, 0);
  const wide = seen("figure img, table")
    .filter((e) => e.getBoundingClientRect().right > innerWidth);
  const bent = seen("figure img").filter((e) =>
    Math.abs(e.clientWidth / e.clientHeight / (e.naturalWidth / e.naturalHeight) - 1) > 0.02);
  return {
    drawing: end(seen("figure")[0]), result: end(seen("figure[id$=gains]")[0]),
    tick: end(seen(".claim")[0]), cross: end(seen(".claim-broken")[0]),
    early: lines(document.querySelector("[id^=by-hand]")), lines: lines(null),
    screens: document.documentElement.scrollHeight / innerHeight,
    wide: wide.length, bent: bent.length,
  };
}"""
LIMITS = {"drawing": 2, "result": 3, "tick": 4, "cross": 4, "early": 3, "lines": 70, "screens": 14}


def measures(browser, address):
    """Return what a reader on a phone meets, in screens and lines, with all folded as it opens."""
    page = browser.new_page(viewport=PHONE)
    page.goto(address)
    page.evaluate("document.querySelectorAll('img').forEach((e) => { e.loading = 'eager'; })")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
    found = page.evaluate(MEASURES)
    page.close()
    return found


@pytest.mark.parametrize("page", TECHNIQUES, ids=lambda page: page.stem)
def test_five_minutes_on_a_phone(page, browser):
    found = measures(browser, page.as_uri())
    assert all(found[name] <= limit for name, limit in LIMITS.items()), found
    assert not found["wide"] and not found["bent"], found


LATER = [page for page in PAGES if re.match("0[89]_|where_", page.name)]


@pytest.mark.parametrize("page", LATER, ids=lambda page: page.stem)
def test_later_pages_on_a_phone(page, browser):
    """As above, for what has no line of Keras to buy: a picture, and something that is checked."""
    found = measures(browser, page.as_uri())
    limits = {name: LIMITS[name] for name in ("drawing", "tick", "lines", "screens")}
    assert all(found[name] <= limit for name, limit in limits.items()), found
    assert not found["wide"] and not found["bent"], found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_keep_their_proportions_on_a_phone(page, browser):
    assert not measures(browser, page.as_uri())["bent"]


VISIBLE = """() => [...document.querySelectorAll("a[href], button, select, input, summary, pre")]
  .filter((e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true}))
  .filter((e) => e.tagName !== "PRE" || e.scrollWidth > e.clientWidth)
  .forEach((e) => { e.dataset.seen = ""; })"""


def unreached(browser, address):
    """Return what can be seen and used on a page, and the key Tab never comes to."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address)
    page.wait_for_timeout(500)
    page.evaluate(VISIBLE)
    for _ in range(1_000):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.removeAttribute('data-seen')")
        if page.evaluate("document.activeElement === document.body"):  # once round
            break
    left = page.evaluate(
        "[...document.querySelectorAll('[data-seen]')].map((e) => e.outerHTML.slice(0, 150))"
    )
    page.close()
    return left


@pytest.mark.parametrize("name", ["intro", "chapters/04_dropout", "chapters/explorer"])
def test_the_key_tab_comes_to_everything(name, browser):
    assert not unreached(browser, (SITE / f"{name}.html").as_uri())


def test_what_tab_passes_by_is_found_out(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text('<a href="#a">one</a> <a href="#b" tabindex="-1">two</a>')
    assert ["two" in line for line in unreached(browser, file.as_uri())] == [True]


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ('<img src="x.png">', "image-alt"),
        ('<p style="color: #bbbbbb; background: #ffffff">pale</p>', "color-contrast"),
        ('<div style="width: 3000px">wide</div>', "pixels wide on a screen of 375"),
        ("<script>console.error('broken')</script>", "console: broken"),
        ("<script>nothing.there()</script>", "script: nothing is not defined"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org"),
    ],
)
def test_a_broken_page_is_found_out(flaw, message, browser, tmp_path):
    """The check above can fail."""
    text = f'<html lang="en"><head><title>A page</title></head><body><main>{flaw}</main></body>'
    file = tmp_path / "page.html"
    file.write_text(text)
    assert any(message in line for line in problems(browser, file.as_uri(), "phone"))
