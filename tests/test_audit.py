"""The audit: it finds each broken promise in tables that are made up, and the right counts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tools import audit
from utils.evidence import chosen, components
from utils.results import ENDS, RESULTS
from utils.techniques import ARMS, configurations


def rows(cells, pairs, test):
    """Return scores of cells: the middle learning rate is best, and dropout gains by a tenth."""
    rng = np.random.default_rng(len(pairs))
    found = []
    for technique, rate, strength in cells:
        for pair in pairs:
            for end in ENDS:
                accuracy = 0.8 - abs(np.log(rate / 3.9e-4)) / 20 + 0.1 * (technique == "dropout")
                accuracy += rng.normal(0, 0.004) + 0.02 * (end == "best accuracy")
                row = {
                    "n_train": 300,
                    "label_noise": 0.2,
                    "technique": technique,
                    "strength": strength,
                    "learning_rate": rate,
                    "draw": pair,
                    "seed": pair,
                    "end": end,
                    "epochs": 2,
                }
                splits = ("val", "test") if test else ("val",)
                row |= {f"{split}_accuracy": accuracy + rng.normal(0, 1e-3) for split in splits}
                row |= {f"{split}_log_loss": 1 - row[f"{split}_accuracy"] for split in splits}
                found.append(row)
    return pd.DataFrame(found)


@pytest.fixture(scope="module")
def tables():
    search = rows(
        [(name, *c) for name, arm in ARMS.items() for c in configurations(arm)],
        [102, 103],
        test=False,
    )
    picked = chosen(search).drop_duplicates(["technique", "learning_rate", "strength"])
    cells = picked[["technique", "learning_rate", "strength"]].itertuples(index=False, name=None)
    return {"search": search, "map": rows(list(cells), range(10), test=True)}


def test_kept_promises(tables, capsys):
    assert audit.audit(tables) == []
    said = capsys.readouterr().out
    assert "search: 1 settings searched. 0.0% of 44 choices" in said
    assert "map: 1 settings reported." in said
    assert "A, accuracy: 10 comparisons" in said and "1 clear: 1 better, 0 worse." in said
    assert "C, accuracy: 11 comparisons" in said and "11 clear: 11 better, 0 worse." in said


def without(table, **values):
    return table[~(table[list(values)] == pd.Series(values)).all(axis=1)]


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("search", lambda t: without(t, technique="L2", learning_rate=1e-3), "searched 17 conf"),
        ("search", lambda t: without(t, technique="L1", seed=103, learning_rate=1e-3), "more"),
        ("search", lambda t: without(t, technique="L1"), "was not searched by L1"),
        ("search", lambda t: t.replace({"learning_rate": {1e-3: 2e-3}}), "other learning rates"),
        ("search", lambda t: t.replace({"draw": {102: 9}}), "the draws [9] choose and report"),
        ("search", lambda t: t.replace({"seed": {102: 9}}), "the seeds [9] choose and report"),
        ("map", lambda t: without(t, technique="dropout"), "not reported"),
        ("map", lambda t: pd.concat([t, t.assign(technique="L1")]), "runs that are copies"),
        ("search", lambda t: t.assign(val_accuracy=t["learning_rate"], val_log_loss=0.5), "edge"),
    ],
)  # fmt: skip
def test_broken_promises(name, spoil, message, tables):
    faults = audit.audit(tables | {name: spoil(tables[name])})
    assert any(message in fault for fault in faults), faults


def test_corrected_as_holm_says(tables):
    """Against the definition, for one family: p, sorted, times how many planned are left."""
    table = audit.families(tables["search"], tables["map"])
    family = table[(table["family"] == "A") & (table["metric"] == "accuracy")].sort_values("p")
    worst = 0.0
    for place, (p, holm) in enumerate(zip(family["p"], family["holm"], strict=True)):
        worst = max(worst, min(1.0, (audit.PLANNED["A"] - place) * p))
        assert holm == pytest.approx(worst)
    ends = audit.sides(tables["search"], tables["map"], "accuracy")
    own, rival = (ends["last"].loc[(300, 0.2, name)] for name in ("dropout", "none"))
    assert family["p"].iloc[0] == pytest.approx(stats.ttest_rel(own, rival).pvalue)


def test_the_choice_is_that_of_the_chapters(tables):
    """Two programs, one of them in `utils`, choose the same."""
    for end, metric, table in audit.choices(tables["search"]):
        ours = chosen(tables["search"], [(end, metric)])
        key = ["technique", "learning_rate", "strength"]
        assert set(ours[key].itertuples(index=False, name=None)) == set(
            table[key].itertuples(index=False, name=None)
        )


def test_a_search_that_is_not_reported_yet(tables, capsys):
    assert audit.audit({"search": tables["search"]}) == []
    assert "reported" not in capsys.readouterr().out


def test_signs_beside_the_map(tables, capsys):
    """All differences the same, and all turned round: counted by hand."""
    ours = audit.families(tables["search"], tables["map"])
    audit.agree("fashion", ours, ours)
    assert "A, accuracy: 10 of 10 differences have the sign" in capsys.readouterr().out
    audit.agree("fashion", ours, ours.assign(gain=-ours["gain"]))
    said = capsys.readouterr().out
    clear = (ours.query("family == 'A' and metric == 'accuracy'")["holm"] < 0.05).sum()
    assert "A, accuracy: 0 of 10" in said and f"clear in the map 0 of {clear}." in said


def test_what_the_confirmation_confirms(capsys):
    """Of three clear differences one has another sign, and one is not clear there by itself."""
    key = dict(zip(audit.ARM, (1_000, 0.2, "L2"), strict=True)) | {"metric": "accuracy"}
    rows = [key | {"family": "A", "gain": g, "p": 0.0, "holm": h} for g, h in ((1, 0.01), (2, 0.5))]
    map_ = pd.DataFrame([*rows, key | {"family": "B", "gain": -1, "p": 0.0, "holm": 0.01}])
    map_ = map_.assign(technique=[*"abc"])
    theirs = map_.assign(gain=[1, -2, -1], p=[0.04, 0.0, 0.06])
    audit.confirmed(map_, theirs)
    assert capsys.readouterr().out.startswith("confirmation: 1 of 2 clear differences")


def test_a_gain_that_grows_with_the_length_of_training(rng):
    """By three points over the plain network's end, and by one over its best epoch."""
    setting = {"n_train": 1_000, "label_noise": 0.2}
    studies = []
    for arm, best in ((0.80, 0.82), (0.83, 0.84)):
        rows = [
            setting | {"draw": k, "seed": k, "technique": name, "end": end, "test_accuracy": value}
            for k in range(10)
            for name, end, value in (
                ("none", "last", 0.8), ("none", "best accuracy", best),
                ("L2", "last", arm + 1e-4 * rng.random()), ("L2", "best accuracy", 0.0),
            )
        ]  # fmt: skip
        studies.append(pd.DataFrame(rows).sample(frac=1, random_state=1))
    last, top = audit.longer(*studies).to_dict("records")
    assert (last["plain"], top["plain"]) == ("last", "best accuracy")
    assert last["grows"] == pytest.approx(3, abs=0.02) and top["grows"] == pytest.approx(
        1, abs=0.02
    )
    assert last["low"] < last["grows"] < last["high"] and last["holm"] < 0.001


