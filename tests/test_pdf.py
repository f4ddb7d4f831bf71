"""The book on paper has every page of the book, and every picture."""

import re
import subprocess
import sys

import pytest
import yaml

from tools import pdf
from tools.notebooks import ROOT

pytestmark = pytest.mark.site


def python(*arguments):
    """Run Python in a process of its own: the other tests' browser has this one's event loop."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def printed(browser, tmp_path_factory):
    """The page that is printed, and the PDF."""
    folder = tmp_path_factory.mktemp("with a space")
    target = folder / "book.pdf"
    done = python("-m", "tools.pdf", str(target))
    assert done.returncode == 0, done.stderr
    source = pdf.BUILD / "_build" / "singlehtml" / "intro.html"
    return source.read_text("utf-8"), target.read_bytes()


def test_every_page_of_the_book_is_there(printed):
    text, _ = printed
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    for page in pages:
        assert text.count(f'id="document-{page}"') == 1, page


def test_the_pdf_is_whole_and_small(printed):
    _, content = printed
    assert content.startswith(b"%PDF") and len(content) < 25e6
    assert 100 < len(re.findall(rb"/Type /Page\b(?!s)", content)) < 250
    assert b"/Outlines" in content and b"/StructTreeRoot" in content


def test_a_missing_picture_is_an_error(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='nowhere.png' loading='lazy'>")
    code = "import sys; from pathlib import Path; from tools.pdf import print_page; "
    code += "print_page(*map(Path, sys.argv[1:]))"
    done = python("-c", code, str(page), str(tmp_path / "book.pdf"))
    assert done.returncode == 1
    assert re.fullmatch("pictures are missing: file://.*/nowhere.png\n", done.stderr)
