"""What all tests share. Notebooks are executed in their own folder, so $MNIST_NPZ is absolute."""

import os
import shutil

import numpy as np
import pytest

if os.environ.get("MNIST_NPZ"):
    os.environ["MNIST_NPZ"] = os.path.abspath(os.environ["MNIST_NPZ"])
if os.environ.get("SEED_OFFSET"):  # the notebooks' kernels run this before the first cell
    os.environ["PYTHONSTARTUP"] = os.path.join(os.path.dirname(__file__), "seeds.py")


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
