"""The benchmark: what it counts, and that every contestant here can run."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tools import bench

TINY = bench.Row((8,), 200, 1)


@pytest.fixture
def file(monkeypatch, tmp_path):
    """Replace the rows by one, and the file of results by another."""
    monkeypatch.setattr(bench, "ROWS", {"tiny": TINY})
    monkeypatch.setattr(bench, "FILE", tmp_path / "bench.json")
    return bench.FILE


def test_operations_are_counted_by_hand():
    weights = 784 * 30 + 30 * 10
    assert bench.operations(bench.Row((30,), 100, 2), 50) == 10 * 2 * weights * (6 * 100 + 2 * 50)


def test_every_contestant_runs(monkeypatch):
    """Those that come with the book, in one thread instead of processes that load TensorFlow."""
    ours = {n: c for n, c in bench.CONTESTANTS.items() if c.package in ("tensorflow", "sklearn")}
    monkeypatch.setattr(bench, "CONTESTANTS", ours)
    thread = ThreadPoolExecutor(1)
    monkeypatch.setattr(bench, "ProcessPoolExecutor", lambda *arguments, **options: thread)
    entry = bench.race(TINY, "L2", repeats=1, fits=1)
    assert {"train_seeds", "fit", "fit, blocks", "scikit-learn"} <= set(entry)
    assert all(np.isfinite(value) and value >= 0 for value in entry.values())


def test_a_contestant_is_alone_in_its_process_and_warm():
    """PyTorch beside TensorFlow may end in a segmentation fault, and imports are not timed."""
    with bench.processes(["scikit-learn"]) as pools:
        process = pools["scikit-learn"]
        assert process.submit(os.getpid).result() != os.getpid()
        loaded = process.submit(eval, "set(__import__('sys').modules)").result()
    assert "sklearn.neural_network" in loaded
    assert not {"tensorflow", "keras", "torch", "jax"} & loaded


def test_rows_of_another_machine_are_dropped(file, monkeypatch):
    monkeypatch.setattr(bench, "race", lambda *arguments: {"train_seeds": 1.0})
    file.write_text('{"machine": {"processor": "another"}, "race": {"old": {}}, "growth": {}}')
    bench.main(["--rows", "tiny", "--networks", "L1"])
    results = json.loads(file.read_text("utf-8"))
    assert results["race"] == {"tiny, L1": {"train_seeds": 1.0}}
    assert results["machine"] == bench.machine(*bench.packages())


def test_networks_are_those_of_the_rows():
    for network in bench.NETWORKS:
        kinds = [type(layer).__name__ for layer in bench.build((8, 8), network).layers]
        assert kinds.count("Dense") == 3
        assert ("Dropout" in kinds) == (network == "dropout")
        assert ("RandomRotation" in kinds) == (network == "augmentation")
