"""Time ten seeds of `train_seeds` against ten calls of `fit`, side by side: `make bench`.

Every row trains the same networks on the same images for the same epochs and batch size, with
validation after each epoch. Each contestant has a process of its own, since not all packages can
be loaded into one; a small network, untimed, goes first in each, and then the contestants take
turns. `results/bench.json` holds the medians. What runs one seed after the other is timed on
`--fits` seeds and scaled to ten. GFLOP/s counts 6 operations per weight and training image and 2
per weight and validation image; "of peak" is the share of the speed of one large matrix product
measured in the same turn.
"""

import argparse
import contextlib
import functools
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.tables import machine
from utils.data import load_mnist, write_atomically
from utils.results import RESULTS

FILE = RESULTS / "bench.json"
BATCH, SEEDS, N_VAL = 128, 10, 1_000
WORKHORSE, ARTICLE, SMALL = (256,) * 3, (500,) * 5, (30,)


class Row(NamedTuple):
    """The units of the hidden layers, the number of training images, and of epochs."""

    hidden: tuple
    n_train: int
    epochs: int


ROWS = {
    "3×256, 1,000": Row(WORKHORSE, 1_000, 40),
    "3×256, 3,000": Row(WORKHORSE, 3_000, 15),
    "5×500, 3,000": Row(ARTICLE, 3_000, 10),
    "5×500, 42,000": Row(ARTICLE, 42_000, 1),
    "1×30, 1,000": Row(SMALL, 1_000, 40),
}
NETWORKS = ("plain", "L2", "L1", "dropout", "augmentation")


def build(hidden, network, steps_per_execution=1):
    """Return a compiled Keras model."""
    import keras
    from keras import layers, regularizers

    penalty = {"L2": regularizers.L2(1e-4), "L1": regularizers.L1(1e-4)}.get(network)
    stack = [keras.Input((28, 28, 1))]
    if network == "augmentation":
        stack += [layers.RandomRotation(0.04), layers.RandomTranslation(0.08, 0.08)]
    stack.append(layers.Flatten())
    for units in hidden:
        stack.append(layers.Dense(units, activation="relu", kernel_regularizer=penalty))
        if network == "dropout":
            stack.append(layers.Dropout(0.25))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    return model


def ours(hidden, network, mnist, epochs, seeds):
    """Train all seeds at once."""
    from utils.training import train_seeds

    train_seeds(lambda: build(hidden, network), mnist, epochs, range(seeds), BATCH)


def fit(hidden, network, mnist, epochs, seeds, steps_per_execution=1):
    """Run `fit` once per seed."""
    import keras

    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        build(hidden, network, steps_per_execution).fit(
            mnist.x_train,
            mnist.y_train,
            batch_size=BATCH,
            epochs=epochs,
            verbose=0,
            validation_data=(mnist.x_val, mnist.y_val),
        )


