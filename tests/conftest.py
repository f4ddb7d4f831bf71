"""What all tests share. Notebooks are executed in their own folder, so $MNIST_NPZ is absolute."""

import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
# Under nohup, cron or `make test &` in a script, Ctrl-C is ignored, and so it would be by every
# process that the tests start: those that are interrupted would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers share the cores between them: with as many threads as cores in each, they are slower.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
# The workers of pytest-xdist get it from the process that starts them.
SEED = int(os.environ.setdefault("TEST_SEED", str(random.randrange(1_000_000))))
for variable in ("MNIST_NPZ", "FASHION_MNIST_NPZ"):
    if os.environ.get(variable):
        os.environ[variable] = os.path.abspath(os.environ[variable])
if os.environ.get("SEED_OFFSET"):  # the notebooks' kernels run this before the first cell
    os.environ["PYTHONSTARTUP"] = str(ROOT / "tools" / "seeds.py")


def pytest_addoption(parser):
    parser.addoption(
        "--whole",
        action="store_true",
        help="every network of the matrix (tests/test_matrix.py) instead of a random part",
    )


def pytest_collection_modifyitems(items):
    """Begin with the longest files, then run the notebooks, so that two workers end together."""
    names = "lab mutants refresh training museum sweep seed_graph matrix results alarms"
    turns = {f"test_{name}": turn for turn, name in enumerate(names.split())}

    def turn(item):
        return turns.get(item.path.stem, len(turns) + (item.path.suffix != ".ipynb"))

    items.sort(key=turn)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"Random tests drew with TEST_SEED={SEED}.")


@pytest.fixture
def rng():
    """A generator that draws otherwise in each run, and again the same with $TEST_SEED."""
    return np.random.default_rng(SEED)


@pytest.fixture(scope="session")
def tiny():
    """Three classes of 3-pixel blobs, shaped as `Mnist`: learnable in a few steps."""
    from utils.data import Mnist

    rng = np.random.default_rng(0)

    def draw(n):
        labels = np.arange(n) % 3
        images = rng.normal(0, 0.7, (n, 2, 2, 1)).astype("float32")
        images[:, 0, 0, 0] += labels
        images[:, 1, 1, 0] -= labels == 1
        return images, labels

    return Mnist(*draw(70), *draw(30), *draw(30), "made for the tests")


@pytest.fixture(scope="session")
def browser():
    """A Chromium that is installed on this machine, or the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("no Chromium here: install it, on Debian with `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
