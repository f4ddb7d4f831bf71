"""Where the Binder button leads: to the clone's own origin, or nowhere."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "_ext"))
import launch

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="there is no git here")


@pytest.fixture(autouse=True)
def given(monkeypatch):
    for name in ("BOOK_REPOSITORY", "BOOK_BRANCH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clone(tmp_path):
    """Return a function that makes an empty repository with this origin."""

    def make(origin):
        subprocess.run(["git", "init", "-q", "-b", "draft", tmp_path], check=True)
        if origin:
            subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", origin], check=True)
        return tmp_path

    return make


@needs_git
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://github.com/someone/a-book.git", "https://github.com/someone/a-book"),
        ("https://gitlab.com/someone/a.book", "https://gitlab.com/someone/a.book"),
        ("git@github.com:someone/a-book.git", "https://github.com/someone/a-book"),
        ("/srv/git/book", None),
        ("https://example.org/someone/a-book", None),
        ("https://user:secret@github.com/someone/a-book", None),
        ("https://github.com/someone", None),
        ("", None),
    ],
)
def test_repository_from_origin(origin, expected, clone):
    assert launch.repository(str(clone(origin))) == (expected and (expected, "draft"))


@needs_git
def test_a_folder_inside_another_repository_has_no_origin(clone, monkeypatch):
    """As where the book's zip file was unpacked among somebody's own files."""
    folder = clone("https://github.com/someone/else") / "book"
    folder.mkdir()
    assert launch.repository(str(folder)) is None
    monkeypatch.setenv("BOOK_REPOSITORY", "https://github.com/someone/a-book")
    assert launch.repository(str(folder)) == ("https://github.com/someone/a-book", "main")


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.repository(str(tmp_path)) is None
    monkeypatch.setenv("BOOK_REPOSITORY", "https://github.com/someone/a-book")
    assert launch.repository(str(tmp_path)) == ("https://github.com/someone/a-book", "main")
