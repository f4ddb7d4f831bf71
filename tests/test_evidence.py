"""Intervals against textbook formulas, claims against misuse."""

import numpy as np
import pandas as pd
import pytest

from utils import BookError
from utils.evidence import (
    ClaimFailed,
    at_best_strength,
    claim,
    comparison,
    differences,
    false_alarms,
    paired_difference,
)
from utils.training import Runs


def test_interval_by_hand():
    """Differences 1, 2, 3, 4: mean 2.5, sd 1.291, t(3) at 97.5 % is 3.1824 (printed tables)."""
    result = paired_difference([11, 12, 13, 14], [10, 10, 10, 10])
    half = 3.1824 * 1.2910 / 2
    assert result.mean == 2.5 and result.pairs == 4
    assert result.low == pytest.approx(2.5 - half, abs=1e-3)
    assert result.high == pytest.approx(2.5 + half, abs=1e-3)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2_000):
        base = rng.normal(0, 5, 10)  # shared by the pair, so it drops out
        result = paired_difference(base + rng.normal(0.3, 1, 10), base)
        hits += result.low < 0.3 < result.high
    assert 0.93 < hits / 2_000 < 0.97


def test_equal_differences_have_an_interval_of_width_zero():
    assert paired_difference([1, 2, 3], [0, 1, 2])[:3] == (1, 1, 1)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1], [2]),
        ([1, 2], [1, 2, 3]),
        (pd.Series([1, 2], index=[0, 1]), pd.Series([1, 2], index=[0, 2])),
        ([1, np.nan], [1, 2]),
    ],
)
def test_pairs_that_are_none(a, b):
    with pytest.raises(BookError):
        paired_difference(a, b)


def test_claim_prints_or_raises(capsys):
    claim("Two is more than one.", 2 > 1)
    assert capsys.readouterr().out == "✓ Two is more than one.\n"
    with pytest.raises(ClaimFailed, match=r"One is more than two.*Seen instead: 1; 2\.") as caught:
        claim("One is more than two.", np.bool_(False), 1, 2)
    assert capsys.readouterr().out == ""
    assert caught.value._render_traceback_() == [f"ClaimFailed: {caught.value}"]


def test_a_failed_claim_shows_plain_numbers():
    with pytest.raises(ClaimFailed, match=r"Seen instead: 0\.25; \{'a': 0\.5\}; \[0\.3333\]\."):
        claim("Something.", False, np.float64(0.25), {"a": np.float64(0.5)}, np.array([1 / 3]))


@pytest.mark.parametrize("holds", [None, 1, np.array([True, False]), np.nan, "yes"])
def test_claim_takes_only_true_or_false(holds):
    with pytest.raises(BookError, match="neither true nor false"):
        claim("Something.", holds)


def test_comparison():
    def runs(accuracy, loss):
        scores = {"train_accuracy": [1.0, 1.0], "test_accuracy": accuracy, "test_log_loss": loss}
        return Runs({}, pd.DataFrame(scores), [])

    table = comparison({"a": runs([0.90, 0.92], [0.5, 0.6]), "b": runs([0.91, 0.95], [0.4, 0.4])})
    assert list(table["test accuracy, %"]) == ["91.00", "93.00"]
    # differences 1 and 3 points: mean 2, half width 12.7062 * sqrt(2) / sqrt(2)
    assert table.loc["b", "difference, points"] == "+2.00 (-10.71 to +14.71)"
    assert list(table.iloc[0, [2, 4]]) == ["baseline", "baseline"]


@pytest.fixture
def two_settings():
    """A baseline and one rival with two strengths each; validation and test disagree by hand."""
    rows = [
        # images, technique, strength, seed, val accuracy, test accuracy, val and test log-loss
        (300, "none", 0.1, 0, 0.80, 0.70, 0.5, 0.6),
        (300, "none", 0.1, 1, 0.82, 0.72, 0.5, 0.6),
        (300, "none", 0.2, 0, 0.90, 0.60, 0.7, 0.9),  # best on validation, not on the test set
        (300, "none", 0.2, 1, 0.90, 0.62, 0.7, 0.9),
        (300, "rival", 1.0, 0, 0.95, 0.65, 0.4, 0.5),
        (300, "rival", 1.0, 1, 0.93, 0.69, 0.4, 0.4),
        (300, "rival", 2.0, 0, 0.50, 0.99, 0.9, 0.1),
        (300, "rival", 2.0, 1, 0.50, 0.99, 0.9, 0.1),
    ]
    names = "images technique strength seed val_accuracy test_accuracy val_log_loss test_log_loss"
    few = pd.DataFrame(rows, columns=names.split())
    many = few.assign(images=1_000, test_accuracy=few["test_accuracy"] + 0.01 * few["seed"])
    return pd.concat([few, many]).assign(wrong=0.2)


def test_validation_chooses_the_strength(two_settings):
    chosen = at_best_strength(two_settings)
    assert list(chosen["strength"]) == [0.2, 0.2, 1.0, 1.0] * 2
    assert list(at_best_strength(two_settings, "log_loss")["strength"]) == [0.1, 0.1, 1, 1] * 2


def test_differences_from_the_baseline_at_its_own_best(two_settings):
    table = differences(two_settings)
    assert list(table["technique"]) == ["rival", "rival"] and list(table["images"]) == [300, 1_000]
    by_hand = paired_difference([0.65, 0.69], [0.60, 0.62])
    assert tuple(table.loc[0, ["mean", "low", "high", "pairs"]]) == pytest.approx(tuple(by_hand))
    assert differences(two_settings, "log_loss")["mean"][0] == pytest.approx(0.45 - 0.6)


def test_chance_of_a_false_alarm():
    rows = pd.DataFrame([[4.0, 5.0, 6.0, 5.0], [np.inf] * 4, [1.0, -1.0, 1.0, -1.0]])
    found = false_alarms(rows)
    assert list(found["failed"]) == [0, 0, 2]
    assert found["chance"][0] < 0.01 and np.isnan(found["chance"][1]) and found["chance"][2] == 0.5
