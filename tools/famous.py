"""Re-run well-known results: `python -m tools.famous nielsen`, settings in `results/PROTOCOL.md`.

An entry consists of parts, each trained with all its pairs of draw and seed. A part that is
finished lies in `results/famous/NAME.csv`, a row per pair and score, with the seconds of the
processor that it took; the same command trains what is missing.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers, regularizers
from scipy import ndimage
from sklearn.linear_model import Ridge
from tqdm.auto import tqdm

from utils import BookError
from utils.data import load_mnist, write_atomically
from utils.results import RESULTS
from utils.techniques import network
from utils.training import train_seeds

PAIRS = range(400, 405)  # draws and seeds
TEN_PAIRS = {"article": range(420, 430)}
CHOOSING = (430, 431)  # draws and seeds of the article's searches
LOG_LOSS = "sparse_categorical_crossentropy"
SPLITS = ("train", "val", "test")
ENTRIES = {}


def entry(function):
    """Register an entry: a function that returns its parts, names with functions of the pairs."""
    ENTRIES[function.__name__] = function()
    return function


def dense(widths, optimizer, loss=LOG_LOSS, activation="relu", last="softmax", **options):
    """Return a compiled network of dense layers for images of 28 by 28 pixels."""
    stack = [keras.Input((28, 28, 1)), layers.Flatten()]
    stack += [layers.Dense(width, activation=activation, **options) for width in widths]
    model = keras.Sequential([*stack, layers.Dense(10, activation=last, **options)])
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def rows(runs, **columns):
    """Return a tidy table of the last scores of runs, and of those at the best epochs."""
    tables = []
    for end, each in {"last": runs, **{f"best {m}": r for m, r in runs.best.items()}}.items():
        names = ["epochs", *(n for n in each.scores if n.endswith(("_accuracy", "_loss")))]
        table = each.scores[names].melt(ignore_index=False, var_name="score").reset_index()
        tables.append(table.assign(end=end, **columns))
    return pd.concat(tables)


def evaluated(model, mnist, splits=SPLITS):
    """Return a tidy table of a network's accuracy on the splits of a data set."""
    scores = {
        f"{split}_accuracy": model.evaluate(
            getattr(mnist, f"x_{split}"), getattr(mnist, f"y_{split}"), 500, verbose=0
        )[1]
        for split in splits
    }
    return pd.DataFrame({"score": list(scores), "value": list(scores.values())})


# Nielsen (2015), chapter 3


def summed_cross_entropy(y_true, y_pred):
    """Return Nielsen's cost of ten sigmoid units: their binary cross-entropies, added up."""
    wanted = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), 10)
    return 10 * keras.losses.binary_crossentropy(wanted, y_pred)


@entry
def nielsen():
    """784-30-10, sigmoid, 1,000 images, 400 epochs, with and without L2, two initializations."""

    def train(initializer, strength, seeds):
        options = {"kernel_regularizer": regularizers.L2(strength) if strength else None}
        if initializer == "unit Gaussian":
            normal = keras.initializers.RandomNormal(stddev=1.0)
            options |= {"kernel_initializer": normal, "bias_initializer": normal}

        def build():
            sgd = keras.optimizers.SGD(0.5)
            return dense([30], sgd, summed_cross_entropy, "sigmoid", "sigmoid", **options)

        data = load_mnist(1_000, seed=seeds[0], draws=len(seeds))
        kept = {"validation_freq": 5, "best": ["val_accuracy"], "keep_models": False}
        return rows(train_seeds(build, data, 400, seeds, 10, **kept))

    return {
        f"{initializer}, {'L2' if strength else 'no penalty'}": functools.partial(
            train, initializer, strength
        )
        for initializer in ("unit Gaussian", "Glorot")
        for strength in (0.0, 5e-5)
    }


# Zhang et al. (2017)


