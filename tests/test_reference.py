"""The reader's run beside the book's: what agrees, what does not, what is not compared."""

import numpy as np
import pandas as pd
import pytest

from utils import reference
from utils.plots import panels
from utils.training import Runs


def runs(shift=0.0):
    values = 0.9 + shift + np.linspace(-0.01, 0.01, 10)
    scores = pd.DataFrame({"test_accuracy": values}, index=pd.Index(range(10), name="seed"))
    return {"plain": Runs({}, scores, [])}


class Full:
    x_test = np.empty(10_000)


class Sample:
    x_test = np.empty(1_500)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FILE", tmp_path / "chapters.csv")
    monkeypatch.setenv("STORE_REFERENCE", "1")
    for chapter in ("other", "mine"):
        reference.among_ours(panels(), chapter, runs(), {"plain": "none"}, Full)
    monkeypatch.delenv("STORE_REFERENCE")
    return reference.FILE


def test_tolerance_by_hand():
    assert reference.tolerance(pd.Series([0.90, 0.92])) == pytest.approx(0.045)
    assert reference.tolerance(pd.Series([0.9, 0.9, 0.9])) == 0.003


def test_storing_replaces_a_chapter_and_keeps_the_others(stored, monkeypatch):
    monkeypatch.setenv("STORE_REFERENCE", "1")
    reference.among_ours(panels(), "mine", runs(0.05), {"plain": "none"}, Full)
    means = pd.read_csv(stored).groupby("chapter")["test_accuracy"].mean()
    assert means.to_dict() == pytest.approx({"mine": 0.95, "other": 0.90})
    assert len(pd.read_csv(stored)) == 20


def test_verdicts(stored, capsys):
    for shift, mnist, said in (
        (0.0, Full, "agree with the book's."),
        (0.008, Full, "agree with the book's."),  # within 4.5 standard errors, 0.0096
        (0.02, Full, "plain by +2.0 points (at most 1.0)"),
        (-0.02, Sample, "5,000-digit sample"),
    ):
        capsys.readouterr()
        ax = reference.among_ours(panels(), "mine", runs(shift), {"plain": "none"}, mnist)
        out = capsys.readouterr().out
        assert said in out and out.count("\n") == 1
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["plain"]
