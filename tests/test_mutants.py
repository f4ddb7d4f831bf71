"""The table of mutants is whole, is of these chapters, and comes out again."""

import random

import mutants
import pandas as pd
import pytest

CHAPTERS = sorted(path.stem for path in (mutants.ROOT / "chapters").glob("*.ipynb"))
QUICK = "09_which_technique_when"  # trains one small cell


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(mutants.FILE)


def test_every_mutant_was_tried_on_its_chapters(table):
    tried = set(zip(table["chapter"], table["mutant"], strict=True))
    assert tried == {(c, name) for name, (_, chapters) in mutants.MUTANTS.items() for c in chapters}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_claims_are_those_of_the_chapter(table, chapter):
    """A claim that was reworded has not been broken by anything yet: run `make mutants`."""
    assert set(table.loc[table["chapter"] == chapter, "claim"]) == set(mutants.claims(chapter))


def test_every_claim_and_every_mutant_is_killed(table):
    for columns in (["chapter", "claim"], ["chapter", "mutant"]):
        killed = table.groupby(columns)["killed"].any()
        assert killed.all(), killed.index[~killed].to_list()


@pytest.mark.notebook
def test_without_a_mutant_all_claims_hold():
    assert not any(killed for *_, killed in mutants.judge(QUICK, None))


@pytest.mark.notebook
def test_a_mutant_drawn_at_random_kills_what_it_killed(table):
    names = [name for name, (_, chapters) in mutants.MUTANTS.items() if QUICK in chapters]
    name = random.choice(names)
    stored = table[(table["chapter"] == QUICK) & (table["mutant"] == name)]
    assert set(mutants.judge(QUICK, name)) == set(stored.itertuples(index=False, name=None))
