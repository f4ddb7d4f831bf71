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
    """Standard error 0.01 by hand; t(1) at 99.95 % is 636.6, t(9) is 4.781 (printed tables)."""
    two, ten = pd.Series([0.90, 0.92]), pd.Series([0.90, 0.92] * 5)
    assert reference.tolerance(two) == pytest.approx(2**0.5 * 636.6 * 0.01, rel=1e-3)
    error = (10 * 0.01**2 / 9) ** 0.5 / 10**0.5
    assert reference.tolerance(ten) == pytest.approx(2**0.5 * 4.781 * error, rel=1e-3)


def test_storing_replaces_a_chapter_and_keeps_the_others(stored, monkeypatch):
    monkeypatch.setenv("STORE_REFERENCE", "1")
    reference.among_ours(panels(), "mine", runs(0.05), {"plain": "none"}, Full)
    means = pd.read_csv(stored).groupby("chapter")["test_accuracy"].mean()
    assert means.to_dict() == pytest.approx({"mine": 0.95, "other": 0.90})
    assert len(pd.read_csv(stored)) == 20


def test_verdicts(stored, capsys):
    for shift, mnist, said in (
        (0.0, Full, "agree with the book's."),
        (0.014, Full, "agree with the book's."),  # within 6.8 standard errors, 0.0144
        (0.02, Full, "plain by +2.0 points (at most 1.4)"),
        (-0.02, Sample, "5,000-digit sample"),
    ):
        capsys.readouterr()
        ax = reference.among_ours(panels(), "mine", runs(shift), {"plain": "none"}, mnist)
        out = capsys.readouterr().out
        assert said in out and out.count("\n") == 1
        assert [tick.get_text() for tick in ax.get_yticklabels()] == ["plain"]
