"""Intervals against textbook formulas, claims against misuse."""

import decimal
import re
from pathlib import Path

import IPython.display
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from nbval.plugin import get_sanitize_patterns
from scipy import special, stats

from utils import BookError
from utils.evidence import (
    ClaimFailed,
    Difference,
    calibration,
    calibration_error,
    chosen,
    claim,
    comparison,
    components,
    false_alarms,
    holm,
    means,
    paired_difference,
    tolerance,
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
    assert paired_difference([1, 2, 3], [0, 1, 2]) == Difference(1, 1, 1, 3, 1, np.inf)


@pytest.mark.parametrize("kind", ["uint8", "int8", "float16", "float32", "Int64", "UInt8"])
def test_numbers_of_every_type(kind):
    """Unsigned numbers do not wrap around, and small types are subtracted with all digits."""
    few, many = pd.Series([1, 2, 3], dtype=kind), pd.Series([3, 3, 4], dtype=kind)
    result = paired_difference(few, many)
    assert result.mean == pytest.approx(-4 / 3)
    assert result == paired_difference(few.to_numpy(float), many.to_numpy(float))


def test_truth_values_count_as_one_and_zero():
    assert paired_difference([True, False, True], np.array([False] * 3)).mean == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1], [2], "at least two: got 0 and 0"),
        ([], [], "got none and none"),
        ([1, 2], [1, 2, 3], "the same seeds on both sides"),
        (range(20), range(30), "got 0, 1, 2, …, 19 and 0, 1, 2, …, 29"),
        (pd.Series([1, 2], index=[0, 1]), pd.Series([1, 2], index=[0, 2]), "got 0, 1 and 0, 2"),
        (pd.Series([1, 2], index=[0, 0]), pd.Series([1, 2], index=[0, 0]), "each seed once"),
        ([1, np.nan], [1, 2], "finite numbers"),
        ([1, 2], [np.inf, 2], "finite numbers"),
        (pd.Series([1, None], dtype="Int64"), [1, 2], "finite numbers"),
        (["0.9", "0.8"], [1, 2], "one number per seed, and got values of type str"),
        (pd.Series(["a", "b"], dtype="category"), [1, 2], "type category"),
        ([decimal.Decimal(1), decimal.Decimal(2)], [1, 2], "type object"),
        ([1, None], [1, 2], "type object"),
        ([1j, 2j], [1, 2], "type complex"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "type list"),
        (None, None, "type object"),
    ],
)
def test_pairs_that_are_none(a, b, message):
    with pytest.raises(BookError, match=message) as caught:
        paired_difference(a, b)
    assert "\n" not in str(caught.value)


def runs(seeds, **scores):
    return Runs({}, pd.DataFrame(scores, index=pd.Index(seeds, name="seed")), [])


def test_runs_and_tables_are_compared_by_a_metric():
    a, b = runs([3, 4], test_accuracy=[0.9, 0.96]), runs([4, 3], test_accuracy=[0.85, 0.8])
    expected = paired_difference([0.9, 0.96], [0.8, 0.85])
    tables = b.scores, b.scores.reset_index()  # as `load_results` returns it
    for baseline in (b, *tables):
        assert paired_difference(a, baseline, "test_accuracy") == expected


@pytest.mark.parametrize(
    ("a", "metric", "message"),
    [
        (runs([0, 1], test_acc=[1, 2]), "test_accuracy", "no 'test_accuracy' .* only test_acc:"),
        (runs([0, 1], test_acc=[1, 2]), ["test_acc"], "there is no"),
        (runs([0, 1], test_acc=[1, 2]), None, 'paired_difference\\(a, b, "test_accuracy"\\)'),
        (runs([0, 1], test_acc=[1, 2]).scores, None, "name what to compare"),
        ([1, 2], "test_acc", "list holds no scores"),
        (None, "test_acc", "NoneType holds no scores"),
        (runs([0, 1], test_acc=["1", "2"]), "test_acc", "one number per seed"),
        (runs([5, 6], test_acc=[1, 2]), "test_acc", "got 5, 6 and 0, 1"),
        (runs([0, 0], test_acc=[1, 2]).scores.reset_index(), "test_acc", "one strength"),
    ],
)
def test_runs_that_are_no_pairs(a, metric, message):
    with pytest.raises(BookError, match=message):
        paired_difference(a, runs([0, 1], test_acc=[1, 2]), metric)


