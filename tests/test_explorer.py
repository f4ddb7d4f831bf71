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

from utils.evidence import chosen as choose
from utils.evidence import paired_difference
from utils.results import RESULTS, SETTING, against_plain, load_results, tuned
from utils.techniques import ARMS, STYLE

CONFIGURATION = ["learning_rate", "strength"]
VIEWS = {  # metric, and the end that a search chooses by
    "accuracy last": ("accuracy", "last"),
    "accuracy best": ("accuracy", "best accuracy"),
    "log_loss last": ("log_loss", "last"),
    "log_loss best": ("log_loss", "best log-loss"),
}
pytestmark = pytest.mark.site
SITE = Path(__file__).parent.parent / os.environ.get("BOOK_SITE", "_build/html")
PAGE = SITE / "chapters" / "explorer.html"
STATE = {
    "n_train": "10000",
    "label_noise": "20",
    "technique": "dropout",
    "score": "accuracy",
    "end": "last",
    "pairs": "10",
    "strength": "0.4",
}
SELECTS = [key for key in STATE if key not in ("pairs", "strength")]


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
    """Return the view that the address names, which the controls show, too."""
    now = dict(parse_qsl(page.url.partition("#")[2]))
    assert {key: page.input_value(f"#explorer-{key}") for key in SELECTS}.items() <= now.items()
    return now


def test_what_a_reader_loads_is_small():
    folder = SITE / "_static" / "explorer"
    files = [folder / name for name in ("explorer.js", "uPlot.iife.min.js", "index.js")]
    files.append(max(folder.glob("*-*.js"), key=lambda file: file.stat().st_size))
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 300_000


def test_first_view(page):
    visit(page)
    assert "against the tuned plain network" in text(page, "sentence")
    assert "Over 10 pairs" in text(page, "sentence")
    for chart in ("chart", "pairs", "search"):
        assert page.locator(f"#explorer-{chart} canvas").is_visible()
    assert page.locator("#explorer-fallback").is_hidden()
    assert text(page, "notice") == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_link_restores_its_view_and_the_address_follows(page):
    visit(page, **STATE)
    assert chosen(page) == STATE
    page.select_option("#explorer-technique", "dropout + max-norm")
    page.select_option("#explorer-score", "log_loss")
    page.click("#explorer-one")
    before = chosen(page)
    page.reload()
    page.wait_for_selector("#explorer-table td:nth-child(2)")
    assert chosen(page) == before
    assert before["technique"] == "dropout + max-norm"
    assert (before["score"], before["pairs"]) == ("log_loss", "1")


def test_links_of_the_chapters_open_their_view(page):
    texts = [chapter.read_text("utf-8") for chapter in SITE.glob("chapters/0*.html")]
    views = {view for text in texts for view in re.findall(r'explorer\.html#([^"]+)"', text)}
    assert len(views) >= 5
    for view in views:
        wanted = dict(parse_qsl(unescape(view)))
        visit(page, **wanted)
        assert text(page, "notice") == ""
        assert wanted.items() <= chosen(page).items()


def test_the_links_on_its_own_page_open_their_view(page):
    visit(page)
    links = page.locator('a[href*="explorer.html#n_train"], a[href^="#n_train"]')
    views = {link.get_attribute("href").partition("#")[2] for link in links.all()}
    assert len(views) == 4
    for view in views:
        wanted = dict(parse_qsl(view))
        visit(page, **wanted)
        assert text(page, "notice") == ""
        assert wanted.items() <= chosen(page).items()


def test_every_control_by_keyboard(page):
    visit(page, **STATE)
    for key in [*SELECTS, "strength"]:
        page.focus(f"#explorer-{key}")
        before, address = chosen(page)[key], page.url
        first = page.input_value(f"#explorer-{key}") == "0"  # of the slider
        page.keyboard.press("ArrowUp" if before == "10000" or first else "ArrowDown")
        page.wait_for_function("before => location.href !== before", arg=address)
        assert chosen(page)[key] != before
        page.wait_for_selector("#explorer-table td:nth-child(2)")


def test_a_tap_on_the_map_opens_its_runs(page):
    visit(page)
    page.click('#explorer-map [aria-label^="augmentation, 10,000 images, 40 % wrong"]')
    page.wait_for_function("document.getElementById('explorer-n_train').value === '10000'")
    wanted = {"n_train": "10000", "label_noise": "40", "technique": "augmentation"}
    assert wanted.items() <= chosen(page).items()
    assert page.locator("#explorer-map [aria-pressed=true]").count() == 1
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith("augmentation, 10,000 images, 40 % wrong: +")


