"""The book on paper has every page of the book, and every picture."""

import re

import pytest
import yaml

from tools import pdf
from tools.notebooks import ROOT

pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The page that is printed, and the PDF."""
    folder = tmp_path_factory.mktemp("with a space")
    target = folder / "book.pdf"
    pdf.main([str(target)])
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


def test_a_missing_picture_is_an_error(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='nowhere.png' loading='lazy'>")
    with pytest.raises(SystemExit, match=r"pictures are missing: file://.*nowhere.png"):
        pdf.print_page(page, tmp_path / "book.pdf")
