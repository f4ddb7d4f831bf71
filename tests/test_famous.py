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
    for name, value in {"KEPT": (0.1,), "WIDE": (8,), "FIVE": (8,), "VALIDATION": 50}.items():
        monkeypatch.setattr(famous, name, value)


def seeds_of(part, pairs):
    """Return the pairs of a part; what is tuned searches and reports with others."""
    return {*famous.CHOOSING, *(p + 20 for p in pairs)} if "tuned" in part else set(pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", famous.ENTRIES)
def test_a_part_of_each_entry_runs(name, short, tmp_path, monkeypatch, rng):
    """One that is drawn at random."""
    part = str(rng.choice(list(famous.ENTRIES[name])))
    monkeypatch.setitem(famous.ENTRIES, name, {part: famous.ENTRIES[name][part]})
    famous.run(name, tmp_path, range(400, 402))
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert set(table["part"]) == {part} and set(table["seed"]) == seeds_of(part, [400, 401])
    scores = table[table["score"].str.endswith("_accuracy")]
    assert scores["value"].between(0, 1).all() and "test_accuracy" in set(scores["score"])


def test_an_entry_goes_on(short, tmp_path, monkeypatch, capsys):
    """What is stored is not trained again."""
    first, other = list(famous.ENTRIES["nielsen"].items())[1:3]
    monkeypatch.setitem(famous.ENTRIES, "nielsen", dict([first]))
    famous.run("nielsen", tmp_path, range(400, 402))
    before = pd.read_csv(tmp_path / "nielsen.csv")
    monkeypatch.setitem(famous.ENTRIES, "nielsen", dict([first, other]))
    famous.run("nielsen", tmp_path, range(400, 402))
    table = pd.read_csv(tmp_path / "nielsen.csv")
    assert "nielsen: 2 parts" in capsys.readouterr().out
    assert set(table["part"]) == {first[0], other[0]}
    pd.testing.assert_frame_equal(table[table["part"] == first[0]][before.columns], before)


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


@pytest.mark.parametrize("kind", ["affine", "elastic"])
def test_distorted_images(kind):
    """Ink stays, near where it was; each image is distorted in its own way, by its seed alone."""
    disc = np.hypot(*(np.mgrid[:28, :28] - 13.5)) < 5
    images = np.repeat(disc[None, :, :, None].astype("float32"), 50, axis=0)
    ours, again = (famous.distorted(images, kind, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(ours, again)
    assert ours.shape == images.shape and ours.dtype == images.dtype
    ink = ours.sum(axis=(1, 2, 3)) / disc.sum()
    assert ink.mean() == pytest.approx(1, abs=0.1) and 0.02 < ink.std() < 0.3
    centres = np.tensordot(ours[..., 0], np.mgrid[:28, :28], ([1, 2], [1, 2])) / ours.sum((1, 2))
    moved = centres - 13.5
    assert np.abs(moved.mean(axis=0)).max() < 0.6 and 0.3 < moved.std() < 3


def test_whitened_images():
    """Pixels of the training images that vary have mean 0, variance 1 and no correlation."""
    mnist = famous.whitened(load_mnist(3_000, 50))
    flat = mnist.x_train.reshape(3_000, -1).astype(float)
    assert np.abs(flat.mean(axis=0)).max() < 1e-3 and mnist.x_val.shape == (50, 28, 28, 1)
    covariance = np.cov(flat, rowvar=False)
    inner = covariance.reshape(28, 28, 28, 28)[12:16, 12:16, 12:16, 12:16].reshape(16, 16)
    np.testing.assert_allclose(inner, np.eye(16), atol=0.1)


def test_misuse(capsys):
    with pytest.raises(SystemExit):
        famous.main(["nobody"])
    assert "invalid choice: 'nobody'" in capsys.readouterr().err


STORED = [name for name in famous.ENTRIES if (famous.RESULTS / "famous" / f"{name}.csv").exists()]


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_is_whole(name):
    """All parts, each with the pairs of the protocol, and the time it took."""
    table = pd.read_csv(famous.RESULTS / "famous" / f"{name}.csv")
    pairs = famous.TEN_PAIRS.get(name, famous.PAIRS)
    stored = table.groupby("part")["seed"].unique().map(set).to_dict()
    assert stored == {part: seeds_of(part, pairs) for part in famous.ENTRIES[name]}
    assert (table["seconds"] > 0).all() and table[["score", "value"]].notna().all(axis=None)


@pytest.mark.slow
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
