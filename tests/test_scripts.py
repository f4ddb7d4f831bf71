"""The shell scripts parse, and `make` does what it is asked for, or says why it does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="bash and make")


@pytest.mark.parametrize("script", [".ci/run", "binder/postBuild", "binder/start"])
def test_scripts_parse(script):
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make(*arguments, **environment):
    """Run make in this folder; return its status and what it said."""
    command = ["make", "--no-print-directory", *arguments]
    clean = {
        k: v for k, v in os.environ.items() if k not in ("MNIST_NPZ", "MAKEFLAGS", "MAKELEVEL")
    }
    done = subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_help_names_every_command():
    commands = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text("utf-8"), re.M)[
        0
    ].split()
    _, listed = make("help")
    assert {line.split()[0] for line in listed.splitlines()} == set(commands) - {"named"}
    assert {"book", "check", "test", "slow", "units"} <= set(commands)


def test_units_leave_out_what_reads_the_site():
    """A file of tests that opens the built site says so, or `make units` would need one."""
    for file in Path(__file__).parent.glob("test_*.py"):
        text = file.read_text("utf-8")
        assert ("BOOK_SITE" in text) <= ("pytest.mark.site" in text), file.name


@pytest.mark.parametrize("name", ["04", "4", "04_dropout"])
def test_a_chapter_has_several_names(name):
    status, command = make("-n", "check", f"CHAPTER={name}")
    assert status == 0 and "chapters/04_dropout.ipynb -k 04_dropout" in command


@pytest.mark.parametrize("name", ["99", "", "0", "04 05", "*", "dropout"])
def test_a_chapter_that_is_not_there(name):
    status, said = make("check", f"CHAPTER={name}")
    assert status != 0 and said.startswith("No single chapter is called ")
    stems = [path.stem for path in sorted((ROOT / "chapters").glob("*.ipynb"))]
    assert f"one of {' '.join(stems)}.\n" in said


@pytest.mark.parametrize(
    ("given", "arguments", "seen"),
    [
        ({"MNIST_NPZ": "/home/some  one/$USER/mnist.npz"}, [], "/home/some  one/$USER/mnist.npz"),
        ({"MNIST_NPZ": "my data/mnist.npz"}, [], f"{ROOT}/my data/mnist.npz"),
        ({}, ["MNIST_NPZ=my data/mnist.npz"], f"{ROOT}/my data/mnist.npz"),
        ({"MNIST_NPZ": ""}, [], ""),
        ({}, [], ""),
    ],
)
def test_the_path_of_the_data(given, arguments, seen):
    show = '--eval=show:;@printf %s "$$MNIST_NPZ"'
    assert make(show, "show", *arguments, **given) == (0, seen)


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        ("sys.version_info = (3, 10, 0)", "Python 3.11, 3.12 or 3.13 is needed"),
        ("sys.platform = 'darwin'; platform.machine = lambda: 'x86_64'", "with an Intel processor"),
        (
            "import shutil, types; shutil.disk_usage = lambda _: types.SimpleNamespace(free=1e9)",
            "Less than 4 GB are free",
        ),
    ],
)
def test_a_machine_on_which_the_book_cannot_be_set_up(machine, sentence, tmp_path):
    """Python runs this file first, and so takes the machine for another one."""
    (tmp_path / "sitecustomize.py").write_text(f"import platform, sys; {machine}")
    python = {"PYTHONPATH": str(tmp_path)}
    status, said = make("book", f"VENV={tmp_path}", f"PYTHON={sys.executable}", **python)
    assert status != 0 and sentence in said and "Traceback" not in said
    assert not (tmp_path / "bin").exists()
