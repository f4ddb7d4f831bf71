"""The benchmark: what it counts, and that every contestant here can run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import bench


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Replace the rows by one that takes a moment, and the file of results by another."""
    monkeypatch.setattr(bench, "ROWS", {"tiny": ((8,), 200, 1)})
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    return bench.RESULTS


def test_operations_are_counted_by_hand():
    mnist = bench.load_mnist(n_train=100, n_val=50)
    weights = 784 * 30 + 30 * 10
    assert bench.operations((30,), mnist, 2) == 10 * 2 * weights * (6 * 100 + 2 * 50)


def test_every_contestant_runs(tiny):
    entry = bench.race("tiny", "L2", repeats=1, fits=1)
    assert {"train_seeds", "fit", "fit, blocks", "scikit-learn"} <= set(entry)
    assert all(np.isfinite(value) and value >= 0 for value in entry.values())


def test_rows_of_another_machine_are_dropped(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench.py", "--rows", "tiny", "--networks", "L1"])
    monkeypatch.setattr(bench, "race", lambda *arguments: {"train_seeds": 1.0})
    tiny.write_text('{"machine": {"processor": "another"}, "race": {"old": {}}, "growth": {}}')
    bench.main()
    results = json.loads(tiny.read_text("utf-8"))
    assert results["race"] == {"tiny, L1": {"train_seeds": 1.0}}
    assert results["machine"] == bench.machine(*bench.packages())


def test_networks_are_those_of_the_rows():
    for network in bench.NETWORKS:
        kinds = [type(layer).__name__ for layer in bench.build((8, 8), network).layers]
        assert kinds.count("Dense") == 3
        assert ("Dropout" in kinds) == (network == "dropout")
        assert ("RandomRotation" in kinds) == (network == "augmentation")
