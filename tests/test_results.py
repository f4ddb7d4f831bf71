"""The stored results: whole, small, and what this code gives today."""

import os
import secrets
import shutil

import numpy as np
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tools import sweep
from tools.notebooks import execute, read
from utils import BookError
from utils.evidence import tolerance
from utils.results import KEY, RESULTS, load_results
from utils.techniques import ARTICLE, ARTICLE_BUDGET, BUDGETS, LABEL_NOISE


@pytest.fixture(scope="module")
def scores():
    return load_results("scores")


def test_whole_settings_with_all_seeds(scores):
    """Each setting has all techniques and strengths, and each of them a run of every seed."""
    for (n_train, label_noise), setting in scores.groupby(["n_train", "label_noise"]):
        cells = {sweep.Cell(*key) for key, _ in setting.groupby(KEY[:-1])}
        assert cells == set(sweep.plan([n_train], [label_noise]))
        runs = setting.pivot(
            index="seed", columns=["technique", "strength"], values="test_accuracy"
        )
        assert list(runs.index) == list(range(BUDGETS[n_train].seeds))
        assert runs.notna().all(axis=None)
        assert set(setting["epochs"]) == {BUDGETS[n_train].epochs}
    assert scores.groupby(["n_train", "label_noise"]).ngroups == len(BUDGETS) * len(LABEL_NOISE)


def test_whole_results_of_the_article():
    scores = load_results("scores", RESULTS / "article")
    cells = {sweep.Cell(*key) for key, _ in scores.groupby(KEY[:-1])}
    assert cells == set(sweep.plan(ARTICLE_BUDGET, [0.0], techniques=ARTICLE))
    assert (scores.groupby("technique")["seed"].nunique() == 10).all()


def test_small_enough_to_ship():
    assert sum(file.stat().st_size for file in RESULTS.glob("*.*")) < 5e6


def test_curves_end_where_the_scores_say(scores):
    curves = load_results("curves")
    assert curves[KEY].equals(scores[KEY])
    full = scores["technique"] == "none"
    last = [row[-1] for row in curves.loc[full, "val_accuracy"]]
    np.testing.assert_allclose(last, scores.loc[full, "val_accuracy"], atol=2e-4)


def test_what_is_not_there(tmp_path):
    assert load_results("scores", tmp_path) is None
    with pytest.raises(BookError, match="no table 'score' of results, only scores and curves"):
        load_results("score")


@pytest.mark.skipif(
    not os.environ.get("MNIST_NPZ"), reason="the results are of the full MNIST: set MNIST_NPZ"
)
def test_cells_drawn_at_random_come_out_as_stored(scores):
    """Three small cells, others in every run, within the tolerance of means over seeds."""
    seed = secrets.randbits(32)
    print(f"drawn with {seed=}")
    cells = sweep.plan([300])
    for index in np.random.default_rng(seed).choice(len(cells), 3, replace=False):
        cell = cells[index]
        record = sweep.run_cell(cell, BUDGETS[300])
        where = (scores[list(cell._fields)] == list(cell)).all(axis=1)
        for metric in ("test_accuracy", "test_log_loss"):
            stored, now = scores.loc[where, metric], np.mean(record["scores"][metric])
            assert abs(now - stored.mean()) <= tolerance(stored), (cell, metric, now, stored.mean())


@pytest.mark.notebook
def test_one_altered_row_breaks_a_claim(tmp_path):
    """One run of dropout with another score, in a setting with wrong labels."""
    table = pd.read_csv(RESULTS / "scores.csv")
    where = "n_train == 1000 and label_noise == 0.4 and technique == 'dropout'"
    (row,) = table.query(f"{where} and strength == 0.5 and seed == 3").index
    table.loc[row, "test_accuracy"] = 0.0
    table.to_csv(tmp_path / "scores.csv", index=False)
    shutil.copy(RESULTS / "curves.csv", tmp_path)
    notebook = read("09_which_technique_when")
    other = f"import utils.results\nutils.results.RESULTS = {str(tmp_path)!r}"
    notebook.cells.insert(0, new_code_cell(other))
    with pytest.raises(CellExecutionError, match="does not hold in this run"):
        execute(notebook)
