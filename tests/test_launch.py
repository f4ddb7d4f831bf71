"""Where the buttons lead: to the book's own address, or nowhere; what runs where it is opened."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tools import address, alone
from tools.notebooks import NOTEBOOKS, ROOT, read

sys.path.insert(0, str(ROOT / "_ext"))
import launch

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="there is no git here")


@pytest.fixture(autouse=True)
def given(monkeypatch):
    for name in ("BOOK_REPOSITORY", "BOOK_BRANCH", "BOOK_BINDER"):
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


def test_binder_fetches_the_book_where_a_branch_holds_the_environment_alone(monkeypatch):
    theme = {"repository_url": "https://github.com/someone/a-book", "repository_branch": "main"}
    url = "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/chapters/x.ipynb"
    buttons = [{"url": url}, {"url": "https://colab.example"}]
    context = {"header_buttons": [{"buttons": buttons}, {"type": "link"}]}
    app = SimpleNamespace(config=SimpleNamespace(html_theme_options=theme))
    launch._pull(app, "chapters/x", "", context, None)
    assert buttons[0]["url"] == url
    monkeypatch.setenv("BOOK_BINDER", "environment")
    launch._pull(app, "chapters/x", "", context, None)
    parts = urlsplit(buttons[0]["url"])
    assert parts.path == "/v2/gh/someone/a-book/environment"
    pull = urlsplit(unquote(parts.query.removeprefix("urlpath=")))
    assert pull.path == "git-pull" and parse_qs(pull.query) == {
        "repo": ["https://github.com/someone/a-book"],
        "branch": ["main"],
        "targetPath": ["book"],
        "urlpath": ["lab/tree/book/chapters/x.ipynb"],
    }


@needs_git
def test_the_branch_of_the_environment_changes_with_it_alone(tmp_path):
    def git(*arguments, folder="work"):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
        command = ["git", "-C", tmp_path / folder, *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "origin"], check=True)
    subprocess.run(["git", "clone", "-q", tmp_path / "origin", tmp_path / "work"], check=True)
    (tmp_path / "work" / "binder").mkdir()
    found = []
    for name in ("binder/start", "a sentence", "binder/versions.txt"):
        (tmp_path / "work" / name).write_text("as it is now")
        git("add", "-A")
        git("commit", "-qm", name)
        git("fetch", "-q")
        script = ROOT / ".github" / "binder-branch"
        subprocess.run(["bash", script], cwd=tmp_path / "work", check=True, capture_output=True)
        found.append(git("rev-parse", "binder", folder="origin"))
    assert found[0] == found[1] != found[2]
    listed = git("ls-tree", "-r", "--name-only", "binder", folder="origin").split()
    assert listed == ["binder/start", "binder/versions.txt"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_can_fetch_the_book(path):
    first = read(path).cells[1]
    assert first.source == address.FETCH.rstrip() and first.metadata.tags == ["remove-cell"]


def opened(folder, source, stand_in=""):
    """Run the first cell where nothing is installed; return the last line of what it prints."""
    code = f"{stand_in}\n{source}\nimport utils; print(utils.__file__)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()


@needs_git
def test_opened_alone(clone, tmp_path_factory):
    here = tmp_path_factory.mktemp("opened alone")
    assert "`make lab`" in opened(here, address.FETCH)[-1]
    assert "upload the whole book" in opened(here, address.FETCH, alone.STAND_IN)[-1]
    book = clone("")
    lost = address.FETCH.replace('BOOK = ""', f'BOOK = "file://{book}/nowhere"')
    assert "switch the internet on" in opened(here, lost, alone.STAND_IN)[-1]
    (book / "utils").mkdir()
    (book / "utils" / "__init__.py").touch()
    subprocess.run(["git", "-C", book, "add", "-A"], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "-C", book, *who, "commit", "-qm", "utils"], check=True)
    source = address.FETCH.replace('BOOK = ""', f'BOOK = "file://{book}"')
    for _ in range(2):  # a second time without fetching
        said, imported = opened(here, source, alone.STAND_IN)[-2:]
        assert said.endswith("no package was changed.")
        assert Path(imported) == here / "book" / "utils" / "__init__.py"


@pytest.fixture
def book(tmp_path):
    """A copy of what `make address` writes to."""
    (tmp_path / "chapters").mkdir()
    for name in ("README.md", "CITATION.cff", "chapters/04_dropout.ipynb"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_an_address_is_set_once_and_can_be_taken_back(book):
    files = [path for path in book.rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    address.write("git@github.com:someone/a-book.git", book)
    address.write("https://github.com/someone/a-book", book)
    assert launch.repository(str(book)) == ("https://github.com/someone/a-book", "main")
    cell = read(book / "chapters" / "04_dropout.ipynb").cells[1]
    assert 'BOOK = "https://github.com/someone/a-book"' in cell.source
    readme = (book / "README.md").read_text("utf-8")
    for link in ("colab.research.google.com/github/someone/a-book/blob", "codespaces.new/someone"):
        assert readme.count(link) == 1
    address.write("", book)
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize(
    "wrong", ["https://example.org/a/b", "someone/a-book", "https://github.com/a"]
)
def test_what_is_no_address(wrong, book):
    with pytest.raises(SystemExit, match="is no address of a repository"):
        address.write(wrong, book)


def test_the_container_opens_a_chapter_with_the_book_s_python():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    assert made["postCreateCommand"] == "make .venv/.ready"
    for file in made["customizations"]["codespaces"]["openFiles"]:
        assert (ROOT / file).exists()


def test_binder_installs_the_versions_of_the_book():
    def pins(name):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        return {line.split(" ;")[0] for line in lines if "==" in line}

    own = {line for line in pins("binder/versions.txt") if not line.startswith("nbgitpuller")}
    ours = pins("requirements.txt") | {
        line.replace("tensorflow==", "tensorflow-cpu==") for line in pins("requirements.txt")
    }
    assert own <= ours
