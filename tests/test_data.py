"""The loader, against every source and every broken file that a reader may have."""

import gzip
import hashlib
import http.server
import os
import shutil
import threading
import time

import numpy as np
import pytest

import utils.data as data
from utils import BookError
from utils.data import load_fashion_mnist, load_mnist


@pytest.fixture
def fake(monkeypatch):
    """Arrays of MNIST's types and small shapes, accepted in place of the full set."""
    rng = np.random.default_rng(1)
    shapes = {"x_train": (60, 28, 28), "y_train": (60,), "x_test": (10, 28, 28), "y_test": (10,)}
    arrays = {
        key: rng.integers(0, 10 if key[0] == "y" else 256, shape, dtype="uint8")
        for key, shape in shapes.items()
    }
    sums = {key: hashlib.sha256(array.tobytes()).hexdigest() for key, array in arrays.items()}
    monkeypatch.setattr(data, "SHAPES", shapes)
    monkeypatch.setattr(data, "SHA256", {"MNIST": sums, "Fashion-MNIST": sums})
    return arrays


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No MNIST_NPZ, an empty Keras home, and a download address that refuses at once."""
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    monkeypatch.delenv("FASHION_MNIST_NPZ", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "KERAS_URL", "http://127.0.0.1:9/")
    return tmp_path


def _named(monkeypatch, path):
    monkeypatch.setenv("MNIST_NPZ", str(path))


def test_named_file(fake, alone, monkeypatch, capsys):
    np.savez(alone / "m.npz", **fake)
    _named(monkeypatch, alone / "m.npz")
    mnist = load_mnist(n_train=40, n_val=20)
    assert mnist.x_train.shape == (40, 28, 28, 1) and mnist.x_train.dtype == np.float32
    assert mnist.x_train.min() >= 0 and mnist.x_train.max() == 1
    np.testing.assert_array_equal(mnist.x_test[..., 0] * 255, fake["x_test"])
    np.testing.assert_array_equal(mnist.y_test, fake["y_test"])
    # training and validation are a partition of the training images, labels still attached
    images = np.concatenate([mnist.x_train, mnist.x_val])[..., 0] * 255
    labels = np.concatenate([mnist.y_train, mnist.y_val])
    pairs = {(i.round().astype("uint8").tobytes(), y) for i, y in zip(images, labels, strict=True)}
    assert pairs == {
        (i.tobytes(), y) for i, y in zip(fake["x_train"], fake["y_train"], strict=True)
    }
    assert capsys.readouterr().out.count("\n") == 1


def test_seed_and_nesting(fake, alone, monkeypatch):
    np.savez(alone / "m.npz", **fake)
    _named(monkeypatch, alone / "m.npz")
    small, large = load_mnist(10, 20), load_mnist(30, 20)
    np.testing.assert_array_equal(small.x_val, large.x_val)
    np.testing.assert_array_equal(small.x_train, large.x_train[:10])
    assert small.x_test is large.x_test and not small.x_test.flags.writeable  # one copy, shared
    assert not np.array_equal(load_mnist(10, 20, seed=1).x_train, small.x_train)


def test_label_noise(fake, alone, monkeypatch):
    np.savez(alone / "m.npz", **fake)
    _named(monkeypatch, alone / "m.npz")
    clean, noisy = load_mnist(40, 20), load_mnist(40, 20, label_noise=0.25)
    assert (clean.y_train != noisy.y_train).sum() == 10
    assert set(noisy.y_train) <= set(range(10))
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_val, noisy.y_val)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)


def test_wrong_labels_are_drawn_evenly_from_the_nine_others():
    four = np.full(90_001, 4)
    _, labels = data._draw(four, np.arange(90_001), 90_000, 1, 1 - 1e-9, seed=0)
    assert labels[0] == 4, "the validation label is right"
    labels = labels[1:]
    counts = np.bincount(labels, minlength=10)
    assert counts[4] == 0
    assert abs(np.delete(counts, 4) - 10_000).max() < 500  # five standard deviations


def test_draws_are_the_data_sets_of_their_seeds(fake, alone, monkeypatch, capsys):
    np.savez(alone / "m.npz", **fake)
    _named(monkeypatch, alone / "m.npz")
    draws = load_mnist(20, 10, 0.2, seed=5, draws=3)
    assert capsys.readouterr().out.startswith("MNIST: 3 draws of 20 training and 10 validation")
    assert len(draws) == len(list(draws)) == 3
    for k, drawn in enumerate(draws):
        for ours, alone_drawn in zip(drawn, load_mnist(20, 10, 0.2, seed=5 + k), strict=True):
            np.testing.assert_array_equal(ours, alone_drawn)
            assert getattr(ours, "dtype", None) == getattr(alone_drawn, "dtype", None)
    assert draws[0].x_test is draws[2].x_test
    assert draws.pixels.dtype == np.uint8 and len(draws.pixels) <= 60
    assert not np.array_equal(draws[0].x_train, draws[1].x_train)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 0}, "draws=0 is not"),
        ({"draws": 2.0}, "draws=2.0 is not"),
        ({"seed": -1}, "seed=-1 is not"),
        ({"seed": None}, "seed=None is not"),
        ({"n_train": True}, "n_train=True is not"),
    ],
)
def test_numbers_that_are_none(arguments, message):
    with pytest.raises(BookError, match=message):
        load_mnist(**({"n_train": 10, "n_val": 10} | arguments))


def _break(fake, path, how):
    """Write a broken file at `path`."""
    arrays = dict(fake)
    if how == "folder":
        path.mkdir()
    elif how == "text":
        path.write_text("these are not digits\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "single array":
        with path.open("wb") as file:
            np.save(file, fake["x_train"])
    elif how != "missing":
        if how == "no x_test":
            del arrays["x_test"]
        elif how == "shape":
            arrays["x_train"] = arrays["x_train"].reshape(60, 784)
        elif how == "dtype":
            arrays["y_train"] = arrays["y_train"].astype("int64")
        elif how == "pixel":
            arrays["x_test"] = arrays["x_test"].copy()
            arrays["x_test"][3, 4, 5] ^= 1
        elif how == "pickled":
            arrays["x_train"] = np.array([{"digit": 1}], dtype=object)
        np.savez(path, **arrays)
        if how == "truncated":
            path.write_bytes(path.read_bytes()[:-3_000])
        elif how == "flipped byte":
            content = bytearray(path.read_bytes())
            content[5_000] ^= 255
            path.write_bytes(content)


BROKEN = {
    "missing": "does not exist",
    "folder": "is a folder",
    "text": "is not an npz archive",
    "empty": "truncated",
    "single array": "single array",
    "truncated": "truncated or damaged",
    "flipped byte": "truncated or damaged",
    "no x_test": "no array called x_test",
    "shape": "(60, 784) instead of (60, 28, 28)",
    "dtype": "int64 instead of uint8",
    "pixel": "other content than MNIST in x_test",
    "pickled": "never loaded",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_named_file_is_refused(how, fake, alone, monkeypatch):
    path = alone / "m.npz"
    _break(fake, path, how)
    _named(monkeypatch, path)
    with pytest.raises(BookError) as caught:
        load_mnist(10, 10)
    message = str(caught.value)
    assert BROKEN[how] in message and str(path) in message and "unset MNIST_NPZ" in message
    assert "\n" not in message
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("how", ["text", "truncated", "pixel", "pickled"])
def test_a_corrupt_cache_is_refused_and_kept(how, fake, alone):
    cached = alone / "keras" / "datasets" / "mnist.npz"
    cached.parent.mkdir(parents=True)
    _break(fake, cached, how)
    with pytest.raises(BookError, match="delete this file"):
        load_mnist(10, 10)
    assert cached.exists()


def fashion_files(arrays):
    """Return the four files in which Fashion-MNIST's makers publish such arrays."""
    headers = {key: bytes([0, 0, 8, array.ndim]) for key, array in arrays.items()}
    lengths = {key: np.array(array.shape, ">i4").tobytes() for key, array in arrays.items()}
    return {
        name: gzip.compress(headers[key] + lengths[key] + arrays[key].tobytes())
        for key, name in data.FASHION_FILES.items()
    }


