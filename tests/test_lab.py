"""Chapter 4 in JupyterLab, in a real browser: it runs, and a changed line breaks its claim."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.site, pytest.mark.slow]
MINUTES = 60_000  # in milliseconds
LINE = "for rate in (0, 0.5))"
CLAIM = "With wrong labels, dropout raises mean test accuracy by more than 4 points."
TICKED = f'.claim:has-text("✓ {CLAIM}")'


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab in a folder with chapter 4; yield its address."""
    (tmp_path / "chapters").mkdir()
    shutil.copy(ROOT / "chapters" / "04_dropout.ipynb", tmp_path / "chapters")
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("cells"))
    # the browser shows only the cells on the screen otherwise
    settings = tmp_path / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    record = tmp_path / "runtime" / f"jpserver-{server.pid}.json"  # which port it found free
    try:
        while not _answers(record):
            assert server.poll() is None, "JupyterLab has ended"
            time.sleep(0.2)
        yield json.loads(record.read_text("utf-8"))["url"] + "lab"
    finally:
        server.terminate()
        server.wait()


def _answers(record):
    """Tell whether the server that writes this file about itself is there."""
    try:
        urllib.request.urlopen(json.loads(record.read_text("utf-8"))["url"])
    except (OSError, ValueError):  # no file, half a file, no server
        return False
    return True


def test_a_rate_that_is_too_high_breaks_the_claim(lab, browser):
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{lab}/tree/chapters/04_dropout.ipynb")
    page.wait_for_selector("text=(ipykernel) | Idle", timeout=2 * MINUTES)
    assert "{admonition}" not in page.inner_text(".jp-Notebook")

    def run_all():
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_text("Restart Kernel and Run All Cells…").click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.wait_for_selector(TICKED, state="detached")  # the old outputs are gone

    run_all()
    page.wait_for_selector(TICKED, timeout=4 * MINUTES)

    cell = page.locator(".jp-CodeCell", has_text=LINE).first
    source = cell.locator(".cm-content").inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(source.replace(LINE, LINE.replace("0.5", "0.9")))
    run_all()
    page.wait_for_selector("text=ClaimFailed", timeout=4 * MINUTES)
    said = page.inner_text(".jp-Notebook")
    assert f"“{CLAIM}” does not hold in this run." in said
    assert "If you changed a line above, this is what your change did." in said
    page.context.close()
