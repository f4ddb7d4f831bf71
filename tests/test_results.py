"""The stored results: whole, small, and what this code gives today."""

import itertools
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tools import audit, sweep
from tools.notebooks import execute, read
from utils import BookError
from utils.results import ENDS, KEY, RESULTS, against_plain, load_results, tuned
from utils.techniques import ARMS

STUDIES = [name for name in sweep.STUDIES if (RESULTS / name / "scores.csv").exists()]


@pytest.mark.parametrize("name", STUDIES)
def test_whole_cells_of_a_study(name):
    """What is stored is of the plan, with all pairs, both ways of ending, and nothing twice."""
    study, scores = sweep.STUDIES[name], load_results("scores", RESULTS / name)
    cells = {sweep.Cell(*key) for key, _ in scores.groupby(list(sweep.Cell._fields))}
    assert cells <= set(sweep.plan(study, study.budgets))
    for cell, rows in scores.groupby(list(sweep.Cell._fields)):
        runs = rows.groupby("end", sort=False)[["draw", "seed"]]
        assert list(runs.groups) == list(ENDS)
        for _, pairs in runs:
            assert sorted(pairs.itertuples(index=False, name=None)) == sorted(study.pairs), cell
        assert set(rows["epochs"]) == {study.budgets[cell[0]].epochs}
    assert audit.duplicates(scores) == 0


def test_small_enough_to_ship():
    assert sum(file.stat().st_size for file in RESULTS.rglob("*.*")) < 8e6


def test_curves_end_where_the_scores_say():
    scores, curves = (load_results(name, RESULTS / "map") for name in ("scores", "curves"))
    last = scores[scores["end"] == "last"].reset_index(drop=True)
    assert curves[KEY].equals(last[KEY])
    assert [epochs[-1] for epochs in curves["epoch"]] == list(last["epochs"])
    ends = [row[-1] for row in curves["val_accuracy"]]
    np.testing.assert_allclose(ends, last["val_accuracy"], atol=6e-4)


def test_what_is_not_there(tmp_path):
    assert load_results("scores", tmp_path) is None
    with pytest.raises(BookError, match="no table 'score' of results, only scores and curves"):
        load_results("score", tmp_path)


SAMPLE = [(name, arm) for name in STUDIES for arm in (ARMS if name == "map" else ["any"])]


@pytest.mark.skipif(
    not os.environ.get("MNIST_NPZ"), reason="the results are of the full MNIST: set MNIST_NPZ"
)
@pytest.mark.slow
@pytest.mark.parametrize(("name", "arm"), SAMPLE)
def test_cells_drawn_at_random_come_out_as_stored(name, arm, rng):
    """Two pairs of a small cell: of every arm of the map, and of one arm of each other study.

    Two processors gave the same five digits. Where they do not, as late in the training of a
    network that knows its wrong labels by heart, the mean of the two pairs may differ by two
    standard deviations of the stored pairs, or by a tenth in a search, which has only two.
    """
    if name.startswith("fashion") and not os.environ.get("FASHION_MNIST_NPZ"):
        pytest.skip("the results are of the full Fashion-MNIST: set FASHION_MNIST_NPZ")
    study, scores = sweep.STUDIES[name], load_results("scores", RESULTS / name)
    small = scores[scores["n_train"] <= 1_000]
    small = small[small["technique"] == arm] if arm in ARMS else small
    cells = sorted({sweep.Cell(*key) for key, _ in small.groupby(list(sweep.Cell._fields))})
    cell = cells[rng.integers(len(cells))]
    start = rng.integers(len(study.pairs) - 1)
    pairs = study.pairs[start : start + 2]
    now = pd.DataFrame(sweep.run_cell(cell, study.budgets[cell.n_train], pairs, name)["scores"])
    rows = small[(small[list(cell._fields)] == list(cell)).all(axis=1)]
    key = ["draw", "seed", "end"]
    both = now.merge(rows, on=key, suffixes=("", "_stored"))
    assert len(both) == len(now) == 2 * len(ENDS)
    for end, metric in itertools.product(ENDS, ("val_accuracy", "val_log_loss")):
        stored = rows.loc[rows["end"] == end, metric]
        pair = both[both["end"] == end]
        allowed = 2 * stored.std() if len(stored) > 2 else 0.1 * stored.mean()
        gap = pair[metric].mean() - pair[f"{metric}_stored"].mean()
        assert abs(gap) <= allowed, (cell, end, metric)


@pytest.mark.parametrize("end", ENDS)
def test_tuned_is_what_the_audit_chooses(end):
    metric = "log_loss" if end == "best log-loss" else "accuracy"
    search = audit.read(RESULTS)["search"]
    chosen = audit.choose(search, end, metric).set_index(audit.ARM)
    for arm in ("none", "dropout", "L2 + dropout"):
        runs = tuned(arm, 1_000, 0.2, end, metric)
        assert sorted(runs.index) == sorted(runs["draw"]) == list(range(10))
        (rate,), (strength,) = (runs[name].unique() for name in ("learning_rate", "strength"))
        assert chosen.loc[(1_000, 0.2, arm)].to_list() == [rate, strength]
    with pytest.raises(BookError, match="has no runs of"):
        tuned("dropuot", 1_000, 0.2)


@pytest.mark.slow
def test_one_altered_row_breaks_a_claim(tmp_path):
    """One run of augmentation with another score, in a setting with right labels."""
    shutil.copytree(RESULTS / "search", tmp_path / "search")
    table = pd.read_csv(RESULTS / "map" / "scores.csv")
    where = "n_train == 10_000 and label_noise == 0 and technique == 'augmentation'"
    rows = table.query(f"{where} and seed == 3 and end == 'last'").index
    table.loc[rows, "test_accuracy"] = 0.0
    (tmp_path / "map").mkdir()
    table.to_csv(tmp_path / "map" / "scores.csv", index=False)
    notebook = read("09_which_technique_when")
    other = "import pathlib, utils.results\n"
    other += f"utils.results.RESULTS = pathlib.Path({str(tmp_path)!r})"
    notebook.cells.insert(0, new_code_cell(other))
    with pytest.raises(CellExecutionError, match="does not hold in this run"):
        execute(notebook)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_map_is_what_the_audit_finds(metric):
    """Means, p-values and counts, from two programs that share no function for them."""
    tables = audit.read(RESULTS)
    found = audit.families(tables["search"], tables["map"]).query(f"metric == {metric!r}")
    found = found[found["family"] == "A"].set_index(audit.ARM).sort_index()
    ours = against_plain(f"test_{metric}", metric).set_index(audit.ARM).sort_index()
    assert list(ours.index) == list(found.index)
    sign = 1 if metric == "accuracy" else -1
    np.testing.assert_allclose(sign * ours["mean"], found["gain"], atol=1e-9)
    assert list(ours["clear"]) == list(found["holm"] < 0.05)
    assert len(set(ours["clear"])) == 2


def test_another_rival_changes_the_map():
    usual, own = (against_plain(plain_rate=rate).set_index(audit.ARM) for rate in (0.001, None))
    ahead = tuned("none", 1_000, 0.2)["test_accuracy"].mean()
    scores = load_results("scores", RESULTS / "map").query("learning_rate == 0.001")
    here = "n_train == 1000 and label_noise == 0.2 and technique == 'none' and end == 'last'"
    behind = scores.query(here)["test_accuracy"].mean()
    moved = (usual["mean"] - own["mean"]).loc[1_000, 0.2]
    np.testing.assert_allclose(moved, ahead - behind)