def test_formats_of_a_difference():
    gain = Difference(0.0757, 0.06331, 0.0881, 10, 1, 4)
    assert f"{gain:points}" == "+7.57 points (+6.33 to +8.81)"
    assert f"{gain:.3f}" == "+0.076 (+0.063 to +0.088)"
    assert f"{gain}" == str(gain) == "+0.0757 (+0.0633 to +0.0881, 10 pairs)"


def test_a_difference_is_neither_list_nor_number():
    """100 times a tuple of four would be 400 numbers."""
    gain = Difference(0.1, 0.0, 0.2, 10, 1, 2)
    for wrong in (lambda: 100 * gain, lambda: [*gain], lambda: gain[0], lambda: gain > 0):
        with pytest.raises(TypeError):
            wrong()


def test_claim_prints_or_raises(capsys):
    claim("Two is more than one.", 2 > 1)
    claim("Two is more than one.", 2 > 1, 2, "one")
    lines = "✓ Two is more than one.\n✓ Two is more than one. [seen: 2; one]\n"
    assert capsys.readouterr().out == lines
    with pytest.raises(ClaimFailed, match=r"One is more than two.*Seen instead: 1; 2\.") as caught:
        claim("One is more than two.", np.bool_(False), 1, 2)
    assert capsys.readouterr().out == ""
    assert caught.value._render_traceback_() == [f"ClaimFailed: {caught.value}"]


def test_claim_shows_what_breaks_it(capsys):
    claim("One is little.", True, 1, breaks={"one=5": (np.bool_(False), 5), "one=6": (False,)})
    assert capsys.readouterr().out.splitlines() == [
        "✓ One is little. [seen: 1]",
        "✗ With `one=5` this no longer holds. [seen: 5]",
        "✗ With `one=6` this no longer holds.",
    ]
    with pytest.raises(ClaimFailed, match=r"should break by `one=2`, and holds all the same.*2\."):
        claim("One is little.", True, 1, breaks={"one=2": (True, 2)})
    with pytest.raises(BookError, match="neither true nor false"):
        claim("One is little.", True, 1, breaks={"one=2": ("no", 2)})
    assert capsys.readouterr().out == ""


def test_means_are_written_in_percent():
    first = pd.DataFrame({"test_accuracy": [0.5, 0.6]})
    assert means(first, first + 0.1004) == "55.0 % and 65.0 %"


