"""The e-book has every page of the book, keeps the rules for EPUB, and is small."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import epub
from tools.notebooks import ROOT

pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    target = tmp_path_factory.mktemp("with a space") / "book.epub"
    epub.main([str(target)])
    return target


@pytest.fixture(scope="module")
def pages(made):
    """The pages by their names, as trees."""
    with zipfile.ZipFile(made) as file:
        names = [name for name in file.namelist() if name.endswith(".xhtml")]
        return {name: BeautifulSoup(file.read(name), "html.parser") for name in names}


def test_every_page_of_the_book_is_there(pages):
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    assert {f"{file}.xhtml" for file in files} <= {*pages}


def test_nothing_needs_a_script_and_every_picture_has_words(pages):
    for name, page in pages.items():
        assert not page.select("script, button, canvas"), name
        assert all(image.get("alt") for image in page.select("img")), name
    assert "needs JavaScript" in pages["chapters/laboratory.xhtml"].text


def test_formulas_are_formulas(pages):
    page = pages["chapters/04_dropout.xhtml"]
    assert len(page.select("math")) > 5 and "\\tilde" not in page.text
    assert page.select_one("details summary").text.strip() == "Show the code"


def test_it_keeps_the_rules(made):
    """By epubcheck, of which Debian's command is a Java archive."""
    found = shutil.which("epubcheck")
    if not found:
        pytest.skip("no epubcheck here: install it, on Debian with `apt-get install epubcheck`")
    real = os.path.realpath(found)
    command = ["java", "-jar", real] if real.endswith(".jar") else [real]
    done = subprocess.run([*command, made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:2_000]
    assert Path(made).stat().st_size < 25e6


def test_what_the_rules_forbid_is_mended():
    picture = (
        '<?xml version="1.0"?><!DOCTYPE svg\n "x"><svg><image x="1" id="a"/><path id="b"/></svg>'
    )
    assert epub.mended("a.svg", picture, []) == (
        '<?xml version="1.0"?><svg><image x="1"/><path d="M0 0" id="b"/></svg>'
    )
    manifest = '<dc:rights></dc:rights>\n<item id="e" href="a.xhtml"/><item id="f" href="b.xhtml"/>'
    assert epub.mended("content.opf", manifest, ["b.xhtml"]) == (
        '<item id="e" href="a.xhtml"/><item id="f" href="b.xhtml" properties="mathml"/>'
    )
