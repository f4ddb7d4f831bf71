"""Notebooks are read in one place, know what they were made from, and can be read as text."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks

HERE = Path(__file__).parent.parent
PIXELS = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAAAAABjb6iYAAAADklEQVR4"
    "nGP4DwUMMAYAfpgO8oeUnNcAAAAASUVORK5CYII="
)  # two columns, three rows
CODE = '''
from top.first import double  # twice

def shown(x):
    """Show a number."""
    return f"{double(x):.1f}"

print(shown(3))
'''
FIRST = '''
"""The first module."""
import os

def double(x):
    """Return twice the number."""
    from top import second
    return second.times(x, 2)
'''
SECOND = '''
class Error(Exception):
    """What goes wrong."""

def times(a, b):
    # a product
    return a * b
'''


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_no_older_than_their_source(path):
    message = f"{path.name}: its code or a module that it imports was changed: run `make refresh`"
    assert not notebooks.stale(path), message


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A notebook that imports one module of a package, which imports another; up to date."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "top").mkdir()
    (tmp_path / "chapters").mkdir()
    for name, code in (("__init__", ""), ("first", FIRST), ("second", SECOND), ("other", "")):
        (tmp_path / "top" / f"{name}.py").write_text(code)
    cells = [new_markdown_cell("# Title"), new_code_cell("%matplotlib inline"), new_code_cell(CODE)]
    notebook = new_notebook(cells=cells)
    notebook.metadata["source_digest"] = notebooks.digest(notebook)
    nbformat.write(notebook, tmp_path / "chapters" / "made_up.ipynb")
    assert not notebooks.stale("made_up")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "noticed"),
    [
        ("chapters/made_up.ipynb", "print(shown(3))", "print(shown(4))", True),
        ("chapters/made_up.ipynb", ":.1f", ":.2f", True),
        ("chapters/made_up.ipynb", "matplotlib inline", "matplotlib svg", True),
        ("chapters/made_up.ipynb", "# twice", "# two times", False),
        ("chapters/made_up.ipynb", "Show a number.", "Write a number.", False),
        ("chapters/made_up.ipynb", "# Title", "# Another title", False),
        ("top/first.py", "times(x, 2)", "times(x, 3)", True),
        ("top/first.py", "twice the number", "the number times two", False),
        ("top/first.py", "The first module", "Module number one", False),
        ("top/second.py", "a * b", "a + b", True),
        ("top/second.py", "a * b", "(a * b)  # of floats", False),
        ("top/second.py", "# a product", "# what `*` gives", False),
        ("top/second.py", "What goes wrong", "A mistake", False),
        ("top/__init__.py", "", "NUMBER = 1\n", True),
        ("top/other.py", "", "NUMBER = 1\n", False),
    ],
)
def test_a_change_of_code_is_noticed_and_one_of_words_is_not(project, file, old, new, noticed):
    before = (project / file).read_text("utf-8")
    assert old in before
    (project / file).write_text(before.replace(old, new) if old else new, "utf-8")
    assert notebooks.stale("made_up") == noticed


def test_modules_that_are_imported_in_other_ways_count(project):
    for line in ("import top.other", "from top import other as o", "import top.other as o"):
        notebook = new_notebook(cells=[new_code_cell(line)])
        (project / "top" / "other.py").write_text("from . import second\n")
        before = notebooks.digest(notebook)
        (project / "top" / "second.py").write_text(SECOND)
        assert notebooks.digest(notebook) == before
        (project / "top" / "second.py").write_text(SECOND + "ONE = 1\n")
        assert notebooks.digest(notebook) != before
        (project / "top" / "second.py").write_text(SECOND)


def test_a_notebook_without_a_digest_is_stale(project):
    nbformat.write(new_notebook(), project / "chapters" / "empty.ipynb")
    assert notebooks.stale(project / "chapters" / "empty.ipynb")


def test_claims_come_in_order(project):
    code = "x = 1\nif x:\n    claim('One ' 'and one.', x > 0)\nclaim(\"Two.\", True, x)\n"
    cells = [new_code_cell("reclaim('no')"), new_code_cell(code), new_markdown_cell("claim('no')")]
    nbformat.write(new_notebook(cells=cells), project / "chapters" / "two.ipynb")
    assert sorted(notebooks.claims("two")) == ["One and one.", "Two."]
    assert notebooks.prose(notebooks.read("two")) == "claim('no')"


def test_a_notebook_as_text():
    figure = new_output("display_data", {"image/png": PIXELS, "text/plain": "<Figure>"})
    outputs = [
        new_output("stream", text="one\ntwo\n"),
        new_output("execute_result", {"text/html": "<b>3</b>", "text/plain": "3"}),
        figure,
        new_output("display_data", {"image/svg+xml": "<svg>" + " " * 1_195}),
        new_output("error", ename="ValueError", evalue="no"),
    ]
    metadata = {"tags": ["hide-cell"], "mystnb": {"image": {"alt": "A line."}}}
    cells = [
        new_markdown_cell("# Title\n\nWords."),
        new_code_cell("print(1)\n3", metadata=metadata, outputs=outputs),
    ]
    assert notebooks.as_text(new_notebook(cells=cells)).splitlines() == [
        *("%% markdown", "# Title", "", "Words.", ""),
        *("%% code hide-cell", "print(1)", "3"),
        *("{", ' "mystnb": {', '  "image": {', '   "alt": "A line."', "  }", " }", "}"),
        *("» one", "» two", "» 3", "» [image/png, 2×3, 0.1 kB]", "» [image/svg+xml, 1.2 kB]"),
        "» ValueError: no",
    ]


def test_what_is_no_notebook_is_printed_as_it_is(tmp_path, capfdbinary):
    (tmp_path / "conflict.ipynb").write_text("<<<<<<< HEAD\n{}\n", "utf-8")
    notebooks.main([str(tmp_path / "conflict.ipynb")])
    assert capfdbinary.readouterr().out == b"<<<<<<< HEAD\n{}\n"


def test_git_need_not_wait():
    """Nothing large is imported before a notebook is printed."""
    code = "import sys, tools.notebooks; print({'numpy', 'keras', 'nbformat'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_shows_a_change_of_prose_as_one(project, monkeypatch):
    """With the line of CONTRIBUTING, `git diff` of a notebook is one of its text."""
    shutil.copy(HERE / ".gitattributes", project)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    empty = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments):
        command = ["git", "-c", f"diff.notebook.textconv='{sys.executable}' -m tools.notebooks"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=project,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | empty,
            check=True,
        )
        return done.stdout

    git("init", "-q")
    git("add", "chapters")
    file = project / "chapters" / "made_up.ipynb"
    file.write_text(file.read_text("utf-8").replace("# Title", "# Another title"), "utf-8")
    changes = [line for line in git("diff").splitlines() if line[0] in "+-"]
    assert changes[2:] == ["-# Title", "+# Another title"]