@pytest.fixture
def server(fake, alone, monkeypatch):
    """A server for the fake archive; `behaviour["slow"]` makes it trickle."""
    np.savez(alone / "m.npz", **fake)
    files = {"mnist.npz": (alone / "m.npz").read_bytes(), **fashion_files(fake)}
    behaviour = {"slow": False, "body": None}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if not behaviour["slow"]:
                self.wfile.write(behaviour["body"] or files[self.path[1:]])
            while behaviour["slow"]:
                try:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
                except OSError:
                    return

        def log_message(self, *arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    monkeypatch.setattr(data, "KERAS_URL", f"http://127.0.0.1:{web.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield behaviour
    behaviour["slow"] = False
    web.shutdown()


def test_download_is_cached(server, alone, monkeypatch):
    first = load_mnist(10, 10)
    cached = alone / "keras" / "datasets" / "mnist.npz"
    assert [p.name for p in cached.parent.iterdir()] == ["mnist.npz"]
    monkeypatch.setattr(data, "KERAS_URL", "http://127.0.0.1:9/none/")
    np.testing.assert_array_equal(load_mnist(10, 10).x_train, first.x_train)


def test_download_into_a_home_that_cannot_be_written(server, alone, monkeypatch):
    (alone / "blocked").write_text("a file where the folder should be")
    monkeypatch.setenv("KERAS_HOME", str(alone / "blocked" / "keras"))
    assert load_mnist(10, 10).source == "Keras's download"


def test_slow_download_is_given_up(server, alone, monkeypatch):
    server["slow"] = True
    monkeypatch.setattr(data, "DOWNLOAD_SECONDS", 0.5)
    began = time.monotonic()
    assert "sample" in load_mnist(10, 10).source
    assert time.monotonic() - began < 15
    assert not (alone / "keras").exists()


def test_a_login_page_instead_of_mnist_is_not_cached(server, alone):
    server["body"] = b"<html>Please sign in</html>"
    assert "sample" in load_mnist(10, 10).source
    assert not (alone / "keras").exists()


def test_fashion_mnist_from_a_file_the_network_and_the_cache(
    server, fake, alone, monkeypatch, capsys
):
    np.savez(alone / "f.npz", **fake)
    monkeypatch.setenv("FASHION_MNIST_NPZ", str(alone / "f.npz"))
    named = load_fashion_mnist(20, 10, 0.2, seed=3)
    monkeypatch.delenv("FASHION_MNIST_NPZ")
    fetched = load_fashion_mnist(20, 10, 0.2, seed=3)
    monkeypatch.setattr(data, "KERAS_URL", "http://127.0.0.1:9/none/")
    for other in (fetched, load_fashion_mnist(20, 10, 0.2, seed=3)):
        for ours, theirs in zip(named[:6], other[:6], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    folder = alone / "keras" / "datasets" / "fashion-mnist"
    assert {file.name for file in folder.iterdir()} == set(data.FASHION_FILES.values())
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Fashion-MNIST: 20 training and 10 validation images from the file")
    assert said[1] == said[2] and "Keras's download" in said[2]
    assert len(load_fashion_mnist(20, 10, draws=3)) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-20], "is truncated or damaged"),
        (lambda content: b"<html>Please sign in</html>", "is truncated or damaged"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "instead of y_train's"),
        (
            lambda content: gzip.compress(gzip.decompress(content)[:-1] + b"\x0b"),
            "has other content than Fashion-MNIST in y_train",
        ),
    ],
)
def test_a_damaged_file_of_fashion_mnist(spoil, message, server, fake, alone):
    folder = alone / "keras" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, content in fashion_files(fake).items():
        (folder / name).write_bytes(spoil(content) if name.startswith("train-labels") else content)
    with pytest.raises(BookError, match=message) as caught:
        load_fashion_mnist(20, 10)
    assert "train-labels" in str(caught.value) and "delete this file" in str(caught.value)


