"""The stored results: whole, small, and what this code gives today."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from mutants import execute
from nbclient.exceptions import CellExecutionError

from utils import results, sweep
from utils.reference import tolerance


@pytest.fixture(scope="module")
def scores():
    return results.load_results("scores")


def test_whole_settings_with_all_seeds(scores):
    """What is stored is complete: each setting has all techniques, strengths and seeds."""
    for (images, wrong), setting in scores.groupby(["images", "wrong"]):
        cells = {sweep.Cell(*key) for key, _ in setting.groupby(results.KEY[:-1])}
        assert cells == set(sweep.plan([images], [wrong]))
        assert (
            setting.groupby(results.KEY[:-1])["seed"].nunique() == sweep.BUDGETS[images].seeds
        ).all()
    assert scores.groupby(["images", "wrong"]).ngroups % len(sweep.WRONG) == 0


def test_small_enough_to_ship(scores):
    size = sum(file.stat().st_size for file in results.RESULTS.glob("*.*"))
    assert size < 5e6


def test_curves_end_where_the_scores_say(scores):
    curves = results.load_results("curves")
    assert curves[results.KEY].equals(scores[results.KEY])
    full = scores["technique"] == "none"
    last = [row[-1] for row in curves.loc[full, "val_accuracy"]]
    np.testing.assert_allclose(last, scores.loc[full, "val_accuracy"], atol=2e-4)


@pytest.mark.skipif(
    not os.environ.get("MNIST_NPZ"), reason="the results are of the full MNIST: set MNIST_NPZ"
)
def test_cells_drawn_at_random_come_out_as_stored(scores):
    """Three small cells, others in every run, within the tolerance of means over seeds."""
    cells = sweep.plan([300])
    for index in np.random.default_rng().choice(len(cells), 3, replace=False):
        cell = cells[index]
        record = sweep.run_cell(cell, sweep.BUDGETS[300])
        where = (scores[list(cell._fields)] == list(cell)).all(axis=1)
        for metric in ("test_accuracy", "test_log_loss"):
            stored, now = scores.loc[where, metric], np.mean(record["scores"][metric])
            assert abs(now - stored.mean()) <= tolerance(stored), (cell, metric, now, stored.mean())


@pytest.mark.notebook
def test_one_altered_row_breaks_a_claim(tmp_path):
    """One run of dropout with another score, in a setting with wrong labels."""
    table = pd.read_csv(results.RESULTS / "scores.csv")
    where = "images == 1000 and wrong == 0.4 and technique == 'dropout'"
    (row,) = table.query(f"{where} and strength == 0.5 and seed == 3").index
    table.loc[row, "test_accuracy"] = 0.0
    table.to_csv(tmp_path / "scores.csv", index=False)
    shutil.copy(results.RESULTS / "curves.csv", tmp_path)
    other = f"import utils.results\nutils.results.RESULTS = {str(tmp_path)!r}"
    with pytest.raises(CellExecutionError, match="does not hold in this run"):
        execute("09_which_technique_when", other)