def spoilt(mnist, kind, seed):
    """Return a data set with labels drawn at random, or pixels shuffled, or pixels of noise."""
    rng = np.random.default_rng(seed)
    if kind == "random labels":
        return mnist._replace(y_train=rng.integers(0, 10, len(mnist.y_train)))
    if kind == "shuffled pixels":  # by the same permutation in all images
        order = rng.permutation(784)
        images = {f"x_{s}": getattr(mnist, f"x_{s}") for s in ("train", "val", "test")}
        return mnist._replace(
            **{k: x.reshape(-1, 784)[:, order].reshape(x.shape) for k, x in images.items()}
        )
    if kind == "noise for images":
        mean, spread = mnist.x_train.mean(), mnist.x_train.std()
        noise = rng.normal(mean, spread, mnist.x_train.shape).astype("float32")
        return mnist._replace(x_train=noise)
    return mnist


@entry
def zhang():
    """Three layers of 512 units on 10,000 images: true and random labels, spoilt images."""

    def train(kind, seeds):
        data = [spoilt(mnist, kind, k) for k, mnist in enumerate(
            load_mnist(10_000, seed=seeds[0], draws=len(seeds)))]  # fmt: skip
        runs = train_seeds(
            lambda: dense([512] * 3, keras.optimizers.Adam(1e-3)),
            data,
            100,
            seeds,
            validation_freq=10,
            keep_models=False,
        )
        learned = np.argmax(runs.history["accuracy"] >= 0.999, axis=1) + 1
        never = ~(runs.history["accuracy"] >= 0.999).any(axis=1)
        table = pd.DataFrame({"seed": seeds, "value": np.where(never, np.nan, learned)})
        epochs = table.assign(score="epochs until 99.9 % are learned", end="last")
        return pd.concat([rows(runs), epochs.dropna()])

    kinds = ("true labels", "random labels", "shuffled pixels", "noise for images")
    return {kind: functools.partial(train, kind) for kind in kinds}


# Belkin et al. (2019) and Nakkiran et al. (2020)


def squared_error(y_true, y_pred):
    """Return the squared error of ten outputs against labels that are one-hot."""
    wanted = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), 10)
    return keras.ops.mean(keras.ops.square(wanted - y_pred), axis=-1)


WIDTHS = (2, 4, 6, 8, 10, 12, 14, 17, 20, 25, 32, 50, 100, 200, 400)


@entry
def belkin():
    """One hidden layer of 2 to 400 units, squared error, 1,000 images, 20 % wrong labels."""

    def train(width, noise, seeds):
        data = load_mnist(1_000, label_noise=noise, seed=seeds[0], draws=len(seeds))
        runs = train_seeds(
            lambda: dense([width], keras.optimizers.Adam(1e-3), squared_error, last="linear"),
            data,
            1_500,
            seeds,
            validation_freq=50,
            best=["val_accuracy"],
            keep_models=False,
        )
        return rows(runs, width=width, label_noise=noise)

    return {
        f"{width} units, {noise:.0%} wrong": functools.partial(train, width, noise)
        for noise in (0.2, 0.0)
        for width in WIDTHS
    }


FEATURES = (10, 30, 100, 300, 600, 800, 900, 1_000, 1_100, 1_300, 2_000, 4_000, 8_000)
RIDGES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


