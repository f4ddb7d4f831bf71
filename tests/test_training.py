"""`train_seeds` against `fit`, against NumPy, and against misuse."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, regularizers

import utils.training as training
from utils import BookError
from utils.training import train_seeds

FIVE = range(5)


def network(penalty=None, rate=0.0, optimizer="adam", limit=None, extra=None, kind=None):
    """Return a function that builds a small compiled network."""

    def build():
        model = (kind or keras.Sequential)([keras.Input((2, 2, 1)), layers.Flatten()])
        model.add(
            layers.Dense(8, "relu", kernel_regularizer=penalty, kernel_constraint=limit),
        )
        if extra:
            model.add(extra())
        if rate:
            model.add(layers.Dropout(rate))
        model.add(layers.Dense(3, activation="softmax"))
        log_loss = keras.metrics.SparseCategoricalCrossentropy(name="log_loss")
        chosen = keras.optimizers.get(optimizer)
        if not isinstance(optimizer, str):
            chosen = type(optimizer).from_config(optimizer.get_config())
        model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy", log_loss])
        return model

    return build


def fit(build, tiny, seed, epochs):
    """Train with Keras alone, on the order that `train_seeds` uses for this seed."""
    keras.utils.set_random_seed(seed)
    model = build()
    rng, records = np.random.default_rng(seed), []
    for _ in range(epochs):
        rows = rng.permutation(len(tiny.x_train))
        history = model.fit(
            tiny.x_train[rows],
            tiny.y_train[rows],
            batch_size=16,
            shuffle=False,
            verbose=0,
            validation_data=(tiny.x_val, tiny.y_val),
        ).history
        records.append({name: values[0] for name, values in history.items()})
    return model, {name: [record[name] for record in records] for name in records[0]}


@pytest.mark.parametrize(
    "build",
    [
        network(),
        network(regularizers.L2(0.01)),
        network(regularizers.L1(0.01)),
        network(extra=layers.BatchNormalization),
        network(optimizer=keras.optimizers.SGD(0.05, momentum=0.9)),
        network(optimizer=keras.optimizers.AdamW(0.01, weight_decay=0.1)),
        network(limit=keras.constraints.MaxNorm(0.7)),
    ],
    ids=["plain", "L2", "L1", "batch normalization", "momentum", "AdamW", "max-norm"],
)
def test_equals_fit(build, tiny, capsys):
    """70 images in batches of 16: the last mini-batch has 6, as in `fit`."""
    runs = train_seeds(build, tiny, epochs=3, seeds=[4, 7], batch_size=16)
    assert not capsys.readouterr().out, "trained by fit, not side by side"
    for row, seed in enumerate([4, 7]):
        model, history = fit(build, tiny, seed, epochs=3)
        assert set(history) == set(runs.history)
        for name, values in history.items():
            np.testing.assert_allclose(runs.history[name][row], values, rtol=2e-4, atol=1e-5)
        pairs = zip(runs.models[row].get_weights(), model.get_weights(), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        expected = model.evaluate(tiny.x_test, tiny.y_test, verbose=0, return_dict=True)
        for name, value in expected.items():
            assert runs.scores.loc[seed, f"test_{name}"] == pytest.approx(value, rel=1e-3)


def test_same_seed_same_bits(tiny):
    build = network(rate=0.5)
    first, second = (train_seeds(build, tiny, 3, FIVE, 16) for _ in range(2))
    for name in first.history:
        np.testing.assert_array_equal(first.history[name], second.history[name])
    assert first.scores.equals(second.scores)


def test_a_seed_does_not_depend_on_its_companions(tiny):
    build = network(rate=0.5)
    among, alone = train_seeds(build, tiny, 3, FIVE, 16), train_seeds(build, tiny, 3, [3], 16)
    for name in among.history:  # other shapes may round differently in the last bits
        np.testing.assert_allclose(among.history[name][3], alone.history[name][0], rtol=1e-4)


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


def test_dropout_agrees_with_fit_in_distribution(tiny):
    build = network(rate=0.5)
    ours = train_seeds(build, tiny, 5, range(30), 16).scores["test_log_loss"]
    theirs = []
    for seed in range(100, 110):
        keras.utils.set_random_seed(seed)
        model = build()
        model.fit(tiny.x_train, tiny.y_train, batch_size=16, epochs=5, verbose=0)
        theirs.append(model.evaluate(tiny.x_test, tiny.y_test, verbose=0)[2])
    error = np.hypot(ours.std() / 30**0.5, np.std(theirs) / 10**0.5)
    assert abs(ours.mean() - np.mean(theirs)) < 4.5 * error


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
    build = network(optimizer=keras.optimizers.Adam(0.1))
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


def test_learning_rate_schedule_and_frozen_layer(tiny):
    def build():
        model = network(
            optimizer=keras.optimizers.Adam(
                keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
            )
        )()
        model.layers[1].trainable = False
        return model

    runs = train_seeds(build, tiny, 2, [4], 16)
    model, history = fit(build, tiny, 4, 2)
    np.testing.assert_allclose(runs.history["loss"][0], history["loss"], rtol=1e-4)
    np.testing.assert_array_equal(runs.models[0].layers[1].kernel, model.layers[1].kernel)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class Counting(layers.Layer):
    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class Noise(layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal((8,)) if training else x


def no_decay_of_biases():
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (network(kind=OwnStep), "OwnStep has its own train_step"),
        (network(optimizer=keras.optimizers.Lamb()), "Lamb may mix"),
        (network(optimizer=keras.optimizers.Adam(clipnorm=1.0)), "clipnorm"),
        (network(extra=Counting), "AssignAddVariableOp"),
        (network(extra=Noise), "ReadVariableOp"),
    ],
    ids=["train_step", "Lamb", "clipnorm", "state", "randomness"],
)
def test_falls_back_to_fit_and_says_so(build, reason, tiny, capsys):
    """The fallback gives what `fit` gives, and the same metrics as the usual way."""
    runs = train_seeds(build, tiny, 2, [4, 7], 16)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and reason in said[0] and "by `fit`" in said[0]
    keras.utils.set_random_seed(7)
    model = build()
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    rows = np.concatenate([rng.permutation(len(tiny.x_train)) for _ in range(2)])
    for epoch in range(2):
        order = rows[epoch * 70 : (epoch + 1) * 70]
        x, y = tiny.x_train[order], tiny.y_train[order]
        expected = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history
        for name, values in expected.items():
            np.testing.assert_allclose(runs.history[name][1, epoch], values, rtol=1e-5)
    names = {"loss", "accuracy", "log_loss"}
    assert set(runs.history) == names | {f"val_{name}" for name in names}
    splits = ("train", "val", "test")
    assert set(runs.scores) == {"epochs"} | {f"{s}_{name}" for s in splits for name in names}


def test_names_left_out_of_weight_decay_are_not_forgotten(tiny, capsys):
    def build():
        model = network()()
        model.compile(no_decay_of_biases(), "sparse_categorical_crossentropy")
        return model

    train_seeds(build, tiny, 1, [0], 16)
    assert "exclude_from_weight_decay" in capsys.readouterr().out


def test_early_stopping_in_the_fallback(tiny):
    rule = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    usual, other = (
        train_seeds(network(optimizer=o, kind=k), tiny, 25, [0, 1], 16, callbacks=[rule])
        for o, k in ((keras.optimizers.Adam(0.1), None), (keras.optimizers.Adam(0.1), OwnStep))
    )
    np.testing.assert_allclose(usual.history["loss"], other.history["loss"], rtol=1e-3)
    np.testing.assert_allclose(usual.scores, other.scores[usual.scores.columns], rtol=1e-3)


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


def no_model():
    return None


def uncompiled():
    return keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(3)])


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (network(), {"seeds": []}, "at least one seed"),
        (network(), {"seeds": [1, 1]}, "only once"),
        (network(), {"epochs": 0}, "at least one epoch"),
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


def test_a_model_that_is_not_built_anew(tiny):
    model = network()()
    with pytest.raises(BookError, match="same model twice"):
        train_seeds(lambda: model, tiny, 1, [0, 1])


def test_a_monitor_that_does_not_exist(tiny):
    rule = keras.callbacks.EarlyStopping("val_err", patience=1)
    with pytest.raises(ValueError, match="val_err"):
        train_seeds(network(), tiny, 1, [0], callbacks=[rule])


def test_memory_is_given_back(tiny):
    import gc

    train_seeds(network(), tiny, 1, FIVE, 16)
    gc.collect()
    kinds = [type(thing).__name__ for thing in gc.get_objects()]
    assert kinds.count("_SeedGraph") == 0