@pytest.mark.parametrize(
    ("evidence", "seen"),
    [
        (np.float64(0.25), "0.25"),
        (1 / 3, "0.3333"),
        ([0.31, 0.42, 0.4], "0.31 to 0.42"),
        (pd.Series([1, 2]), "1 to 2"),
        (np.ones((2, 2)), "1"),
        ({"a": np.float64(0.5), "b": [1, 2]}, "a 0.5, b 1 to 2"),
        (Difference(0.1, 0.0, 0.2, 10, 1, 2), "+0.100 (+0.000 to +0.200)"),
        ([], "[]"),
        (None, "None"),
        (False, "False"),
    ],
)
def test_evidence_is_short(evidence, seen, capsys):
    claim("Something.", True, evidence)
    assert capsys.readouterr().out == f"✓ Something. [seen: {seen}]\n"


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be sent to display, by type."""
    seen, formats = [], DisplayFormatter()
    monkeypatch.setattr(
        IPython.display, "display", lambda item: seen.append(formats.format(item)[0])
    )
    return seen


def test_a_notebook_shows_a_ticked_box(shown):
    claim("Both `a` < b.", True, "<0.5>")
    claim("Plain.", True, breaks={"a=1": (False, 2)})
    boxed, plain, broken = shown
    assert 'class="claim claim-broken"' in broken["text/html"] and "✗" in broken["text/plain"]
    assert boxed["text/plain"] == "✓ Both `a` < b. [seen: <0.5>]"
    assert "<code>a</code> &lt; b." in boxed["text/html"]
    assert boxed["text/html"].endswith('<small class="claim-seen">seen: &lt;0.5&gt;</small></div>')
    assert "\n" not in boxed["text/html"] and "claim-seen" not in plain["text/html"]


def test_the_comparison_of_outputs_leaves_out_what_was_seen(shown):
    """What nbval compares: each type of an output, with these expressions replaced."""
    config = (Path(__file__).parent / "nbval.cfg").read_text("ascii")
    patterns = get_sanitize_patterns(config)
    assert patterns
    claim("Something [of a kind].", True, "+7.57\npoints [a]")
    claim("Something [of a kind].", True, [1, 2])
    claim("Something else.", True, [1, 2])

    def compared(data):
        for kind, text in data.items():
            for expression, new in patterns:
                text = re.sub(expression, new, text)
            assert "points" not in text and "1 to 2" not in text
            yield kind, text

    one, two, other = (dict(compared(data)) for data in shown)
    assert one == two and one["text/plain"] == "✓ Something [of a kind]. [seen]"
    assert other["text/plain"] != one["text/plain"] and other["text/html"] != one["text/html"]


@pytest.mark.parametrize("holds", [None, 1, np.array([True, False]), np.nan, "yes"])
def test_claim_takes_only_true_or_false(holds):
    with pytest.raises(BookError, match="neither true nor false"):
        claim("Something.", holds)


def scores(accuracy, loss=(0.4, 0.4), **columns):
    columns = {
        "train_accuracy": [1.0, 1.0],
        "test_accuracy": accuracy,
        "test_log_loss": loss,
    } | columns
    return pd.DataFrame(columns)


def test_comparison():
    first, second = scores([0.90, 0.92], [0.5, 0.6]), scores([0.91, 0.95], seed=[0, 1])
    for baseline in (first, Runs({}, first, [])):
        table = comparison({"a": baseline, "b": second, "a again": baseline})
        assert list(table["test accuracy, %"]) == ["91.00", "93.00", "91.00"]
        # differences 1 and 3 points: mean 2, half width 12.7062 * sqrt(2) / sqrt(2)
        assert table.loc["b", "difference, points"] == "+2.00 (-10.71 to +14.71)"
        assert list(table.iloc[0, [2, 4]]) == ["baseline", "baseline"]
        assert table.loc["a again", "difference"] == "+0.000 (+0.000 to +0.000)"


def test_comparison_of_small_types():
    whole, half = scores(np.array([1, 1], "uint8")), scores(np.array([0.5, 0.5], "float16"))
    assert comparison({"a": half, "b": whole}).loc["b", "difference, points"].startswith("+50.00 ")
    assert comparison({"b": whole, "a": half}).loc["a", "difference, points"].startswith("-50.00 ")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "a dictionary of labels and runs"),
        ([scores([1, 1])], "a dictionary of labels and runs"),
        ({"a": [0.9, 0.8]}, "list holds no scores"),
        ({"a": scores([1, 1]).drop(columns="test_log_loss")}, "no 'test_log_loss' among"),
        ({"a": scores([1, 1]).rename(columns=lambda c: c[:-5])}, "no 'train_accuracy' among"),
        ({"a": scores(["high", "low"])}, "one number per seed"),
        ({"a": scores([1, np.nan])}, "finite numbers"),
        ({"a": scores([1, 1], seed=[0, 1]), "b": scores([1, 1], seed=[7, 8])}, "the same seeds"),
        ({"a": scores([1, 1])[:1], "b": scores([1, 1])[:1]}, "at least two"),
    ],
)
def test_runs_that_cannot_be_compared(runs, message):
    with pytest.raises(BookError, match=message):
        comparison(runs)


def test_tolerance_by_hand():
    """Standard error 0.01 by hand; t(1) at 99.95 % is 636.6, t(9) is 4.781 (printed tables)."""
    two, ten = pd.Series([0.90, 0.92]), pd.Series([0.90, 0.92] * 5)
    assert tolerance(two) == pytest.approx(2**0.5 * 636.6 * 0.01, rel=1e-3)
    error = (10 * 0.01**2 / 9) ** 0.5 / 10**0.5
    assert tolerance(ten) == pytest.approx(2**0.5 * 4.781 * error, rel=1e-3)


def test_holm_multiplies_by_what_is_left():
    corrected = holm(pd.Series([0.01, 0.001, 0.02, 0.4]), planned=10)
    np.testing.assert_allclose(corrected, [0.09, 0.01, 0.16, 1.0])
    np.testing.assert_allclose(holm(np.array([0.02, 0.0201]), planned=2), [0.04, 0.04])


def test_components_of_a_table_without_rest():
    table = pd.DataFrame(np.add.outer([1.0, 2.0, 3.0], [0.0, 10.0]))
    assert components(table) == pytest.approx({"draw": 1.0, "seed": 50.0, "rest": 0.0})
    assert components(0 * table) == {"draw": 0.0, "seed": 0.0, "rest": 0.0}


def test_components_of_made_up_runs(rng):
    rows, columns = rng.normal(0, 3, (400, 1)), rng.normal(0, 2, (1, 400))
    found = components(pd.DataFrame(rows + columns + rng.normal(0, 1, (400, 400))))
    assert found == pytest.approx({"draw": 9.0, "seed": 4.0, "rest": 1.0}, rel=0.4)
    assert found["rest"] == pytest.approx(1.0, rel=0.05)


def test_chance_of_a_false_alarm():
    rows = pd.DataFrame([[4.0, 5.0, 6.0, 5.0], [np.inf] * 4, [1.0, -1.0, 1.0, -1.0]])
    found = false_alarms(rows)
    assert list(found["failed"]) == [0, 0, 2]
    assert list(found["bound"]) == pytest.approx([1 - 0.05 ** (1 / 4)] * 2 + [0.902389], abs=1e-5)
    assert found["chance"][0] < 0.01 and np.isnan(found["chance"][1]) and found["chance"][2] == 0.5


def test_how_often_and_by_how_many_deviations():
    """Two up, one down, one tie; mean 0.5 and standard deviation of 1.291 by hand."""
    gain = paired_difference([2.0, 2.0, -1.0, 1.0], [0.0, 1.0, 0.0, 1.0])
    assert gain.higher == 2.5 / 4 and gain.deviations == pytest.approx(0.5 / 1.2909944)
    same = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (same.higher, same.deviations) == (0.5, 0.0)
    assert paired_difference([0.0, 1.0], [1.0, 2.0]).deviations == -np.inf
    x, y = np.random.default_rng(0).normal(size=(2, 9))
    assert paired_difference(x, y).p == pytest.approx(stats.ttest_rel(x, y).pvalue)


# What a search chooses, and calibration


def test_what_a_search_chooses():
    """By each score, at the last epoch and at the best one; of equals, the lower learning rate."""
    rows = [
        # learning rate, end, accuracy and log-loss of two pairs
        (1e-3, "last", (0.8, 0.9), (0.5, 0.7)),
        (1e-2, "last", (0.9, 0.9), (0.7, 0.7)),
        (1e-4, "last", (0.9, 0.9), (0.6, 0.8)),
        (1e-3, "best accuracy", (0.95, 0.95), (0.1, 0.1)),
        (1e-2, "best accuracy", (0.9, 0.9), (0.0, 0.0)),
        (1e-3, "best log-loss", (0.0, 0.0), (0.3, 0.4)),
        (1e-2, "best log-loss", (1.0, 1.0), (0.3, 0.5)),
    ]
    key = {"n_train": 300, "label_noise": 0.2, "technique": "L2", "strength": 1.0}
    search = pd.DataFrame(
        key | {"learning_rate": rate, "end": end, "val_accuracy": a, "val_log_loss": b}
        for rate, end, accuracy, loss in rows
        for a, b in zip(accuracy, loss, strict=True)
    )
    picked = chosen(search).set_index(["end", "metric"])["learning_rate"]
    assert picked.to_dict() == {
        ("last", "accuracy"): 1e-4,
        ("last", "log_loss"): 1e-3,
        ("best accuracy", "accuracy"): 1e-3,
        ("best log-loss", "log_loss"): 1e-3,
    }


def test_calibration_finds_the_temperature(rng):
    """Probabilities that were made too sure by a known temperature are put right."""
    logits = rng.normal(0, 2, (40_000, 5))
    honest = special.softmax(logits, axis=1)
    labels = (honest.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)
    sure = special.softmax(3 * logits, axis=1)
    half = slice(None, 20_000), slice(20_000, None)
    found = calibration(*(part[rows] for rows in half for part in (sure, labels)))
    assert found["temperature"] == pytest.approx(3, rel=0.05)
    best = -np.log(honest[half[1]][np.arange(20_000), labels[half[1]]]).mean()
    assert found["test_scaled_log_loss"] == pytest.approx(best, rel=0.01)
    assert found["test_ece"] > 0.1 > 0.02 > found["test_scaled_ece"]


def test_calibration_error_by_hand():
    """Two images with confidence 0.9, one right; one with 0.6, right: (|1 - 1.8| + 0.4) / 3."""
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert calibration_error(p, np.array([0, 1, 1])) == pytest.approx(1.2 / 3)