@entry
def belkin_features():
    """Random ReLU features, the last layer solved by least squares, with and without L2."""

    def train(width, noise, seeds):
        tables = []
        for seed in seeds:
            mnist = load_mnist(1_000, label_noise=noise, seed=seed)
            kernel = np.random.default_rng(seed).normal(0, (2 / 784) ** 0.5, (784, width))
            units = {
                s: np.maximum(getattr(mnist, f"x_{s}").reshape(-1, 784) @ kernel, 0) for s in SPLITS
            }
            wanted = np.eye(10)[mnist.y_train]
            for strength in RIDGES:
                if strength:
                    ridge = Ridge(strength, fit_intercept=False).fit(units["train"], wanted)
                    last = ridge.coef_.T
                else:
                    last = np.linalg.lstsq(units["train"], wanted)[0]
                scores = {
                    f"{s}_accuracy": np.mean(
                        (units[s] @ last).argmax(1) == getattr(mnist, f"y_{s}")
                    )
                    for s in SPLITS
                } | {"norm": np.linalg.norm(last)}
                table = pd.DataFrame({"score": list(scores), "value": list(scores.values())})
                own = {"seed": seed, "width": width, "label_noise": noise, "strength": strength}
                tables.append(table.assign(end="last", **own))
        return pd.concat(tables)

    return {
        f"{width:,} features, {noise:.0%} wrong": functools.partial(train, width, noise)
        for noise in (0.2, 0.0)
        for width in FEATURES
    }


@entry
def nakkiran():
    """Test error over 4,000 epochs, three layers of 64 and of 256 units, 20 % wrong labels."""

    def train(width, seeds):
        data = load_mnist(1_000, label_noise=0.2, seed=seeds[0], draws=len(seeds))
        runs = train_seeds(
            lambda: dense([width] * 3, keras.optimizers.Adam(1e-4)),
            data,
            4_000,
            seeds,
            validation_freq=25,
            keep_models=False,
        )
        curve = pd.DataFrame(runs.history["val_accuracy"], index=seeds).rename_axis("seed")
        curve.columns = np.arange(1, curve.shape[1] + 1)
        curve = curve.melt(ignore_index=False, var_name="epoch").dropna().reset_index()
        return pd.concat([rows(runs), curve.assign(score="val_accuracy", end="curve")])

    return {f"3 x {width} units": functools.partial(train, width) for width in (64, 256)}


# Han et al. (2015)

KEPT = (0.3, 0.12, 0.08, 0.05, 0.03)  # shares of the weights


class Pruned(keras.constraints.Constraint):
    """Holds at zero what is zero in a kernel now."""

    def __init__(self, kernel):
        self.mask = keras.ops.cast(keras.ops.not_equal(kernel, 0), "float32")

    def __call__(self, weights):
        """Return the weights with the pruned ones at zero."""
        return weights * self.mask


def prune(model, share):
    """Set all but a share of each kernel to zero, the smallest first; of the last keep three times.

    So did the paper, with 8, 9 and 26 %.
    """
    *hidden, last = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    for layer in (*hidden, last):
        kernel, bias = layer.get_weights()
        limit = np.quantile(np.abs(kernel), 1 - share * (3 if layer is last else 1))
        layer.set_weights([np.where(np.abs(kernel) > limit, kernel, 0), bias])


def retrain(model, x, y, seed):
    """Train what is not pruned for three epochs more, at a tenth of the learning rate."""
    keras.utils.set_random_seed(seed)
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, layers.Dense)]
    for kernel in kernels:
        kernel.constraint = Pruned(kernel)
    model.compile(keras.optimizers.Adam(1e-4), LOG_LOSS, metrics=["accuracy"])
    model.fit(x, y, 128, 3, verbose=0)
    for kernel in kernels:
        kernel.constraint = None


def pruned(penalty, steps, seeds):
    """Train LeNet-300-100, and prune and retrain it: each share from the start, or in steps."""
    data = load_mnist(49_000, seed=seeds[0], draws=len(seeds))
    options = {"kernel_regularizer": penalty}
    runs = train_seeds(
        lambda: dense([300, 100], keras.optimizers.Adam(1e-3), **options), data, 15, seeds
    )
    tables = []
    for k, model in enumerate(runs.models):
        weights, mnist = model.get_weights(), data[k]
        for share in (1.0, *KEPT):
            if not steps:
                model.set_weights(weights)
            if share < 1:
                prune(model, share)
            for retrained in (False, True):
                if retrained:
                    retrain(model, mnist.x_train, mnist.y_train, seeds[k])
                own = {"seed": seeds[k], "kept": share, "retrained": retrained, "end": "last"}
                tables.append(evaluated(model, mnist, SPLITS[1:]).assign(**own))
    return pd.concat(tables)


