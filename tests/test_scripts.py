"""The shell scripts parse: a slip in one of them would show only where nobody looks."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="bash and make")


@pytest.mark.parametrize("script", [".ci/run", "postBuild", "start"])
def test_scripts_parse(script):
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "target", ["book", "test", "lab", "refresh", "sweep", "mutants", "bench", "serve", "clean"]
)
def test_help_names_every_command(target):
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert any(line.split()[0] == target for line in listed.stdout.splitlines())
