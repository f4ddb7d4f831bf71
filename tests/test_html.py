"""Every page by html-validate, which needs Node and, the first time, a network."""

import getpass
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

pytestmark = pytest.mark.site
SITE = Path(__file__).parent.parent / os.environ.get("BOOK_SITE", "_build/html")
PAGES = [SITE / "intro.html", *sorted(SITE.glob("[cr]*/*.html"))]
NPX = shutil.which("npx")
VALIDATE = [NPX, "--yes", "html-validate@10.17.0"]
# Of the rules for HTML as such, those about taste; and those that the theme's frame breaks.
TASTE = ["no-trailing-whitespace", "void-style", "attribute-boolean-style", "no-inline-style"]
FRAME = ["prefer-native-element", "wcag/h32", "long-title", "empty-heading"]


@pytest.fixture(scope="module")
def validator():
    lock = Path(tempfile.gettempdir()) / f"html-validate-{getpass.getuser()}.lock"
    with FileLock(lock):  # the first to come installs it
        there = NPX and not subprocess.run([*VALIDATE, "--version"], capture_output=True).returncode
    if not there:
        pytest.skip("no html-validate here: it needs Node with npx, and a network the first time")


def problems(files, folder, but):
    """Return what html-validate finds in files, one line each."""
    config = {
        "root": True,
        "extends": ["html-validate:standard"],
        "rules": dict.fromkeys(but, "off"),
    }
    settings = folder / "settings.json"
    settings.write_text(json.dumps(config))
    command = [*VALIDATE, "--config", settings, "--formatter", "json", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    return [
        f"{Path(report['filePath']).name}:{found['line']}: {found['ruleId']}: {found['message']}"
        for report in json.loads(done.stdout)
        for found in report["messages"]
    ]


def page(body):
    head = '<!DOCTYPE html>\n<html lang="en"><head><title>A page</title></head>'
    return f"{head}<body>{body}</body></html>\n"


def test_what_we_write_is_valid(validator, tmp_path):
    """The article of each page, without the theme's frame, and whole pages but for the frame."""
    for path in PAGES:
        (article,) = re.findall(r"<article.*</article>", path.read_text("utf-8"), re.DOTALL)
        (tmp_path / path.name).write_text(page(article), "utf-8")
    assert not problems(sorted(tmp_path.glob("*.html")), tmp_path, TASTE)
    assert not problems(PAGES, tmp_path, TASTE + FRAME)


@pytest.mark.parametrize(
    ("flaw", "rule"),
    [
        ("<p><div>block</div></p>", "close-order"),
        ("<details><summary><p>Show</p></summary></details>", "element-permitted-content"),
        ('<p id="a">one</p><p id="a">two</p>', "no-dup-id"),
        ("<table><tr><th scope=top>name</th></tr></table>", "attribute-allowed-values"),
    ],
)
def test_a_broken_page_is_found_out(validator, flaw, rule, tmp_path):
    """The check above can fail."""
    file = tmp_path / "page.html"
    file.write_text(page(flaw))
    assert any(rule in line for line in problems([file], tmp_path, TASTE))
