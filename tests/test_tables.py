"""The tables of mutants and of false alarms are filled bit by bit, from a made-up chapter."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pandas as pd
import pytest

from tools import notebooks, tables

KEY = ["chapter", "mutant", "claim"]
JOBS = [("made_up", "one is two", "killed"), ("made_up", "no light", "killed")]


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """Return a function that writes a chapter with these claims; all runs in this process."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    (tmp_path / "chapters").mkdir()

    def write(*texts):
        code = [nbformat.v4.new_code_cell(f"claim({text!r}, True)") for text in texts]
        nbformat.write(nbformat.v4.new_notebook(cells=code), tmp_path / "chapters/made_up.ipynb")

    return write


@pytest.fixture
def fill(tmp_path):
    """Return a function that fills a table from given values and returns the jobs that it ran."""

    def run(values, jobs=JOBS, key=KEY, words=()):
        ran = []

        def one(*job):
            ran.append(job)
            return values(*job) if callable(values) else values

        table = tables.fill_table(tmp_path / "table.csv", key, jobs, one, words)
        pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "table.csv", index_col=key))
        return ran

    run.file = tmp_path / "table.csv"
    return run


def test_only_what_is_missing_is_run(chapter, fill):
    chapter("Two.", "One.")
    assert fill({"One.": False, "Two.": True}, JOBS[:1]) == JOBS[:1]
    assert fill({"One.": True, "Two.": False}) == JOBS[1:]
    assert fill({}) == []
    assert fill.file.read_text().splitlines() == [  # the claims in the order of the chapter
        "chapter,mutant,claim,killed",
        "made_up,no light,Two.,False",
        "made_up,no light,One.,True",
        "made_up,one is two,Two.,True",
        "made_up,one is two,One.,False",
    ]


def test_words_choose_the_jobs(chapter, fill):
    chapter("One.")
    assert fill({"One.": True}, words=["light", "no"]) == JOBS[1:]
    assert fill({"One.": True}, words=["made"]) == JOBS[:1]
    with pytest.raises(SystemExit, match="no chapter and no mutant has “dark” in its name"):
        fill({}, words=["light", "dark"])


def test_a_reworded_claim_is_forgotten_and_its_chapter_run_again(chapter, fill):
    chapter("One.", "Two.")
    fill({"One.": True, "Two.": True})
    chapter("One.", "Three.")
    assert fill({"One.": False, "Three.": False}, words=["light"]) == JOBS[1:]
    assert "Two." not in fill.file.read_text()
    assert fill({"One.": False, "Three.": False}) == JOBS[:1]


def test_a_claim_that_was_deleted_is_forgotten(chapter, fill):
    chapter("One.", "Two.")
    fill({"One.": True, "Two.": True})
    chapter("One.")
    assert fill({}) == []
    assert "Two." not in fill.file.read_text()


def test_what_belongs_to_no_job_is_forgotten(chapter, fill):
    chapter("One.")
    fill({"One.": True})
    assert fill({}, JOBS[1:]) == []
    assert fill.file.read_text().splitlines()[1:] == ["made_up,no light,One.,True"]


def test_parts_of_claims_and_several_columns(chapter, fill):
    chapter("One.")
    key = ["chapter", "source", "claim", "part"]
    jobs = [("made_up", "full", str(offset)) for offset in (9_000, 10_000)]

    def slack(chapter, source, offset):
        return {("One.", 0): int(offset) / 30_000, ("One.", 1): -np.inf}

    assert fill(slack, jobs[1:], key) == jobs[1:]
    assert fill(slack, jobs, key) == jobs[:1]
    assert fill.file.read_text().splitlines() == [
        "chapter,source,claim,part,9000,10000",
        "made_up,full,One.,0,0.3,0.3333",
        "made_up,full,One.,1,-inf,-inf",
    ]


INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from tools import notebooks, tables

def run(chapter, variant, column):
    time.sleep(600 if variant != "one is two" else 0)
    return {"One.": True}

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where `nohup` started the tests
notebooks.ROOT = folder = Path(sys.argv[1])
jobs = [("made_up", name, "killed") for name in ("one is two", "no light", "no sound", "no air")]
tables.fill_table(folder / "table.csv", ["chapter", "mutant", "claim"], jobs, run)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_run_keeps_what_is_finished(chapter, fill):
    chapter("One.")
    command = [sys.executable, "-c", INTERRUPTED, fill.file.parent]
    quiet = os.environ | {"PYTHONWARNINGS": "ignore"}  # joblib's, that it cleans up
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=quiet) as process:
        while process.poll() is None and not fill.file.exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == "Interrupted: what is finished is kept; the same command goes on.\n"
    assert fill({"One.": True}) == JOBS[1:]
