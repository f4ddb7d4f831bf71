"""The table of mutants is whole, is of these chapters, and comes out again."""

import os
import random
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from tools import mutants, notebooks

CHAPTERS = [path.stem for path in notebooks.NOTEBOOKS]
QUICK = "where_luck_lives"  # trains nothing
MADE_UP = """
import numpy as np
from utils.evidence import claim

claim("Two is the larger one.", np.maximum(1, 2) == 2)
word = {2: "two"}[int(np.maximum(1, 2))]
claim("It has a name.", word == "two")
"""


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(mutants.FILE)


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A chapter with two claims, the only one there is, and a table of its own."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "FILE", tmp_path / "mutants.csv")
    (tmp_path / "chapters").mkdir()
    cells = [nbformat.v4.new_code_cell(MADE_UP)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / "made_up.ipynb")
    return "made_up"


@pytest.mark.slow
def test_a_claim_that_fails_kills_and_one_that_is_not_reached_does_not(made_up):
    held = {"Two is the larger one.": False, "It has a name.": False}
    assert mutants.judge(made_up, None) == held
    killed = held | {"Two is the larger one.": True}
    assert mutants.judge(made_up, "a step goes past zero") == killed


@pytest.mark.slow
def test_a_chapter_without_a_claim_in_sight_is_an_error(made_up):
    with pytest.raises(RuntimeError, match=r"made_up comes to no claim after 1 / 0.*division"):
        mutants.observe(made_up, "1 / 0", lambda source: "")


def test_what_nothing_notices_and_what_notices_nothing_is_named(made_up, monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # in this process
    sabotages = {"all is well": (None, [made_up]), "one is two": (None, [made_up])}
    monkeypatch.setattr(mutants, "MUTANTS", sabotages)

    def judge(chapter, name):
        return {"Two is the larger one.": name == "one is two", "It has a name.": False}

    monkeypatch.setattr(mutants, "judge", judge)
    assert mutants.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "made_up: no claim notices that all is well",
        "made_up: no mutant breaks “It has a name.”",
        "1 of 2 mutants and 1 of 2 claims killed",
    ]


def test_every_mutant_finds_what_it_changes():
    code = "from tools import mutants\nfor name in mutants.MUTANTS: mutants.apply(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_mutant_was_tried_on_its_chapters(table):
    tried = set(zip(table["chapter"], table["mutant"], strict=True))
    assert tried == {(c, name) for name, (_, chapters) in mutants.MUTANTS.items() for c in chapters}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_claims_are_those_of_the_chapter(table, chapter):
    """A claim that was reworded has not been broken by anything yet: run `make mutants`."""
    texts = notebooks.claims(chapter)
    assert len(set(texts)) == len(texts), "claims are told apart by their words"
    assert set(table.loc[table["chapter"] == chapter, "claim"]) == set(texts)


def test_every_claim_and_every_mutant_is_killed(table):
    for columns in (["chapter", "claim"], ["chapter", "mutant"]):
        killed = table.groupby(columns)["killed"].any()
        assert killed.all(), killed.index[~killed].to_list()


@pytest.mark.slow
def test_without_a_mutant_all_claims_hold():
    assert not any(mutants.judge(QUICK, None).values())


@pytest.mark.slow
def test_a_mutant_drawn_at_random_kills_what_it_killed(table):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    names = [name for name, (_, chapters) in mutants.MUTANTS.items() if QUICK in chapters]
    name = random.Random(seed).choice(names)
    stored = table[(table["chapter"] == QUICK) & (table["mutant"] == name)]
    assert mutants.judge(QUICK, name) == dict(zip(stored["claim"], stored["killed"], strict=True))