def test_a_search_at_one_rate():
    """Three arms try all their strengths; one that leaves some out is named."""
    names = ("L2", "dropout", "label smoothing")
    cells = [(name, 1e-3, strength) for name in names for strength in ARMS[name].strengths]
    assert audit.unequal_searches(rows(cells, [102, 103], test=False), learned=True) == []
    (fault,) = audit.unequal_searches(rows(cells[1:], [102, 103], test=False), learned=True)
    assert "L2" in fault and "searched 8 configurations" in fault
    assert len(list(audit.choices(rows(cells, [102, 103], test=False), learned=True))) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t, None),
        (lambda t: t.assign(n_train=42_000, n_val=18_000), "sizes [(42000, 18000)] instead"),
        (lambda t: t[t["seed"] < 9], "plain has not 10 pairs"),
    ],
)
def test_the_article_s_sizes(spoil, message, tmp_path):
    table = pd.DataFrame({"seed": range(10), "value": 0.97})
    table = table.assign(part="plain", score="test_accuracy", end="last", n_train=34_300)
    (tmp_path / "famous").mkdir()
    spoil(table.assign(n_val=14_700)).to_csv(tmp_path / "famous" / "article.csv", index=False)
    faults = audit.article(tmp_path)
    assert faults == [] if message is None else message in faults[0]


def test_a_folder_without_results(tmp_path, capsys):
    assert audit.main(tmp_path) == 1
    assert "python -m tools.sweep search" in capsys.readouterr().out


@pytest.mark.skipif(not (RESULTS / "search").exists(), reason="no study is finished yet")
def test_the_book_s_own_results(capsys):
    status = audit.main()
    assert status == 0, capsys.readouterr().out


def test_shares_of_luck_are_those_of_the_page(rng):
    """From two programs that share no function for them."""
    table = pd.DataFrame(rng.normal(0, 2, (7, 1)) + rng.normal(0, 1, (7, 5)))
    found = components(table)
    expected = [found[name] / sum(found.values()) for name in ("draw", "seed")]
    assert audit.shares(table) == pytest.approx(expected)