PENALTIES = {"no penalty": None}
PENALTIES |= {f"L2 {s:g}": regularizers.L2(s) for s in (1e-5, 1e-4)}
PENALTIES |= {f"L1 {s:g}": regularizers.L1(s) for s in (1e-6, 1e-5)}


@entry
def han():
    """LeNet-300-100 on 49,000 images: pruned, and retrained; no penalty, L2 and L1."""
    return {name: functools.partial(pruned, penalty, False) for name, penalty in PENALTIES.items()}


@entry
def han_steps():
    """Prune the same networks from each share of the weights to the next smaller one."""
    names = ("no penalty", "L2 0.0001", "L1 1e-05")
    return {name: functools.partial(pruned, PENALTIES[name], True) for name in names}


# Srivastava et al. (2014)

WIDE = (1_024, 1_024, 2_048)


def dropped(rate, input_rate=0.0, dropout=0.0, **options):
    """Return a compiled network with dropout on its inputs and hidden layers."""
    stack = [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dropout(input_rate)]
    for units in WIDE:
        stack += [layers.Dense(units, activation="relu", **options), layers.Dropout(dropout)]
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.Adam(rate), LOG_LOSS, metrics=["accuracy"])
    return model


@entry
def srivastava():
    """Dropout's gain with 100 to 10,000 images: 1024-1024-2048, 1,500 mini-batches, two rates."""

    def train(n_train, rate, dropout, seeds):
        data = load_mnist(n_train, seed=seeds[0], draws=len(seeds))
        given = {"input_rate": 0.2, "dropout": 0.5} if dropout else {}
        epochs = round(1_500 / np.ceil(n_train / 100))
        runs = train_seeds(
            lambda: dropped(rate, **given),
            data,
            epochs,
            seeds,
            100,
            validation_freq=max(1, epochs // 30),
            best=["val_accuracy"],
            keep_models=False,
        )
        return rows(runs, n_train=n_train, learning_rate=rate)

    return {
        f"{n_train:,} images, rate {rate:g}, {'dropout' if dropout else 'plain'}":
        functools.partial(train, n_train, rate, dropout)
        for n_train in (100, 500, 1_000, 5_000, 10_000)
        for rate in (3e-4, 1e-3)
        for dropout in (False, True)
    }  # fmt: skip


@entry
def srivastava_rows():
    """Six rows of the paper's Table 9: 49,000 images, 1024-1024-2048, eight epochs."""

    def train(options, seeds):
        data = load_mnist(49_000, seed=seeds[0], draws=len(seeds))
        build = functools.partial(dropped, 3e-4, **options)
        return rows(train_seeds(build, data, 8, seeds, best=["val_accuracy"], keep_models=False))

    full = {"input_rate": 0.2, "dropout": 0.5}
    norm = {"kernel_constraint": keras.constraints.MaxNorm(2)}
    parts = {
        "no penalty": {},
        "L2": {"kernel_regularizer": regularizers.L2(1e-5)},
        "L2 + L1": {"kernel_regularizer": regularizers.L1L2(1e-6, 1e-5)},
        "max-norm": norm,
        "dropout + L2": full | {"kernel_regularizer": regularizers.L2(1e-6)},
        "dropout + max-norm": full | norm,
    }
    return {name: functools.partial(train, options) for name, options in parts.items()}


# Simard et al. (2003)


def distorted(images, kind, rng):
    """Return images of shape (n, 28, 28, 1), each distorted at random.

    "affine" turns, scales, shears and shifts; "elastic" moves every pixel by a field of noise that
    is smoothed by a Gaussian of 4 pixels and multiplied by 34 (Simard et al., 2003).
    """
    n = len(images)
    grid = np.mgrid[:28, :28].reshape(2, -1) - 13.5
    if kind == "affine":
        turn, shear = rng.uniform(-np.radians(15), np.radians(15), n), rng.uniform(-0.15, 0.15, n)
        scale = rng.uniform(0.9, 1.1, (n, 2, 1))
        cos, sin = np.cos(turn), np.sin(turn)
        matrices = np.array([[cos, -sin], [sin + shear * cos, cos - shear * sin]])
        places = scale * np.moveaxis(matrices, 2, 0) @ grid + rng.uniform(-2, 2, (n, 2, 1))
    else:
        noise = rng.uniform(-1, 1, (n, 2, 28, 28)).astype("float32")
        field = 34 * ndimage.gaussian_filter(noise, (0, 0, 4, 4), mode="constant")
        places = grid + field.reshape(n, 2, -1)
    pixels = np.broadcast_to(np.arange(n)[:, None], (n, 784))
    where = [pixels, *(np.moveaxis(places, 1, 0) + 13.5)]
    return ndimage.map_coordinates(images[..., 0], where, order=1).reshape(images.shape)


@entry
def simard():
    """784-800-10 on 49,000 images, 20 epochs: undistorted, affine and elastic distortions."""

    def train(kind, seeds):
        tables = []
        for seed in seeds:
            mnist = load_mnist(49_000, seed=seed)
            keras.utils.set_random_seed(seed)
            model = dense([800], keras.optimizers.Adam(1e-3))
            rng = np.random.default_rng(seed)
            for epoch in range(20):
                model.optimizer.learning_rate = 1e-3 if epoch < 14 else 1e-4
                x = distorted(mnist.x_train, kind, rng) if kind != "none" else mnist.x_train
                model.fit(x, mnist.y_train, 128, verbose=0)
            tables.append(evaluated(model, mnist).assign(seed=seed, end="last"))
        return pd.concat(tables)

    return {kind: functools.partial(train, kind) for kind in ("none", "affine", "elastic")}


# The article

FIVE = (500,) * 5
VALIDATION = 14_700


def whitened(mnist):
    """Return a data set whose images are whitened as `ImageDataGenerator(zca_whitening=True)` does.

    Mean and directions are those of the training images (ZCA: Bell and Sejnowski, 1997).
    """
    flat = mnist.x_train.reshape(len(mnist.x_train), -1)
    mean = flat.mean(axis=0)
    spread, directions = np.linalg.eigh(np.cov(flat - mean, rowvar=False))
    matrix = (directions / np.sqrt(np.maximum(spread, 0) + 1e-6)) @ directions.T

    def white(x):
        flat = (x.reshape(len(x), -1) - mean) @ matrix
        return flat.reshape(x.shape).astype("float32")

    return mnist._replace(**{f"x_{s}": white(getattr(mnist, f"x_{s}")) for s in SPLITS})


@entry
def article():
    """Its 34,300 and 14,700 images, 784-5x500-10, ten epochs: as printed, meant, and tuned."""

    def load(seeds):
        return load_mnist(34_300, VALIDATION, seed=seeds[0], draws=len(seeds))

    def sizes(mnist):
        return {"n_train": len(mnist.y_train), "n_val": len(mnist.y_val)}

    def train(options, seeds, data=None, **given):
        data = data or load(seeds)
        runs = train_seeds(
            lambda: network(hidden=FIVE, **options),
            data,
            10,
            seeds,
            **{"keep_models": False, "best": ["val_accuracy"]} | given,
        )
        return rows(runs, **sizes(data[0]))

    def other_seeds(options, seeds):
        """Dropout once more, on the same images, as under the article's augmentation."""
        table = train(options, [seed + 100 for seed in seeds], load(seeds))
        return table.assign(seed=table["seed"] - 100)

    def continued(seeds):
        """Ten epochs of dropout, `compile`, and up to ten more: the article's early stopping."""
        tables = []
        for seed, mnist in zip(seeds, load(seeds), strict=True):
            keras.utils.set_random_seed(seed)
            model = network(hidden=FIVE, rate=0.25)
            images = {"validation_data": mnist[2:4], "verbose": 0}
            model.fit(*mnist[:2], 128, 10, **images)
            model.compile("adam", LOG_LOSS, metrics=["accuracy"])
            stop = keras.callbacks.EarlyStopping("val_accuracy", patience=2)
            more = model.fit(*mnist[:2], 128, 10, callbacks=[stop], **images).history["loss"]
            table = evaluated(model, mnist).assign(seed=seed, end="last", epochs=len(more))
            tables.append(table.assign(**sizes(mnist)))
        return pd.concat(tables)

    def whitening(seeds):
        return train({"rate": 0.25}, seeds, [whitened(mnist) for mnist in load(seeds)])

    def stopped(seeds):
        stop = keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
        return train({}, seeds, callbacks=[stop], best=[])

    def tuned(settings, seeds):
        """Choose one of three settings by validation accuracy, and train it with other pairs."""
        tried = [train(options, CHOOSING).assign(choice=k) for k, options in enumerate(settings)]
        tried = pd.concat(tried)
        tried = tried[(tried["end"] == "last") & (tried["score"] == "val_accuracy")]
        best = tried.groupby("choice")["value"].mean().idxmax()
        tried = tried.assign(end="search")
        fresh = [seed + 20 for seed in seeds]
        return pd.concat([tried, train(settings[best], fresh).assign(choice=best)])

    printed = {
        "plain": {},
        "L2": {"penalty": regularizers.L2(1e-4)},
        "L1": {"penalty": regularizers.L1(1e-4)},
        "dropout": {"rate": 0.25},
    }
    parts = {f"printed: {k}": functools.partial(train, v) for k, v in printed.items()}
    parts["printed: augmentation"] = functools.partial(other_seeds, printed["dropout"])
    parts["printed: early stopping"] = continued
    parts |= {"meant: whitening": whitening, "meant: early stopping": stopped}
    searches = {
        "plain": [{"learning_rate": rate} for rate in (3e-4, 1e-3, 3e-3)],
        "L2": [{"penalty": regularizers.L2(s)} for s in (1e-6, 1e-5, 1e-4)],
        "L1": [{"penalty": regularizers.L1(s)} for s in (1e-7, 1e-6, 1e-5)],
        "dropout": [{"rate": s} for s in (0.1, 0.25, 0.5)],
        "augmentation": [{"shift": s} for s in (0.04, 0.08, 0.12)],
    }
    return parts | {f"tuned: {k}": functools.partial(tuned, v) for k, v in searches.items()}


# The command line


def run(name, folder=RESULTS / "famous", pairs=None):
    """Train the parts of an entry that are missing, and store each as it is finished."""
    file = Path(folder, f"{name}.csv")
    tables = [pd.read_csv(file)] if file.exists() else []
    known = set(tables[0]["part"]) if tables else set()
    todo = {part: train for part, train in ENTRIES[name].items() if part not in known}
    for part, train in tqdm(todo.items(), desc=name, disable=None):
        began = time.process_time()
        table = train(list(pairs or TEN_PAIRS.get(name, PAIRS)))
        seconds = round(time.process_time() - began, 1)
        table = table.assign(seconds=seconds, value=table["value"].map("{:.5g}".format))
        table.insert(0, "part", part)
        tables.append(table)
        write_atomically(file, pd.concat(tables).to_csv(index=False).encode())
    done = pd.concat(tables)
    minutes = done.groupby("part")["seconds"].first().sum() / 60
    print(f"{name}: {len(ENTRIES[name])} parts, {minutes:.0f} minutes of one core; {file}")


def main(arguments=None):
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.famous", description=__doc__)
    parser.add_argument("names", nargs="+", choices=ENTRIES, metavar="NAME")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            run(name)
    except (BookError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: finished parts are kept; the same command goes on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
