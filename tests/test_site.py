"""The built site: images, launch buttons, links. `make slow` builds it first."""

import gzip
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.site
SITE = ROOT / os.environ.get("BOOK_SITE", "_build/html")
sys.path.insert(0, str(ROOT / "_ext"))
import launch  # noqa: E402


class Page(HTMLParser):
    """Collects the images, links and ids of one page."""

    def __init__(self, path):
        super().__init__()
        self.images, self.links, self.ids, self.loaded = [], [], set(), []
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag in ("script", "img", "iframe", "link"):  # what the browser fetches by itself
            self.loaded.append(attrs.get("src") or attrs.get("href") or "")
        if "id" in attrs:
            self.ids.add(attrs["id"])


def pages(site):
    found = [site / "intro.html", *sorted((site / "chapters").glob("*.html"))]
    return {path: Page(path) for path in found}


@pytest.fixture(scope="module")
def site():
    assert (SITE / "index.html").exists(), "the site is not built: run `make book`"
    return pages(SITE)


def test_images_have_real_alt_text(site):
    count = 0
    for path, page in site.items():
        for image in page.images:
            assert image.get("alt") is not None, (path, image)
            assert "_images/" not in image["alt"], f"file name as alt text in {path}"
            count += "_images/" in image["src"]
    assert count >= 20


def test_internal_links_and_anchors_resolve(site):
    known = {path.resolve(): page.ids for path, page in site.items()}
    for path, page in site.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link) or link in ("#", "/"):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path.resolve()
            assert target.exists(), f"{path.name} links to {link}"
            if anchor.startswith(("n_train=", "technique=")):  # a view: it has tests of its own
                continue
            if anchor and target in known:
                assert anchor in known[target], f"{path.name} links to {link}"


def test_pages_load_nothing_from_another_host(site):
    for path, page in site.items():
        for address in page.loaded:
            assert "//" not in address, f"{path.name} loads {address}"
    formulas = site[SITE / "chapters" / "04_dropout.html"]
    (mathjax,) = (a for a in formulas.loaded if "mathjax" in a)
    assert (SITE / "chapters" / mathjax.split("?")[0]).exists()


def test_pages_are_light(site):
    """What a page fetches, compressed as a server would, images at the end of it included."""
    for path, page in site.items():
        files = {(path.parent / address.split("?")[0]).resolve() for address in page.loaded}
        weight = sum(len(gzip.compress(file.read_bytes())) for file in files if file.is_file())
        assert 50_000 < weight < 1_000_000, f"{path.name} weighs {weight:,} bytes"


def test_one_style_sheet_and_no_script_before_the_content(site):
    for path, page in site.items():
        head, body = page.text.split("</head>", 1)
        assert head.count('rel="stylesheet"') == 1 and "<script src" not in head, path
        assert all("defer" in tag for tag in re.findall("<script[^>]*src=[^>]*>", body)), path
        assert 'name="description"' in head, path


def test_no_raw_markup_and_no_stderr(site):
    for path, page in site.items():
        body = page.text.split("<article", 1)[1].split("</article", 1)[0]
        for raw in ("{admonition}", "{cite", "```", ":class:", "output stderr"):
            assert raw not in body, f"{raw} in {path.name}"


def test_claims_are_on_the_pages(site):
    for path, page in site.items():
        if path.stem[:2] in ("01", "02", "03", "04", "05", "06", "07"):
            assert page.text.count("✓") >= 3, path


def test_no_button_to_a_made_up_place(site):
    """Only addresses that the environment or the clone's origin gives may be linked."""
    found = launch.repository(str(ROOT))
    for page in site.values():
        for link in page.links:
            assert "executablebooks" not in link or link == "https://jupyterbook.org"
            if "mybinder" in link or "/blob/" in link or "/edit/" in link:
                assert found and found[0].split("//")[1].split("/", 1)[1] in link


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    """Return a function that builds a small copy of the book: the intro and one chapter."""

    def build(**environment):
        folder = tmp_path_factory.mktemp("book")
        for name in ("_config.yml", "references.bib", "_ext", "_static", "utils"):
            os.symlink(ROOT / name, folder / name)
        (folder / "chapters").mkdir()
        os.symlink(ROOT / "chapters" / "04_dropout.ipynb", folder / "chapters" / "04_dropout.ipynb")
        (folder / "intro.md").write_text("# Intro\n")
        (folder / "_toc.yml").write_text(
            "format: jb-book\nroot: intro\nchapters:\n  - file: chapters/04_dropout\n"
        )
        command = [Path(sys.executable).with_name("jupyter-book"), "build", folder]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
        done = subprocess.run(command, env=clean | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return folder / "_build" / "html"

    return build


@pytest.fixture(scope="module")
def published(small_book):
    return small_book(
        BOOK_REPOSITORY="https://github.com/someone/a-book",
        BOOK_BRANCH="main",
        BOOK_URL="https://someone.example/a-book/",
    )


def test_binder_button_with_an_address(published):
    page = Page(published / "chapters" / "04_dropout.html")
    binder = [link for link in page.links if "mybinder.org" in link]
    assert binder == [
        "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/chapters/04_dropout.ipynb"
    ]
    colab = "https://colab.research.google.com/github/someone/a-book/blob/main/"
    assert f"{colab}chapters/04_dropout.ipynb" in page.links
    for kind in ("pdf", "epub"):
        assert f"https://someone.example/a-book/regularization.{kind}" in page.links


def test_a_published_site_says_where_it_is(published):
    page = Page(published / "chapters" / "04_dropout.html")
    address = "https://someone.example/a-book/chapters/04_dropout.html"
    assert f"<loc>{address}</loc>" in (published / "sitemap.xml").read_text("utf-8")
    assert f'content="{address}" property="og:url"' in page.text
    (description,) = re.findall(r'content="([^"]+)" name="description"', page.text)
    assert description.startswith("A fifth of your labels are wrong")
    (card,) = re.findall(r'"https://someone.example/a-book/([^"]+)" property="og:image"', page.text)
    assert (published / card).stat().st_size > 10_000
    assert 'href="/a-book/index.html"' in (published / "404.html").read_text("utf-8")


def test_no_button_without_an_address(small_book):
    site = small_book()
    page = Page(site / "chapters" / "04_dropout.html")
    assert not [link for link in page.links if "mybinder" in link or "github.com" in link]
    assert "og:url" not in page.text and "canonical" not in page.text
    assert 'href="/index.html"' in (site / "404.html").read_text("utf-8")
