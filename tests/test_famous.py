"""The famous results: each entry runs, is stored part by part, and does what its name says."""

import os

import keras
import numpy as np
import pandas as pd
import pytest

from tools import famous
from utils.data import load_mnist
from utils.training import train_seeds


@pytest.fixture
def short(monkeypatch):
    """Two epochs on 150 images in place of what takes minutes."""

    def few(build, data, epochs, *rest, **options):
        return train_seeds(build, data, 2, *rest, **options | {"validation_freq": 1})

    def small(n_train, n_val=50, **options):
        return load_mnist(150, 50, **options)

    monkeypatch.setattr(famous, "train_seeds", few)
    monkeypatch.setattr(famous, "load_mnist", small)
    monkeypatch.setattr(famous, "KEPT", (0.1,))


@pytest.mark.parametrize("name", famous.ENTRIES)
def test_an_entry_runs_and_goes_on(name, short, tmp_path, monkeypatch, capsys):
    """Its first and its last part; what is stored is not trained again."""
    parts = dict(list(famous.ENTRIES[name].items())[:: max(1, len(famous.ENTRIES[name]) - 1)])
    first, *_ = parts
    monkeypatch.setitem(famous.ENTRIES, name, {first: parts[first]})
    famous.run(name, tmp_path, range(400, 402))
    before = pd.read_csv(tmp_path / f"{name}.csv")
    monkeypatch.setitem(famous.ENTRIES, name, parts)
    famous.run(name, tmp_path, range(400, 402))
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert f"{name}: {len(parts)} parts" in capsys.readouterr().out
    assert set(table["part"]) == set(parts) and set(table["seed"]) == {400, 401}
    pd.testing.assert_frame_equal(table[table["part"] == first][before.columns], before)
    scores = table[table["score"].str.endswith("_accuracy")]
    assert scores["value"].between(0, 1).all() and "test_accuracy" in set(scores["score"])


def test_nielsen_s_cost():
    """His formula for two outputs that are right, the others at a half: by hand."""
    p = np.full((1, 10), 0.5, "float32")
    p[0, 3] = 0.9
    wanted = -(np.log(0.9) + 9 * np.log(0.5))
    cost = famous.summed_cross_entropy(np.array([3]), keras.ops.convert_to_tensor(p))
    assert float(np.asarray(cost)[0]) == pytest.approx(wanted, rel=1e-5)


def test_what_is_pruned_stays_at_zero(tiny):
    model = famous.dense([8, 6], "adam")
    famous.prune(model, 0.25)
    before = [layer.kernel.numpy() for layer in model.layers[1:]]
    assert [round(float(np.mean(kernel != 0)), 2) for kernel in before] == [0.25, 0.25, 0.75]
    mnist = load_mnist(100, 50)
    famous.retrain(model, mnist.x_train, mnist.y_train, 0)
    for kernel, layer in zip(before, model.layers[1:], strict=True):
        after = layer.kernel.numpy()
        assert (after[kernel == 0] == 0).all() and not np.array_equal(after, kernel)
        assert layer.kernel.constraint is None


def test_spoilt_data_sets():
    mnist = load_mnist(200, 50)
    noise, mixed, labels = (
        famous.spoilt(mnist, kind, 0)
        for kind in ("noise for images", "shuffled pixels", "random labels")
    )
    assert noise.x_train.mean() == pytest.approx(mnist.x_train.mean(), abs=0.01)
    for split in ("train", "test"):  # the same pixels in another order, one for all images
        one, other = (np.sort(getattr(m, f"x_{split}").reshape(-1, 784)) for m in (mnist, mixed))
        np.testing.assert_array_equal(one, other)
    assert 0.02 < np.mean(labels.y_train == mnist.y_train) < 0.25
    assert famous.spoilt(mnist, "true labels", 0) is mnist


def test_misuse(capsys):
    with pytest.raises(SystemExit):
        famous.main(["nobody"])
    assert "invalid choice: 'nobody'" in capsys.readouterr().err


STORED = [name for name in famous.ENTRIES if (famous.RESULTS / "famous" / f"{name}.csv").exists()]


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_is_whole(name):
    """All parts, each with the pairs of the protocol, and the time it took."""
    table = pd.read_csv(famous.RESULTS / "famous" / f"{name}.csv")
    assert set(table["part"]) == set(famous.ENTRIES[name])
    assert (table.groupby("part")["seed"].unique().map(set) == set(famous.PAIRS)).all()
    assert (table["seconds"] > 0).all() and table[["score", "value"]].notna().all(axis=None)


@pytest.mark.skipif(not os.environ.get("MNIST_NPZ"), reason="MNIST_NPZ is not set")
def test_nielsen_s_gain_comes_out_as_stored():
    """One pair of his networks, trained anew."""
    table = pd.read_csv(famous.RESULTS / "famous" / "nielsen.csv")
    scores = table[(table["score"] == "test_accuracy") & (table["end"] == "last")]
    for part in ("unit Gaussian, no penalty", "Glorot, L2"):
        stored = scores[scores["part"] == part].set_index("seed")["value"]
        now = famous.ENTRIES["nielsen"][part]([400])
        now = now[(now["score"] == "test_accuracy") & (now["end"] == "last")]["value"].item()
        assert now == pytest.approx(stored[400], abs=4 * stored.std())
