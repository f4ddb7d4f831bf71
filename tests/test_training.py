"""`train_seeds` by itself and against misuse; test_matrix.py holds it against `fit`."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import utils.training as training
from utils import BookError, seed_graph
from utils.data import load_mnist
from utils.training import train_seeds

FIVE = range(5)


def network(rate=0.0, optimizer="adam", front=(), shape=(2, 2, 1), classes=3):
    """Return a function that builds a small compiled network."""

    def build():
        model = keras.Sequential([keras.Input(shape), *(make() for make in front)])
        model.add(layers.Flatten())
        model.add(layers.Dense(8, "relu"))
        if rate:
            model.add(layers.Dropout(rate))
        model.add(layers.Dense(classes, activation="softmax"))
        log_loss = keras.metrics.SparseCategoricalCrossentropy(name="log_loss")
        chosen = optimizer() if callable(optimizer) else optimizer
        model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy", log_loss])
        return model

    return build


def test_same_seed_same_bits(tiny):
    build = network(rate=0.5)
    first, second = (train_seeds(build, tiny, 3, FIVE, 16) for _ in range(2))
    for name in first.history:
        np.testing.assert_array_equal(first.history[name], second.history[name])
    assert first.scores.equals(second.scores)


NOISY = {
    "dropout": network(rate=0.5),
    "noise": network(front=[lambda: layers.GaussianNoise(0.3)]),
    "augmentation": network(front=[layers.RandomFlip, lambda: layers.RandomTranslation(0.3, 0.3)]),
}


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", NOISY)
def test_a_seed_does_not_depend_on_its_companions(name, groups, tiny, monkeypatch):
    build = NOISY[name]
    size = 4 * build().count_params()
    monkeypatch.setattr(training, "GROUP_BYTES", size * 5 / groups)  # 5, or 2 + 2 + 1
    among, alone = (train_seeds(build, tiny, 2, seeds, 16) for seeds in (FIVE, [4]))
    for name in among.history:  # other shapes may round differently in the last bits
        np.testing.assert_allclose(among.history[name][4], alone.history[name][0], rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])  # its state starts at 0, at 0.1
def test_groups_of_seeds_change_nothing_but_rounding(optimizer, tiny, monkeypatch):
    build = network(rate=0.3, optimizer=optimizer)
    together = train_seeds(build, tiny, 2, FIVE, 16)
    monkeypatch.setattr(training, "GROUP_BYTES", 2 * 4 * build().count_params())  # 2 + 2 + 1
    apart = train_seeds(build, tiny, 2, FIVE, 16)
    np.testing.assert_allclose(together.scores, apart.scores, rtol=1e-4)
    assert list(apart.scores.index) == list(FIVE) and len(apart.models) == 5


def test_every_seed_has_its_own_weights_order_and_masks(tiny):
    def same_weights(rate=0.0):
        def build():
            model = network(rate=rate)()
            model.set_weights([np.full(w.shape, 0.1) for w in model.get_weights()])
            return model

        return build

    order = train_seeds(same_weights(), tiny, 1, FIVE, 16).history["loss"][:, 0]
    assert len(set(order)) == 5
    weights = train_seeds(network(), tiny, 1, FIVE, 16).history["loss"][:, 0]
    assert len(set(weights)) == 5

    def masks():  # the model's output is its input, dropped
        model = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dropout(0.5)])
        model.add(layers.Dense(3, "softmax", kernel_initializer="ones", use_bias=False))
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        return model

    whole = train_seeds(masks, tiny, 2, FIVE, len(tiny.x_train))
    assert len(set(whole.history["loss"].ravel())) == 1  # equal columns: softmax of equal numbers

    def sized():
        model = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dropout(0.5)])
        model.add(
            layers.Dense(3, "softmax", kernel_initializer=keras.initializers.Orthogonal(seed=1))
        )
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        return model

    drawn = train_seeds(sized, tiny, 3, FIVE, len(tiny.x_train)).history
    assert len(set(drawn["loss"].ravel())) == 15  # another mask per seed and per epoch
    assert len(set(drawn["val_loss"].ravel())) == 1  # and none at inference


def test_augmentation_acts_in_training_only(tiny):
    def build():
        flip = layers.RandomFlip("horizontal")
        model = keras.Sequential([keras.Input((2, 2, 1)), flip, layers.Flatten()])
        model.add(
            layers.Dense(3, "softmax", kernel_initializer=keras.initializers.Orthogonal(seed=1))
        )
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        return model

    history = train_seeds(build, tiny, 3, FIVE, 16).history
    assert len(set(history["loss"].ravel())) == 15
    assert len(set(history["val_loss"].ravel())) == 1


def first_stop(losses, patience):
    """Count epochs as the definition of patience has them, in plain Python."""
    for epoch in range(1, len(losses) + 1):
        if epoch - 1 - int(np.argmin(losses[:epoch])) >= patience and epoch > 1:
            return epoch
    return len(losses)


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping_per_seed(restore, tiny):
    build = network(optimizer=lambda: keras.optimizers.Adam(0.1))
    full = train_seeds(build, tiny, 25, range(6), 16)
    rule = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=restore)
    stopped = train_seeds(build, tiny, 25, range(6), 16, callbacks=[rule])
    expected = [first_stop(curve, 2) for curve in full.history["val_loss"]]
    assert len(set(expected)) > 1, "the test needs seeds that stop at different epochs"
    assert list(stopped.scores["epochs"]) == expected
    for row, epochs in enumerate(expected):
        curve = full.history["val_loss"][row, :epochs]
        np.testing.assert_array_equal(stopped.history["val_loss"][row, :epochs], curve)
        assert np.isnan(stopped.history["val_loss"][row, epochs:]).all()
        kept = curve.min() if restore else curve[-1]
        assert stopped.scores["val_loss"].iloc[row] == pytest.approx(kept, rel=1e-4)
        model = stopped.models[row]
        assert model.evaluate(tiny.x_val, tiny.y_val, verbose=0)[0] == pytest.approx(kept, rel=1e-4)
    assert rule.best is None  # the reader's own object is left as it was


INTERRUPTED = """
import keras, numpy as np, signal, sys, time
from keras import layers
from utils.data import Mnist
from utils.training import train_seeds
x, y = np.zeros((2000, 28, 28, 1), "float32"), np.arange(2000) % 10
mnist = Mnist(x, y, x[:100], y[:100], x[:100], y[:100], "zeros")
def build():
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten()])
    model.add(layers.Dense(256, "relu"))
    model.add(layers.Dense(10, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model
train_seeds(build, mnist, 1)
print("ready", flush=True)
try:
    train_seeds(build, mnist, 100_000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(train_seeds(build, mnist, 1).scores.shape, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals differ on Windows")
def test_an_interrupted_run_ends_at_once_and_the_next_one_works():
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdout.readline() == "ready\n"
    time.sleep(6)  # well inside the training
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert child.stdout.readline() == "interrupted\n"
    assert time.monotonic() - start < 4
    assert child.stdout.readline() == "(10, 4)\n"
    assert child.wait() == 0


@pytest.fixture
def drawn(tiny):
    """Five data sets of the same size, each with other images."""

    def other(k):
        rng = np.random.default_rng(k)
        new = {f"x_{s}": getattr(tiny, f"x_{s}") + rng.normal(0, 0.2, (2, 2, 1)).astype("float32")
               for s in ("train", "val")}  # fmt: skip
        return tiny._replace(y_train=rng.permutation(tiny.y_train), **new)

    return [other(k) for k in FIVE]


@pytest.mark.parametrize("groups", [1, 3])
def test_each_seed_has_its_own_data_set(groups, drawn, monkeypatch, capsys):
    """What seed 3 gives on data set 3 among others is what it gives there alone."""
    build = network(rate=0.3)
    monkeypatch.setattr(training, "GROUP_BYTES", 4 * build().count_params() * 5 / groups)
    runs = train_seeds(build, drawn, 2, FIVE, 16)
    assert not capsys.readouterr().out
    for seed in (0, 3, 4):
        alone = train_seeds(build, drawn[seed], 2, [seed], 16)
        for name, values in alone.history.items():
            np.testing.assert_allclose(runs.history[name][seed], values[0], rtol=1e-4)
        np.testing.assert_allclose(runs.scores.loc[seed], alone.scores.loc[seed], rtol=1e-4)


def test_each_seed_has_its_own_data_set_in_the_fallback(drawn, capsys):
    plain, clipped = (
        train_seeds(network(optimizer=lambda o=o: keras.optimizers.Adam(**o)), drawn, 2, FIVE, 16)
        for o in ({}, {"clipnorm": 1e6})
    )
    assert "clipnorm" in capsys.readouterr().out
    np.testing.assert_allclose(plain.scores, clipped.scores[plain.scores.columns], rtol=2e-3)


def test_a_single_draw_is_a_data_set():
    build = network(shape=(28, 28, 1), classes=10)
    ways = load_mnist(60, 20, seed=4), load_mnist(60, 20, seed=4, draws=1)
    alone, drawn = (train_seeds(build, mnist, 2, [3], 16) for mnist in ways)
    np.testing.assert_array_equal(alone.scores, drawn.scores)


def test_draws_of_mnist_are_one_data_set_per_seed():
    """Through the bytes that all draws share, and through each draw's own images."""
    draws = load_mnist(40, 20, 0.2, draws=3)
    small = (draws.x_test[:50], draws.y_test[:50])
    draws.x_test, draws.y_test = small
    build = network(shape=(28, 28, 1), classes=10)
    shared, listed = (train_seeds(build, data, 2, range(3), 16) for data in (draws, list(draws)))
    for name in shared.history:
        np.testing.assert_allclose(shared.history[name], listed.history[name], rtol=1e-5)
    np.testing.assert_allclose(shared.scores, listed.scores, rtol=1e-5)


def test_names_that_differ_from_seed_to_seed(tiny, capsys):
    """What `build_model` makes beside the model, at its first call, shifts Keras's names."""
    beside = keras.Sequential([layers.Dense(2)])

    def build():
        beside(tiny.x_train[:1].reshape(1, 4))
        return network()()

    runs = train_seeds(build, tiny, 1, FIVE, 16)
    assert not capsys.readouterr().out
    expected = train_seeds(network(), tiny, 1, FIVE, 16)
    np.testing.assert_array_equal(runs.history["loss"][1:], expected.history["loss"][1:])


def test_models_are_kept_unless_they_are_not_wanted(tiny):
    kept, left = (train_seeds(network(), tiny, 1, FIVE, 16, keep_models=k) for k in (True, False))
    assert len(kept.models) == 5 and left.models == []
    assert kept.scores.equals(left.scores)
    for row, model in enumerate(kept.models):
        value = model.evaluate(tiny.x_test, tiny.y_test, verbose=0)[0]
        assert kept.scores["test_loss"].iloc[row] == pytest.approx(value, rel=1e-4)


def test_the_technique_travels_with_the_runs(tiny):
    assert train_seeds(network(), tiny, 1, [0], 16).technique == "none"
    assert train_seeds(network(), tiny, 1, [0], 16, technique="L2").technique == "L2"


@pytest.mark.parametrize("clip", [None, 1e9])  # side by side, and by fit
def test_scores_and_answers_at_the_best_epochs(clip, tiny, capsys):
    """Two metrics, validated every third epoch, against the curves and against each other."""
    build = network(0.3, lambda: keras.optimizers.Adam(0.1, clipnorm=clip))
    best = ["val_accuracy", "val_log_loss"]
    wanted = {"validation_freq": 3, "best": best, "answers": ["val", "test"]}
    runs = train_seeds(build, tiny, 13, FIVE, 16, **wanted)
    assert ("clipnorm" in capsys.readouterr().out) == bool(clip)
    for metric, sign in zip(best, (1, -1), strict=True):
        curve = runs.history[metric]
        assert list(np.flatnonzero(np.isfinite(curve[0]))) == [2, 5, 8, 11]
        at_best = runs.best[metric]
        place = np.nanargmax(sign * curve, axis=1)  # the first of equals
        assert list(at_best.scores["epochs"]) == list(place + 1)
        kept = curve[np.arange(5), place]
        np.testing.assert_allclose(at_best.scores[metric], kept, rtol=1e-4)
    assert list(runs.scores["epochs"]) == [13] * 5 and np.isfinite(runs.history["loss"]).all()
    for each in (runs, *runs.best.values()):
        for split in ("val", "test"):
            p, y = each.answers[split], getattr(tiny, f"y_{split}")
            log_loss = -np.log(p[:, np.arange(len(y)), y]).mean(axis=1)
            np.testing.assert_allclose(each.scores[f"{split}_log_loss"], log_loss, rtol=1e-3)
    last = runs.models[4].predict(tiny.x_test, verbose=0)  # the models are those of the end
    np.testing.assert_allclose(runs.answers["test"][4], last, atol=1e-5)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"best": ["accuracy"]}, "best='accuracy' is no validation metric: choose from val_"),
        ({"best": ["val_f1"]}, "choose from val_accuracy, val_log_loss, val_loss"),
        ({"best": ["val_loss"], "validation_freq": 3}, "in 2 epochs there is no validation"),
        ({"validation_freq": 0}, "validation_freq=0 is not a whole number of at least 1"),
        ({"answers": ["x_test"]}, "answers='x_test' is no split: choose from train, val, test"),
    ],
)
def test_what_cannot_be_kept(wanted, message, tiny):
    with pytest.raises(BookError) as caught:
        train_seeds(network(), tiny, 2, FIVE, 16, **wanted)
    assert message in str(caught.value)