def test_fashion_mnist_without_a_network(alone):
    message = "Fashion-MNIST could not be downloaded: try again later, or name a file with its"
    with pytest.raises(BookError, match=message):
        load_fashion_mnist()


def test_another_download_than_fashion_mnist_is_not_cached(server, alone):
    server["body"] = gzip.compress(bytes(60 * 784 + 16))
    with pytest.raises(BookError, match=r"the download of train-images.* has other content"):
        load_fashion_mnist(20, 10)
    assert not (alone / "keras").exists()


def test_sample_without_a_network(alone, capsys):
    mnist = load_mnist(2_500, 1_000)
    assert "5,000-digit sample" in capsys.readouterr().out
    assert len(mnist.x_test) == 1_500
    everything = np.concatenate([mnist.x_train, mnist.x_val, mnist.x_test]).reshape(5_000, -1)
    assert len(np.unique(everything, axis=0)) == 5_000  # no image in two sets
    labels = np.concatenate([mnist.y_train, mnist.y_val, mnist.y_test])
    assert (np.bincount(labels) == 500).all()
    with pytest.raises(BookError, match="ask for fewer"):
        load_mnist(42_000, 18_000)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_train": 0},
        {"n_train": 2.5},
        {"n_val": 0},
        {"label_noise": 1.0},
        {"label_noise": -0.1},
        {"label_noise": float("nan")},
        {"n_train": 60_000},
        {"reserved": True},
    ],
)
def test_arguments_out_of_range(arguments, alone):
    with pytest.raises(BookError, match=next(iter(arguments))) as caught:
        load_mnist(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not os.environ.get("MNIST_NPZ"), reason="MNIST_NPZ is not set")