@pytest.mark.parametrize(("score", "scale", "digits"), [("accuracy", 100, 1), ("log_loss", 1, 2)])
@pytest.mark.parametrize("end", ["last", "best"])
def test_the_map_is_that_of_the_results(page, score, end, scale, digits):
    _, name = VIEWS[f"{score} {end}"]
    visit(page, score=score, end=end)
    table = against_plain(f"test_{score}", score, name)
    tiles = page.locator("#explorer-map button").all()
    labels = dict(tile.get_attribute("aria-label").split(" % wrong: ") for tile in tiles)
    assert len(labels) == len(table) == 60
    for row in table.itertuples():
        label = f"{row.technique}, {row.n_train:,} images, {100 * row.label_noise:.0f}"
        number, *unclear = labels[label].replace("−", "-").split(", ")
        assert float(number) == pytest.approx(scale * row.mean, abs=0.51 * 10**-digits)
        assert bool(unclear) is not bool(row.clear)


def test_the_networks_are_counted(page):
    visit(page)
    runs = load_results("curves", RESULTS / "map")
    assert f"{len(runs):,} trained networks" in page.inner_text("article")
    assert (runs.groupby(SETTING)["epoch"].apply(lambda e: e.map(tuple).nunique()) == 1).all()


def interval(sentence):
    """Return the two ends of the interval in a sentence."""
    ends = re.search(r"interval ([+-]?\d+\.\d+) to ([+-]?\d+\.\d+)", sentence)
    return [float(end) for end in ends.groups()]


def test_numbers_on_the_screen_are_those_of_the_results(page):
    seed = secrets.randbits(32)
    print(f"drawn with {seed=}")
    rng = np.random.default_rng(seed)
    search = load_results("scores", RESULTS / "search")
    for _ in range(10):
        technique, pairs = rng.choice([*ARMS][1:]), int(rng.integers(2, 11))
        n_train, noise = int(rng.choice([1_000, 10_000])), int(rng.choice([0, 20, 40]))
        metric, end = VIEWS[view := rng.choice([*VIEWS])]
        own, plain = (
            tuned(arm, n_train, noise / 100, end, metric).query("end == @end").sort_index()[:pairs]
            for arm in (technique, "none")
        )
        visit(page, n_train=n_train, label_noise=noise, technique=technique, pairs=pairs,
              score=metric, end=view.split()[1])  # fmt: skip
        scale, digits = (100, 0.0051) if metric == "accuracy" else (1, 0.00051)
        rows = page.locator("#explorer-table tbody tr").all_inner_texts()
        for line, values in zip(rows, (own, plain), strict=True):
            numbers = [float(cell) for cell in line.split("\t")[1:]]
            values = scale * values[f"test_{metric}"]
            np.testing.assert_allclose(
                numbers, [values.mean(), values.min(), values.max()], atol=digits
            )
        difference = paired_difference(own, plain, f"test_{metric}")
        ends = scale * np.array([difference.low, difference.high])
        np.testing.assert_allclose(interval(text(page, "sentence")), ends, atol=digits)
        same = search.query(
            "technique == @technique and n_train == @n_train and label_noise == @noise / 100"
        )
        picked = choose(same, [(end, metric)])[CONFIGURATION].iloc[0]
        shown = float(chosen(page)["strength"])
        assert shown in picked.to_list()
        knob = CONFIGURATION[0 if technique == "batch normalization" else 1]
        means = same[(same["end"] == end) & np.isclose(same[knob], shown)]
        means = means.groupby(CONFIGURATION)[f"val_{metric}"].mean()
        best = means.max() if metric == "accuracy" else means.min()
        shown = text(page, "tried").split("; the best of")[0].partition("two runs, was ")[2]
        numbers = [float(part.split()[0]) for part in shown.split(" and ")]
        best_shown = max(numbers) if metric == "accuracy" else min(numbers)
        assert best_shown == pytest.approx(scale * best, abs=2 * digits)


