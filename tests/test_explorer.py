"""The explorer in a real browser, opened from the folder as a reader offline would."""

import gzip
import os
import re
import secrets
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

import numpy as np
import pytest

from utils.evidence import at_best_strength, paired_difference
from utils.results import load_results
from utils.techniques import STYLE

pytestmark = pytest.mark.site
SITE = Path(__file__).parent.parent / os.environ.get("BOOK_SITE", "_build/html")
PAGE = SITE / "chapters" / "explorer.html"
STATE = {
    "n_train": "300",
    "label_noise": "20",
    "technique": "dropout",
    "strength": "0.4",
    "score": "accuracy",
}


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


def visit(page, address="", **state):
    page.goto("about:blank")  # a change behind the # alone would not load the page anew
    page.goto(f"{PAGE.as_uri()}#{address or urlencode(state)}")
    page.wait_for_selector("#explorer-table td:nth-child(2)")


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
    assert chosen(page) == STATE
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
    page.focus("#explorer-n_train")
    for key in STATE:
        assert page.evaluate("document.activeElement.id") == f"explorer-{key}"
        before = chosen(page)[key], page.url
        page.keyboard.press("ArrowDown")
        page.wait_for_function(f"!location.href.includes({before[1]!r}.split('#')[1])")
        assert chosen(page)[key] != before[0]
        page.keyboard.press("Tab")


def test_numbers_on_the_screen_are_those_of_the_results(page):
    seed = secrets.randbits(32)
    print(f"drawn with {seed=}")
    rng = np.random.default_rng(seed)
    scores = load_results("scores")
    cells = scores[["n_train", "label_noise", "technique", "strength"]].drop_duplicates()
    for row in cells.sample(10, random_state=rng).itertuples(index=False):
        metric = rng.choice(["accuracy", "log_loss"])
        setting = scores.query("n_train == @row.n_train and label_noise == @row.label_noise")
        own = setting.query("technique == @row.technique and strength == @row.strength")
        own = own.set_index("seed")[f"test_{metric}"]
        best = at_best_strength(setting, metric).query("technique == 'none'")
        baseline = best.set_index("seed")[f"test_{metric}"]
        visit(page, n_train=row.n_train, label_noise=round(100 * row.label_noise),
              technique=row.technique, strength=f"{row.strength:g}", score=metric)  # fmt: skip
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
            np.testing.assert_allclose(
                found, scale * np.array([difference.low, difference.high]), atol=digits
            )


def view(**changes):
    """Return an address: that of `STATE` with some changes; None leaves a name out."""
    state = {key: value for key, value in (STATE | changes).items() if value is not None}
    return urlencode(state, quote_via=quote)


def go(page, address):
    """Change what stands behind the # on a page that has loaded the settings it needs."""
    page.evaluate(
        """address => new Promise((done) => {
            addEventListener("hashchange", () => setTimeout(done), { once: true });
            location.hash = address;
        })""",
        address,
    )


def go_and_wait(page, address):
    """Do so where the setting may have to be loaded; the address names a technique."""
    go(page, address)
    technique = dict(parse_qsl(address))["technique"]
    page.wait_for_function(f"document.getElementById('explorer-technique').value === '{technique}'")


OBJECT = ("constructor", "toString", "__proto__", "hasOwnProperty", "valueOf")
MALFORMED = [
    view(n_train="7"),
    view(n_train=""),
    view(n_train="300-20"),
    view(n_train="NaN"),
    view(n_train="-300"),
    view(label_noise="0.2"),
    view(label_noise=""),
    view(label_noise=" "),
    view(score="recall"),
    view(score=""),
    view(technique="magic"),
    view(technique=""),
    view(technique="dropou"),
    view(technique="x" * 100_000),
    view(strength="much"),
    view(strength=""),
    view(strength="0.41"),
    view(strength="Infinity"),
    view(colour="red"),
    view() + "&technique=L1",  # named twice
    view() + "&technique=dropout",
    view(n_train=None, label_noise=None, images="300", wrong="20"),  # as it was once
    view(n_train=None, label_noise=None) + "&N_TRAIN=300",
    view().replace("dropout", "%E0%A4%A"),  # no text
    view().replace("=", "%3D").replace("&", "%26"),
    "no-such-place",
    "%",
    "<script>=1",
    *(view(**{key: name}) for key in STATE for name in OBJECT),
    *(view(**{name: "1"}) for name in OBJECT),
]
WAYS = {  # addresses and the view that they mean
    "technique=L1": {"n_train": "1000", "technique": "L1"},
    view(score="log_loss"): {"n_train": "300", "score": "log_loss"},
    view(strength="0.40"): STATE,
    view(strength="4e-1"): STATE,
    view(n_train="0300", label_noise="20.0"): STATE,
    view(technique="none", strength="3e-5"): {"technique": "none", "strength": "3e-05"},
    view(technique="none", strength=None): {"technique": "none"},
    "technique=early%20stopping": {"technique": "early stopping"},
    "technique=early+stopping": {"technique": "early stopping"},
    "technique=early stopping": {"technique": "early stopping"},
    "technique=L2%20%2B%20early%20stopping": {"technique": "L2 + early stopping"},
    "technique=L2+%2B+early+stopping": {"technique": "L2 + early stopping"},
    "technique=L2 + early stopping": {"technique": "L2 + early stopping"},
    "%74echnique=%4C1": {"technique": "L1"},
}