def test_the_full_mnist(tmp_path, monkeypatch):
    path = tmp_path / "mnist.npz"
    shutil.copy(os.environ["MNIST_NPZ"], path)
    mnist = load_mnist(34_300, 14_700)
    assert len(mnist.x_test) == 10_000
    with pytest.raises(BookError, match="has 50,000 to draw from: ask for fewer"):
        load_mnist(42_000, 18_000)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["x_train"][59_999, 14, 14] ^= 1
    np.savez(path, **arrays)
    monkeypatch.setenv("MNIST_NPZ", str(path))
    with pytest.raises(BookError, match="other content"):
        load_mnist()


@pytest.mark.skipif(not os.environ.get("MNIST_NPZ"), reason="MNIST_NPZ is not set")
def test_reserved_images_are_in_no_draw():
    """All that can be drawn and what is reserved are the training images, each once."""
    mnist = load_mnist(49_000, 1_000, seed=3, reserved=True)
    with np.load(os.environ["MNIST_NPZ"]) as archive:
        images, labels = archive["x_train"], archive["y_train"]
        assert not np.array_equal(archive["x_test"] / np.float32(255), mnist.x_test[..., 0])
    parts = [mnist.x_train, mnist.x_val, mnist.x_test]
    ours = np.concatenate([np.round(255 * part) for part in parts]).reshape(60_000, -1)
    order, other = (np.lexsort(table.T[300:500]) for table in (ours, images.reshape(60_000, -1)))
    np.testing.assert_array_equal(ours[order], images.reshape(60_000, -1)[other])
    own = np.concatenate([mnist.y_train, mnist.y_val, mnist.y_test])
    np.testing.assert_array_equal(np.bincount(own), np.bincount(labels))


@pytest.mark.skipif(not os.environ.get("FASHION_MNIST_NPZ"), reason="FASHION_MNIST_NPZ is not set")
def test_the_full_fashion_mnist():
    assert len(load_fashion_mnist(34_300, 14_700).x_test) == 10_000
