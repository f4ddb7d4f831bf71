"""Sabotage is noticed, and nothing is noticed where there is none."""

import random

import mutants
import pytest

CHAPTERS = sorted(path.stem for path in (mutants.ROOT / "chapters").glob("*.ipynb"))
QUICK = "09_which_technique_when"  # trains one small cell


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_with_claims_has_mutants(chapter):
    assert mutants.claims(chapter)
    assert any(chapter in chapters for _, chapters in mutants.MUTANTS.values())


def test_without_a_mutant_all_claims_hold():
    assert not any(killed for *_, killed in mutants.judge(QUICK, None))


def test_a_mutant_drawn_at_random_is_killed():
    names = [name for name, (_, chapters) in mutants.MUTANTS.items() if QUICK in chapters]
    name = random.choice(names)
    assert any(killed for *_, killed in mutants.judge(QUICK, name)), name
