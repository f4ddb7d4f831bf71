"""The explorer in a real browser, opened from the folder as a reader offline would."""

import gzip
import os
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest

from utils.evidence import at_best_strength, paired_difference
from utils.results import load_results

pytestmark = pytest.mark.site
SITE = Path(__file__).parent.parent / os.environ.get("BOOK_SITE", "_build/html")
PAGE = SITE / "chapters" / "explorer.html"
STATE = {"images": 300, "wrong": 20, "technique": "dropout", "strength": "0.4", "score": "accuracy"}


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 375, "height": 740})
    page = context.new_page()
    page.problems = []
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda r: r.url.startswith("file:") or page.problems.append(r.url))
    yield page
    assert not page.problems
    context.close()


def visit(page, **state):
    page.goto("about:blank")  # a change behind the # alone would not load the page anew
    page.goto(f"{PAGE.as_uri()}#{urlencode(state)}")
    page.wait_for_selector("#explorer-table td:nth-child(2)")
    return page


def text(page, name):
    return page.inner_text(f"#explorer-{name}").replace("−", "-")


def chosen(page):
    return {key: page.input_value(f"#explorer-{key}") for key in STATE}


def test_what_a_reader_loads_is_small():
    folder = SITE / "_static" / "explorer"
    files = [folder / name for name in ("explorer.js", "uPlot.iife.min.js", "index.js")]
    files.append(max(folder.glob("*-*.js"), key=lambda file: file.stat().st_size))
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 300_000


def test_first_view(page):
    visit(page)
    assert "compared with the tuned baseline over the same 10 seeds" in text(page, "sentence")
    assert page.locator("#explorer-chart canvas").is_visible()
    assert page.locator("#explorer-fallback").is_hidden()
    assert text(page, "notice") == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_link_restores_its_view_and_the_address_follows(page):
    visit(page, **STATE)
    assert chosen(page) == {key: str(value) for key, value in STATE.items()}
    page.select_option("#explorer-technique", "L2 + early stopping")
    page.select_option("#explorer-score", "log_loss")
    before = chosen(page)
    page.reload()
    page.wait_for_selector("#explorer-table td:nth-child(2)")
    assert chosen(page) == before
    assert before["technique"] == "L2 + early stopping" and before["score"] == "log_loss"


def test_links_of_the_chapters_open_their_view(page):
    texts = [chapter.read_text("utf-8") for chapter in SITE.glob("chapters/0*.html")]
    views = {view for text in texts for view in re.findall(r'explorer\.html#([^"]+)"', text)}
    assert len(views) >= 5
    for view in views:
        wanted = dict(parse_qsl(unescape(view)))
        visit(page, **wanted)
        assert text(page, "notice") == ""
        assert wanted.items() <= chosen(page).items()


def test_every_control_by_keyboard(page):
    visit(page, **STATE)
    page.focus("#explorer-images")
    for key in STATE:
        assert page.evaluate("document.activeElement.id") == f"explorer-{key}"
        before = chosen(page)[key], page.url
        page.keyboard.press("ArrowDown")
        page.wait_for_function(f"!location.href.includes({before[1]!r}.split('#')[1])")
        assert chosen(page)[key] != before[0]
        page.keyboard.press("Tab")


def test_numbers_on_the_screen_are_those_of_the_results(page):
    scores = load_results("scores")
    cells = scores[["images", "wrong", "technique", "strength"]].drop_duplicates()
    for row in cells.sample(10, random_state=np.random.default_rng()).itertuples(index=False):
        metric = ("accuracy", "log_loss")[hash(row) % 2]
        setting = scores.query("images == @row.images and wrong == @row.wrong")
        own = setting.query("technique == @row.technique and strength == @row.strength")
        own = own.set_index("seed")[f"test_{metric}"]
        best = at_best_strength(setting, metric).query("technique == 'none'")
        baseline = best.set_index("seed")[f"test_{metric}"]
        visit(page, images=row.images, wrong=round(100 * row.wrong), technique=row.technique,
              strength=f"{row.strength:g}", score=metric)  # fmt: skip
        scale, digits = (100, 0.006) if metric == "accuracy" else (1, 0.0006)
        shown = page.locator("#explorer-table tbody tr").all_inner_texts()
        for line, values in zip(shown, (own, baseline), strict=True):
            numbers = [float(cell) for cell in line.replace("−", "-").split("\t")[1:]]
            expected = scale * np.array([values.mean(), values.min(), values.max()])
            np.testing.assert_allclose(numbers, expected, atol=digits + 0.01 * scale / 100)
        difference = paired_difference(own, baseline)
        if difference.low != difference.high:
            interval = re.search(
                r"interval ([+-]?\d+\.\d+) to ([+-]?\d+\.\d+)", text(page, "sentence")
            )
            found = [float(end) for end in interval.groups()]
            np.testing.assert_allclose(found, scale * np.array(difference[1:3]), atol=digits)


@pytest.mark.parametrize(
    "state",
    [
        {**STATE, "images": 7},
        {**STATE, "technique": "magic"},
        {**STATE, "strength": "much"},
        {**STATE, "colour": "red"},
        {"<script>": "1"},
    ],
)
def test_a_malformed_address_falls_back_with_a_notice(page, state):
    visit(page, **state)
    assert "The address names no" in text(page, "notice")
    assert "seeds" in text(page, "sentence")


def test_without_javascript_a_figure_and_a_table_stand_there(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(PAGE.as_uri())
    assert page.locator("#explorer").is_hidden()
    assert page.locator("#explorer-fallback img").is_visible()
    assert page.locator("#explorer-fallback table").is_visible()
    context.close()
