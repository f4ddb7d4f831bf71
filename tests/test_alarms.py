"""The slack of a claim is what its comparison says, and other seeds reach a notebook."""

import ast

import false_alarms
import keras
import numpy as np
import pandas as pd
import pytest
from mutants import ROOT, claims
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from utils.data import load_mnist
from utils.sweep import network
from utils.training import train_seeds

NAMES = {name: getattr(false_alarms, name) for name in ("closeness", "exact", "least", "smallest")}


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
    names = NAMES | {"a": 0.75, "b": np.array([1.0, 2.0, 4.0]), "np": np}
    code = false_alarms.slacks(ast.parse(condition, mode="eval").body)
    values = eval(code, names)
    np.testing.assert_allclose(values, expected)
    holds = bool(eval(condition, names))
    assert (min(values) >= 0) == holds


def test_a_cell_keeps_its_code_and_its_claims_say_their_slack():
    cell = false_alarms.marked("x = 1\nclaim('One is positive.', x > 0, x)\n")
    assert cell == "x = 1\nclaim('One is positive.', x > 0, x, slack=[least(x - 0)])"


def test_the_stored_table_is_of_these_chapters():
    """A claim that was reworded has to be looked at with other seeds again: run `make alarms`."""
    table = pd.read_csv(false_alarms.FILE)
    assert sorted(table["chapter"].unique()) == false_alarms.CHAPTERS
    for chapter, rows in table.groupby("chapter"):
        assert set(rows["claim"]) == set(claims(chapter))


NOTEBOOK = """
import keras, numpy as np
from utils.data import load_mnist
from utils.sweep import network
from utils.training import train_seeds

keras.utils.set_random_seed(0)
kernel = np.asarray(network().layers[1].kernel)
scores = train_seeds(network, load_mnist(50, 50), 1, [0]).scores
loss = scores.val_log_loss[0]
print(f"{np.random.default_rng(1).integers(10**6)} {kernel.sum():.4f} {loss:.4f}")
"""


def test_other_seeds_reach_a_notebook(monkeypatch):
    """With an offset of 7, what a notebook calls seed 0 is seed 7; the images stay the same."""
    monkeypatch.setenv("SEED_OFFSET", "7")
    monkeypatch.setenv("PYTHONSTARTUP", str(ROOT / "tests" / "seeds.py"))
    done = NotebookClient(new_notebook(cells=[new_code_cell(NOTEBOOK)]), timeout=300).execute()
    printed = [o.text for o in done.cells[0].outputs if o.get("name") == "stdout"]
    keras.utils.set_random_seed(7)
    kernel = np.asarray(network().layers[1].kernel)
    scores = train_seeds(network, load_mnist(50, 50), 1, [7]).scores
    loss = scores.val_log_loss[7]
    expected = f"{np.random.default_rng(8).integers(10**6)} {kernel.sum():.4f} {loss:.4f}"
    assert "".join(printed).splitlines()[-1] == expected
