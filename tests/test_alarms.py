"""The slack of a claim is what its comparison says, and other seeds reach a notebook."""

import ast

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import alarms, notebooks
from utils.data import load_mnist
from utils.training import train_seeds


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a > 0.5", [0.25]),
        ("a - 1 <= 0", [0.25]),
        ("0 < a < 1", [0.75, 0.25]),
        ("a > 1 and not b.any()", [-0.25, -np.inf]),
        ("(b > 2).all()", [-1]),
        ("(b == 2).all()", [-np.inf]),
        ("all(np.diff(b) > 0)", [1]),
        ("all(x > 0 and x < 9 for x in b)", [1, 5]),
        ("np.isclose(a, 0.7, rtol=0, atol=0.1)", [0.5]),
        ("len(b) == 3", [np.inf]),
    ],
)
def test_slack(condition, expected):
    names = {"_alarms": alarms, "a": 0.75, "b": np.array([1.0, 2.0, 4.0]), "np": np}
    code = alarms.slacks(ast.parse(condition, mode="eval").body)
    values = eval(code, names)
    np.testing.assert_allclose(values, expected)
    holds = bool(eval(condition, names))
    assert (min(values) >= 0) == holds


def test_a_cell_keeps_its_code_and_its_claims_say_their_slack():
    cell = alarms.marked("x = 1\nclaim('One is positive.', x > 0, x)\n")
    assert cell == "x = 1\nclaim('One is positive.', x > 0, x, slack=[_alarms.least(x - 0)])"


def test_the_stored_table_is_of_these_chapters():
    """A claim that was reworded has to be looked at with other seeds again: run `make alarms`."""
    table = pd.read_csv(alarms.FILE)
    waiting = {name for name in alarms.CHAPTERS if name < "10"}
    assert set(table["chapter"]) == {*alarms.CHAPTERS} - waiting
    for chapter, rows in table.groupby("chapter"):
        assert set(rows["claim"]) == set(notebooks.claims(chapter))


MADE_UP = """
import numpy as np
from utils.evidence import claim

least = drawn = np.random.default_rng(0).random()
claim("It is small.", drawn < 0.5 and drawn < 1)
drawn.upper()
claim("It has letters.", True)
"""


@pytest.mark.slow
def test_a_chapter_is_measured_with_other_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "chapters").mkdir()
    nbformat.write(
        new_notebook(cells=[new_code_cell(MADE_UP)]), tmp_path / "chapters/made_up.ipynb"
    )
    slack = alarms.measure("made_up", "sample", 3_000)
    drawn = np.random.default_rng(3_000).random()
    assert slack == {
        ("It is small.", 0): 0.5 - drawn,
        ("It is small.", 1): 1 - drawn,
        ("It has letters.", 0): -np.inf,  # not reached
    }


@pytest.mark.parametrize(("slack", "status"), [(0.5, 0), (-0.1, 1)])
def test_claims_that_fail_are_named(slack, status, tmp_path, monkeypatch, capsys):
    def filled(file, key, jobs, function, words):
        assert words == ["04"] and ("04_dropout", "sample", "120000") in jobs
        rows = pd.MultiIndex.from_tuples([("04_dropout", "full", "It drops.", 0)], names=key)
        return pd.DataFrame([[slack, 0.5, 0.5]], rows, ["1000", "2000", "3000"])

    monkeypatch.setattr(alarms, "fill_table", filled)
    assert alarms.main(["04"]) == status
    assert ("It drops." in capsys.readouterr().out) == bool(status)


NETWORK = """
import keras, numpy as np
from utils.data import load_mnist
from utils.training import train_seeds

def network():
    flat = [keras.Input((28, 28, 1)), keras.layers.Flatten()]
    model = keras.Sequential([*flat, keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
"""
NOTEBOOK = f"""
assert not {{"os", "shift", "np"}} & set(globals())
{NETWORK}
keras.utils.set_random_seed(0)
kernel = np.asarray(network().layers[1].kernel)
runs = train_seeds(network, load_mnist(50, 50), 1, [0], best=["val_loss"])
assert list(runs.best["val_loss"].scores.index) == list(runs.scores.index)
loss = runs.scores.val_loss[0]
print(np.random.default_rng(1).integers(10**6), float(kernel.sum()), float(loss))
"""


@pytest.mark.slow
def test_other_seeds_reach_a_notebook(monkeypatch):
    """With an offset of 7, what a notebook calls seed 0 is seed 7, and so is its draw of images."""
    monkeypatch.setenv("SEED_OFFSET", "7")
    monkeypatch.setenv("PYTHONSTARTUP", str(notebooks.ROOT / "tools" / "seeds.py"))
    done = notebooks.execute(new_notebook(cells=[new_code_cell(NOTEBOOK)]))
    printed = "".join(o.text for o in done.cells[0].outputs if o.get("name") == "stdout")
    exec(NETWORK, names := {})
    keras.utils.set_random_seed(7)
    kernel = np.asarray(names["network"]().layers[1].kernel)
    loss = train_seeds(names["network"], load_mnist(50, 50, seed=7), 1, [7]).scores.val_loss[7]
    expected = np.random.default_rng(8).integers(10**6), kernel.sum(), loss
    np.testing.assert_allclose([float(x) for x in printed.split()[-3:]], expected, rtol=1e-5)