def fit_in_blocks(hidden, network, mnist, epochs, seeds):
    """Run `fit` with as many steps per call as an epoch has, its best setting here."""
    fit(hidden, network, mnist, epochs, seeds, -(-len(mnist.x_train) // BATCH))


def torch_loop(hidden, network, mnist, epochs, seeds):
    """Train in PyTorch as its tutorials do; plain, L2, L1 and dropout."""
    import torch
    from torch import nn

    images, labels, x_val, y_val = (
        torch.from_numpy(np.ascontiguousarray(a))
        for a in (mnist.x_train, mnist.y_train, mnist.x_val, mnist.y_val)
    )
    data = torch.utils.data.TensorDataset(images, labels)
    for seed in range(seeds):
        torch.manual_seed(seed)
        stack, width = [nn.Flatten()], 784
        for units in hidden:
            stack += [nn.Linear(width, units), nn.ReLU()]
            if network == "dropout":
                stack.append(nn.Dropout(0.25))
            width = units
        model = nn.Sequential(*stack, nn.Linear(width, 10))
        optimizer, loss_of = torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
        kernels = [p for p in model.parameters() if p.ndim == 2][:-1]
        for _ in range(epochs):
            model.train()
            for x, y in torch.utils.data.DataLoader(data, BATCH, shuffle=True):
                optimizer.zero_grad()
                loss = loss_of(model(x), y)
                if network == "L2":
                    loss = loss + 1e-4 * sum((w**2).sum() for w in kernels)
                elif network == "L1":
                    loss = loss + 1e-4 * sum(w.abs().sum() for w in kernels)
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                scores = model(x_val)
                loss_of(scores, y_val).item(), (scores.argmax(1) == y_val).float().mean().item()


def scikit_learn(hidden, network, mnist, epochs, seeds):
    """Train scikit-learn's MLPClassifier epoch by epoch; plain and L2."""
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x, x_val = (images.reshape(len(images), -1) for images in (mnist.x_train, mnist.x_val))
    for seed in range(seeds):
        alpha = 1e-4 if network == "L2" else 0.0
        model = MLPClassifier(hidden, batch_size=BATCH, alpha=alpha, random_state=seed)
        for _ in range(epochs):
            model.partial_fit(x, mnist.y_train, classes=range(10))
            predicted = model.predict_proba(x_val)
            log_loss(mnist.y_val, predicted, labels=range(10))
            (predicted.argmax(axis=1) == mnist.y_val).mean()


def jax_vmap(hidden, network, mnist, epochs, seeds):
    """Train all seeds in JAX with `vmap`, compilation included; plain, L2, L1 and dropout."""
    import jax
    import jax.numpy as jnp

    jax.clear_caches()
    sizes = (784, *hidden, 10)
    x, x_val = (jnp.asarray(a.reshape(len(a), -1)) for a in (mnist.x_train, mnist.x_val))
    y, y_val = jnp.asarray(mnist.y_train), jnp.asarray(mnist.y_val)

    def forward(weights, images, key=None):
        for i, (kernel, bias) in enumerate(weights):
            images = images @ kernel + bias
            if i < len(hidden):
                images = jax.nn.relu(images)
                if network == "dropout" and key is not None:
                    keep = jax.random.bernoulli(jax.random.fold_in(key, i), 0.75, images.shape)
                    images = jnp.where(keep, images / 0.75, 0)
        return jax.nn.log_softmax(images)

    def loss_of(weights, rows, key):
        scores = forward(weights, x[rows], key)
        loss = -jnp.take_along_axis(scores, y[rows][:, None], axis=1).mean()
        kernels = [kernel for kernel, _ in weights[:-1]]
        if network == "L2":
            loss += 1e-4 * sum((w**2).sum() for w in kernels)
        elif network == "L1":
            loss += 1e-4 * sum(jnp.abs(w).sum() for w in kernels)
        return loss

    def adam(weights, first, second, gradient, t):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = jax.tree.map(
            lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), weights, first, second
        )
        return weights, first, second

    def start(key):
        keys = jax.random.split(key, len(sizes))
        init = jax.nn.initializers.glorot_uniform()
        return [
            (init(k, (a, b)), jnp.zeros(b)) for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def step(state, rows, key):
        weights, first, second, t = state
        gradient = jax.grad(loss_of)(weights, rows, key)
        return (*adam(weights, first, second, gradient, t + 1), t + 1)

    def epoch(state, key):
        n = len(x)
        order = jax.random.permutation(key, n)
        whole = order[: n // BATCH * BATCH].reshape(-1, BATCH)

        def body(state, i_rows):
            i, rows = i_rows
            return step(state, rows, jax.random.fold_in(key, i)), None

        state, _ = jax.lax.scan(body, state, (jnp.arange(len(whole)), whole))
        if n % BATCH:
            state = step(state, order[n // BATCH * BATCH :], jax.random.fold_in(key, n))
        scores = forward(state[0], x_val)
        loss = -jnp.take_along_axis(scores, y_val[:, None], axis=1).mean()
        return state, loss, (scores.argmax(axis=1) == y_val).mean()

    many = jax.jit(jax.vmap(epoch))
    keys = jax.random.split(jax.random.key(0), seeds)
    weights = jax.vmap(start)(keys)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, zeros, jnp.zeros(seeds))
    for i in range(epochs):
        state, *scores = many(state, jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys))
        jax.block_until_ready((state, scores))


class Contestant(NamedTuple):
    """A function, the networks that it trains, its package, and whether seeds come in turn."""

    train: Callable
    networks: tuple
    package: str
    in_turn: bool


CONTESTANTS = {
    "train_seeds": Contestant(ours, NETWORKS, "tensorflow", False),
    "fit": Contestant(fit, NETWORKS, "tensorflow", True),
    "fit, blocks": Contestant(fit_in_blocks, NETWORKS, "tensorflow", True),
    "PyTorch": Contestant(torch_loop, ("plain", "L2", "L1", "dropout"), "torch", True),
    "scikit-learn": Contestant(scikit_learn, ("plain", "L2"), "sklearn", True),
    "JAX vmap": Contestant(jax_vmap, ("plain", "L2", "L1", "dropout"), "jax", False),
}


def sgemm_peak(n=3_000):
    """Return the GFLOP/s of one large product of float32 matrices."""
    import tensorflow as tf

    matrix = tf.random.normal((n, n))
    tf.matmul(matrix, matrix)
    began = time.perf_counter()
    tf.matmul(matrix, matrix).numpy()
    return 2 * n**3 / (time.perf_counter() - began) / 1e9


def operations(row, n_val):
    """Return the floating-point operations of ten seeds of one row."""
    sizes = (784, *row.hidden, 10)
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return SEEDS * row.epochs * weights * (6 * row.n_train + 2 * n_val)


@functools.cache
def data(n_train):
    """Return images for a row; one batch of test images keeps the final scores out of the times."""
    with contextlib.redirect_stdout(io.StringIO()):
        mnist = load_mnist(n_train=n_train, n_val=N_VAL)
    return mnist._replace(x_test=mnist.x_test[:500], y_test=mnist.y_test[:500])


def seconds(name, row, network, seeds):
    """Return how long a contestant takes in this process, without imports and loading of data."""
    train, mnist = CONTESTANTS[name].train, data(row.n_train)
    began = time.perf_counter()
    train(row.hidden, network, mnist, row.epochs, seeds)
    return time.perf_counter() - began


@contextlib.contextmanager
def processes(names):
    """Start a process per contestant, each of which has trained a small network already."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for name in names
        }
        small = Row((8,), 256, 1)
        begun = [pool.submit(seconds, name, small, "plain", 1) for name, pool in pools.items()]
        for future in begun:
            future.result()
        yield pools


def race(row, network, repeats, fits):
    """Return the median seconds per contestant for ten seeds, the ratio to `fit`, and the speed."""
    names = [
        name
        for name, contestant in CONTESTANTS.items()
        if network in contestant.networks and importlib.util.find_spec(contestant.package)
    ]
    took, peaks = defaultdict(list), []
    with processes(names) as pools:
        for _ in range(repeats):
            peaks.append(pools["train_seeds"].submit(sgemm_peak).result())
            for name, pool in pools.items():
                seeds = fits if CONTESTANTS[name].in_turn else SEEDS
                future = pool.submit(seconds, name, row, network, seeds)
                took[name].append(SEEDS / seeds * future.result())
    medians = {name: round(statistics.median(values), 2) for name, values in took.items()}
    speed = operations(row, N_VAL) / medians["train_seeds"] / 1e9
    share = round(speed / statistics.median(peaks), 2)
    ratio = round(medians["fit"] / medians["train_seeds"], 1)
    return medians | {"fit/train_seeds": ratio, "GFLOP/s": round(speed), "of peak": share}


def growth(row):
    """Return the seconds of `train_seeds` for more and more seeds, and its peak memory in MB."""
    result = {}
    with processes(["train_seeds"]) as pools:
        for n in (1, 2, 5, 10, 20):
            future = pools["train_seeds"].submit(seconds, "train_seeds", row, "plain", n)
            result[f"{n} seed{'s' * (n > 1)}"] = round(future.result(), 2)
    for n in (10, 20):
        with processes(["train_seeds"]) as pools:
            result[f"MB at {n}"] = pools["train_seeds"].submit(peak_memory, row, n).result()
    return result


def peak_memory(row, seeds):
    """Return the peak memory in MB of this process after training for one epoch (on Linux)."""
    seconds("train_seeds", row._replace(epochs=1), "plain", seeds)
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return None


def packages():
    """Return the names of the contestants' packages that are installed."""
    names = {"tensorflow": "tensorflow", "keras": "keras", "torch": "torch", "jax": "jax"}
    names |= {"sklearn": "scikit-learn"}
    return [name for module, name in names.items() if importlib.util.find_spec(module)]


def main(arguments=None):
    """Time what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fits", type=int, default=1, help="seeds timed one after the other")
    options = parser.parse_args(arguments)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    results = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    here = machine(*packages())
    if results.get("machine") != here:  # one table holds one machine's times
        results = {"machine": here, "race": {}, "growth": {}}
    for name in options.rows:
        for network in options.networks:
            entry = race(ROWS[name], network, options.repeats, options.fits)
            keep(results, "race", f"{name}, {network}", entry)
        if "plain" in options.networks:
            keep(results, "growth", name, growth(ROWS[name]))


def keep(results, table, row, entry):
    """Write a finished row at once, in its place in the table, and print it."""
    results[table][row] = entry
    names = [*ROWS, *(f"{name}, {network}" for name in ROWS for network in NETWORKS)]
    results[table] = {name: results[table][name] for name in names if name in results[table]}
    results["date"] = time.strftime("%Y-%m-%d")
    write_atomically(FILE, json.dumps(results, indent=1, ensure_ascii=False).encode())
    print(f"{row}: {entry}", flush=True)


if __name__ == "__main__":
    main()