def assert_fallback(page, address):
    assert "The address names no" in text(page, "notice"), address
    assert "seeds" in text(page, "sentence"), address
    now = dict(parse_qsl(page.url.partition("#")[2]))
    assert now == chosen(page), address  # and the address is one that exists


@pytest.mark.parametrize(
    "address", [view(n_train="7"), view(technique="constructor"), view(score="toString"), "%"]
)
def test_a_malformed_address_falls_back_with_a_notice(page, address):
    visit(page, address)
    assert_fallback(page, address)


def test_so_do_all_that_one_might_write(page):
    visit(page, view())
    go_and_wait(page, "technique=L1")
    for address in MALFORMED:
        go(page, address)
        assert_fallback(page, address)
        go(page, "technique=L1")
        assert text(page, "notice") == ""


def test_a_view_can_be_written_in_several_ways(page):
    visit(page)
    assert {"n_train": "1000", "label_noise": "20"}.items() <= chosen(page).items()
    go_and_wait(page, view(technique="L1"))
    go_and_wait(page, "technique=L2")
    for address, wanted in WAYS.items():
        go(page, address)
        assert text(page, "notice") == "", address
        assert wanted.items() <= chosen(page).items(), address
        go(page, "technique=L2")


@pytest.mark.parametrize(
    "place", ["#main-content", "#explore-the-runs", "#explorer-table", "#", "#top"]
)
def test_a_place_on_the_page_leaves_the_view_as_it_is(page, place):
    """As a reader comes to it, before and after a choice: a skip link, the mark of a heading."""
    visit(page, place[1:] or view())
    assert text(page, "notice") == ""
    visit(page, view())
    page.select_option("#explorer-technique", "L1")
    before = chosen(page), page.url
    for _ in range(2):
        page.evaluate("place => { location.hash = place; }", place)
        page.wait_for_function("address => location.href === address", arg=before[1])
        assert chosen(page) == before[0] and text(page, "notice") == ""
    page.reload()
    page.wait_for_selector("#explorer-table td:nth-child(2)")
    assert chosen(page) == before[0]


def test_the_skip_link_skips(page):
    visit(page, view(technique="L1", strength="0.001"))
    page.focus("a[href='#main-content']")
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    assert chosen(page)["technique"] == "L1" and text(page, "notice") == ""
    page.keyboard.press("Tab")  # on from there, not through the links above
    assert page.evaluate("document.getElementById('main-content').contains(document.activeElement)")


def test_a_link_on_the_page_changes_the_view(page):
    visit(page, view())
    page.evaluate("address => { location.hash = address; }", view(technique="L1", strength="0.001"))
    page.wait_for_function("document.getElementById('explorer-technique').value === 'L1'")
    assert text(page, "notice") == ""
    page.evaluate("address => { location.hash = address; }", view(technique="magic"))
    page.wait_for_function("document.getElementById('explorer-notice').textContent !== ''")
    page.select_option("#explorer-score", "log_loss")
    assert text(page, "notice") == ""


def test_curves_have_the_colours_of_the_figures(page):
    for technique in ("L1", "L2 + early stopping"):
        visit(page, view(technique=technique, strength=None))
        pixels = page.evaluate("""() => {
            const { width, height } = document.querySelector("#explorer-chart canvas");
            const pen = document.querySelector("#explorer-chart canvas").getContext("2d");
            return [...new Set(new Uint32Array(pen.getImageData(0, 0, width, height).data.buffer))];
        }""")
        colours = {bytes.hex(pixel.to_bytes(4, "little")[:3]) for pixel in pixels}
        assert STYLE[technique][0].lower() in {f"#{colour}" for colour in colours}
    script = (SITE / "_static" / "explorer" / "explorer.js").read_text("utf-8")
    assert not {colour for colour, _ in STYLE.values()} & set(re.findall("#[0-9A-F]{6}", script))


def test_without_javascript_a_figure_and_a_table_stand_there(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(PAGE.as_uri())
    assert page.locator("#explorer").is_hidden()
    assert page.locator("#explorer-fallback img").is_visible()
    assert page.locator("#explorer-fallback table").is_visible()
    context.close()