@pytest.mark.parametrize("clip", [None, 1.0])  # side by side, and by fit
def test_a_metric_of_several_numbers(clip, tiny):
    def build():
        model = network()()
        adam = keras.optimizers.Adam(clipnorm=clip)
        model.compile(adam, "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
        return model

    one_hot = {f"y_{s}": np.eye(3)[getattr(tiny, f"y_{s}")] for s in ("train", "val", "test")}
    with pytest.raises(BookError, match="f1_score gives several numbers"):
        train_seeds(build, tiny._replace(**one_hot), 1, [0])


class Noise(layers.Layer):
    """Noise whose numbers do not come from a seed of the layer's own."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def call(self, x, training=False):
        return x + DRAW[self.source]((2, 2, 1)) if training else x


DRAW = {
    "Keras": keras.random.normal,
    "TensorFlow": tf.random.normal,
    "NumPy": lambda shape: np.random.normal(size=shape).astype("float32"),
}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Keras", "draws random numbers (ReadVariableOp)"),
        ("TensorFlow", "draws random numbers (RandomStandardNormal)"),
        ("NumPy", "otherwise than in `fit`"),
    ],
)
def test_random_numbers_of_elsewhere_are_left_to_fit(source, reason, tiny, capsys):
    """Which numbers these are depends on how often `fit` traces the network."""
    runs = train_seeds(network(front=[lambda: Noise(source)]), tiny, 1, [0, 1], 16)
    said = capsys.readouterr().out
    assert reason in said and "trained by `fit`" in said
    assert np.isfinite(runs.scores.to_numpy()).all()


def test_an_error_of_the_graph_is_an_error(tiny, monkeypatch):
    """What is no named reason does not become a slow training without a word."""
    monkeypatch.setattr(seed_graph.SeedGraph, "_run", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_seeds(network(), tiny, 1, [0], 16)


def test_an_error_of_the_reader_is_the_one_of_fit(tiny):
    def wrong():
        model = keras.Sequential([keras.Input((3, 3, 1)), layers.Flatten(), layers.Dense(3)])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    with pytest.raises(ValueError, match="incompatible"):
        train_seeds(wrong, tiny, 1, [0], 16)


IMPORTED = """
import gc, logging, random, sys
import keras, matplotlib, tensorflow
def state():
    logger = logging.getLogger("tensorflow")
    eager = tensorflow.config.functions_run_eagerly()
    return gc.get_freeze_count(), gc.isenabled(), logger.level, eager, random.getstate()
before = state()
from utils import data, evidence, museum, plots, results, seed_graph, techniques, training
print(state() == before)
"""


def test_an_import_has_no_effect():
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def no_model():
    return None


def uncompiled():
    return keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (network(), {"seeds": []}, "at least one seed"),
        (network(), {"seeds": [1, 1]}, "only once"),
        (network(), {"seeds": 3}, "give a list of seeds"),
        (network(), {"seeds": [-1]}, "from 0 to 2"),
        (network(), {"seeds": [0.5]}, "from 0 to 2"),
        (network(), {"epochs": 0}, "epochs=0 is not"),
        (network(), {"epochs": 2.0}, "epochs=2.0 is not"),
        (network(), {"epochs": True}, "epochs=True is not"),
        (network(), {"batch_size": None}, "batch_size=None is not"),
        (network(), {"batch_size": -5}, "batch_size=-5 is not"),
        (network(), {"callbacks": [keras.callbacks.TerminateOnNaN()]}, "TerminateOnNaN"),
        (no_model, {}, "NoneType instead of a Keras model"),
        ("network", {}, "str instead of a Keras model"),
        (uncompiled, {}, "not compiled"),
    ],
)
def test_misuse(build, arguments, message, tiny):
    with pytest.raises(BookError, match=message) as caught:
        train_seeds(build, tiny, **({"epochs": 1, "seeds": [0]} | arguments))
    assert "\n" not in str(caught.value)


def shared_model():
    model = network()()
    return lambda: model


def shared_layer():
    flip = layers.RandomFlip()
    return network(front=[lambda: flip])


def shared_optimizer():
    adam = keras.optimizers.Adam()
    return network(optimizer=lambda: adam)


@pytest.mark.parametrize("maker", [shared_model, shared_layer, shared_optimizer])
def test_models_that_share_a_part(maker, tiny):
    with pytest.raises(BookError, match="build all of it anew"):
        train_seeds(maker(), tiny, 1, [0, 1])


def test_a_subclass_of_early_stopping(tiny):
    class Mine(keras.callbacks.EarlyStopping):
        pass

    with pytest.raises(BookError, match="Mine is not supported"):
        train_seeds(network(), tiny, 1, [0], callbacks=[Mine()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.zeros(69)}, "70 images and y_train 69 labels"),
        ({"x_val": np.zeros((0, 2, 2, 1)), "y_val": np.zeros(0)}, "x_val holds 0 images"),
        ({"y_train": np.array(["a"] * 70)}, "y_train is no array of numbers"),
        ({"x_train": [[1], [1, 2]]}, "x_train is no array of numbers"),
        ({"x_train": None}, "x_train is no array of numbers"),
    ],
)
def test_data_that_are_none(changes, message, tiny):
    with pytest.raises(BookError, match=message):
        train_seeds(network(), tiny._replace(**changes), 1, [0])


def test_data_sets_that_do_not_fit_the_seeds(tiny):
    with pytest.raises(BookError, match="2 data sets for 3 seeds"):
        train_seeds(network(), [tiny, tiny], 1, range(3))
    short = tiny._replace(x_train=tiny.x_train[:60], y_train=tiny.y_train[:60])
    with pytest.raises(BookError, match="differ in the shape of x_train"):
        train_seeds(network(), [tiny, short], 1, range(2))


def test_a_monitor_that_does_not_exist(tiny):
    rule = keras.callbacks.EarlyStopping("val_err", patience=1)
    with pytest.raises(ValueError, match="val_err"):
        train_seeds(network(), tiny, 1, [0], callbacks=[rule])


def test_memory_is_given_back(tiny):
    import gc

    train_seeds(network(), tiny, 1, FIVE, 16)
    gc.collect()
    kinds = [type(thing).__name__ for thing in gc.get_objects()]
    assert kinds.count("SeedGraph") == 0