def test_pairs_are_drawn_one_after_another(page):
    visit(page, **STATE)
    page.click("#explorer-one")
    assert "one pair has no interval" in text(page, "sentence")
    for pairs in range(2, 11):
        page.click("#explorer-more")
        assert f"Over {pairs} pairs" in text(page, "sentence")
        assert chosen(page)["pairs"] == str(pairs)
        drawn = page.get_attribute("#explorer-pairs", "aria-label").split(". The line")[0]
        assert drawn.count(",") == pairs - 1
        assert bool(text(page, "enough")) is (pairs == 10)
    assert page.is_hidden("#explorer-more")
    assert page.evaluate("document.activeElement.id") == "explorer-one"
    assert text(page, "enough") == "Here the interval is on one side of zero from pair 3 on."


def test_a_view_without_a_cell_after_a_tap(page):
    """The plain network has no cell on the map that could keep the focus."""
    visit(page)
    page.click('#explorer-map [aria-label^="L2, 1,000 images, 20 % wrong"]')
    page.evaluate("address => { location.hash = address; }", view(technique="none", strength=None))
    page.wait_for_function("document.getElementById('explorer-technique').value === 'none'")
    assert "as Keras starts it" in text(page, "sentence")


def test_the_plain_network_is_compared_with_itself_at_the_usual_rate(page):
    visit(page, **STATE | {"technique": "none", "strength": "0.001"})
    sentence = text(page, "sentence")
    assert "against the plain network as Keras starts it (learning rate 0.001)" in sentence
    own = tuned("none", 10_000, 0.2).query("end == 'last'").sort_index()
    scores = load_results("scores", RESULTS / "map").query("technique == 'none' and end == 'last'")
    usual = scores.query("n_train == 10_000 and label_noise == 0.2 and learning_rate == 0.001")
    difference = paired_difference(own, usual.set_index("seed").sort_index(), "test_accuracy")
    np.testing.assert_allclose(
        interval(sentence), 100 * np.array([difference.low, difference.high]), atol=0.0051
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
    view(n_train="10000-20"),
    view(n_train="NaN"),
    view(n_train="-10000"),
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
    view(pairs="0"),
    view(pairs="11"),
    view(pairs="2.5"),
    view(end="first"),
    view(strength="Infinity"),
    view(colour="red"),
    view() + "&technique=L1",  # named twice
    view() + "&technique=dropout",
    view(n_train=None, label_noise=None, images="1000", wrong="20"),  # as it was once
    view(n_train=None, label_noise=None) + "&N_TRAIN=1000",
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
    view(score="log_loss"): {"n_train": "10000", "score": "log_loss"},
    view(strength="0.40"): STATE,
    view(strength="4e-1"): STATE,
    view(n_train="010000", label_noise="20.0"): STATE,
    view(technique="none", strength="6e-5"): {"technique": "none", "strength": "0.00006"},
    view(technique="none", strength=None): {"technique": "none"},
    "technique=weight%20decay": {"technique": "weight decay"},
    "technique=weight+decay": {"technique": "weight decay"},
    "technique=weight decay": {"technique": "weight decay"},
    "technique=L2%20%2B%20dropout": {"technique": "L2 + dropout"},
    "technique=L2+%2B+dropout": {"technique": "L2 + dropout"},
    "technique=L2 + dropout": {"technique": "L2 + dropout"},
    "%74echnique=%4C1": {"technique": "L1"},
}


def assert_fallback(page, address):
    assert "The address names no" in text(page, "notice"), address
    assert "pair" in text(page, "sentence"), address
    chosen(page)  # and the address is one that exists


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
    visit(page, view(technique="L1", strength="0.0002"))
    page.focus("a[href='#main-content']")
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    assert chosen(page)["technique"] == "L1" and text(page, "notice") == ""
    page.keyboard.press("Tab")  # on from there, not through the links above
    assert page.evaluate("document.getElementById('main-content').contains(document.activeElement)")


def test_a_link_on_the_page_changes_the_view(page):
    visit(page, view())
    page.evaluate(
        "address => { location.hash = address; }", view(technique="L1", strength="0.0002")
    )
    page.wait_for_function("document.getElementById('explorer-technique').value === 'L1'")
    assert text(page, "notice") == ""
    page.evaluate("address => { location.hash = address; }", view(technique="magic"))
    page.wait_for_function("document.getElementById('explorer-notice').textContent !== ''")
    page.select_option("#explorer-score", "log_loss")
    assert text(page, "notice") == ""


def test_curves_have_the_colours_of_the_figures(page):
    for technique in ("L1", "dropout + max-norm"):
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
