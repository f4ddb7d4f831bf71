"""The checks of chapter 10: does a repaired program do what its heading says.

Each looks at what the program does, with data made for the purpose, and never at how it is written.
"""

import copy
import operator
import re
import reprlib
import textwrap
import traceback
import warnings
from contextlib import contextmanager
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure

from utils import BookError

CHECKS = {}


def exhibit(function):
    """Register a check under the name of its function; it returns what is wrong, or None."""
    CHECKS[function.__name__] = function
    return function


def fault(name, program):
    """Return what is wrong with a program of the exhibit `name`, in words, or None.

    An error that the program raises is a fault as well. Raises `BookError` for an unknown name.
    """
    if name not in list(CHECKS):
        raise BookError(f"there is no exhibit {name!r}; there are {', '.join(CHECKS)}.")
    returned = []

    def noted(*given):
        returned.clear()
        returned.append(program(*given))
        return returned[0]

    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # each step runs as Python, so that it can be seen
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CHECKS[name](noted)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a reader's program may raise
        words = textwrap.shorten("".join(traceback.format_exception_only(error)), 200)
        if not returned:
            return f"the program ends with {words}"
        return f"it returns {reprlib.repr(returned[0])}, which the check cannot use: {words}"
    finally:
        tf.config.run_functions_eagerly(eager)


def check(name, program):
    """Print whether a program of the exhibit `name` is repaired, and if not, what is wrong."""
    found = fault(name, program)
    print(f"Not yet: {found.rstrip('.')}." if found else "Repaired.")


def _network(*front, width=16):
    """Return a small compiled network for images of 28 by 28 pixels."""
    stack = [keras.Input((28, 28, 1)), *front, layers.Flatten()]
    stack += [layers.Dense(width, activation="relu"), layers.Dense(10, activation="softmax")]
    model = keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _images(n=160):
    """Return noise with faint marks, the labels, and the marks: two of the first twenty rows."""
    y = np.arange(n) % 10
    marks = np.equal(np.arange(28) // 2, y[:, None])[..., None, None] * np.ones((1, 28, 1))
    noise = np.random.default_rng(0).integers(0, 2, marks.shape)
    return (noise + marks / 1_000).astype("float32"), y, marks.astype("float32")


def _number(value):
    """Return what holds one number, of whatever type, as a float."""
    return float(np.asarray(value).item())


@contextmanager
def _each_step(note):
    """Yield a list of what `note(optimizer, variables)` returns before each step of training."""
    notes, step = [], keras.optimizers.Optimizer.apply

    def noted(optimizer, grads, trainable_variables=None):
        notes.append(note(optimizer, trainable_variables or ()))
        return step(optimizer, grads, trainable_variables)

    with mock.patch.object(keras.optimizers.Optimizer, "apply", noted):
        yield notes


class _Reveal(layers.Layer):
    """An augmentation that leaves nothing but the marks, and counts the images it changed.

    What it returns has faint marks as well, of another label, for those who change it once more.
    """

    def __init__(self, name="reveal", **kwargs):
        super().__init__(name=name, **kwargs)
        self.changed = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=True):
        if not training:
            return x
        self.changed.assign_add(keras.ops.cast(keras.ops.size(x) // 784, "float32"))
        marks = keras.ops.round(1_000 * (x - keras.ops.round(x)))
        return 3 * marks + keras.ops.roll(marks, 2, axis=-3) / 1_000


@exhibit
def augmentation(program):
    """Ask for a network that was trained on images changed by `augment`, anew in each epoch."""
    x, y, marks = _images()
    reveal = _Reveal()
    with _each_step(lambda _, weights: (float(reveal.changed), id(weights[0]))) as steps:
        model = program(reveal, x, y, 10)
    if isinstance(model, keras.callbacks.History):
        model = model.model
    changed = [*(count for count, _ in steps), float(reveal.changed)]
    answers = np.argmax(model.predict(3 * marks, verbose=0), axis=1)
    if float(reveal.changed) > changed[-1]:
        return "images are changed at prediction, too"
    if np.mean(answers == y) < 0.5:
        return "the network was trained on the images as they were"
    if len({network for _, network in steps}) > 1:
        return "what one epoch has taught is lost: the next one trains another network"
    last_fit = getattr(getattr(model, "history", None), "epoch", [0])
    kept = len(last_fit) > 1 and changed[-1 - len(last_fit)] == changed[-1]
    if changed[-1] < 1.5 * len(x) or kept:
        return "every image was changed once, and was the same in all epochs"
    if changed[-1] < 7.5 * len(x):  # some may be kept for validation
        return "not all images are changed anew in each epoch"


def _losses(run):
    """Return the losses of a run that is given as History, as its dictionary or as numbers."""
    run = getattr(run, "history", run)
    return np.asarray(run["loss"] if isinstance(run, dict) else run, "float64")


@exhibit
def fresh_start(program):
    """Ask for the losses of two networks, each trained from new weights."""
    _, y, marks = _images()
    with _each_step(lambda by, weights: (int(by.iterations), [*map(np.array, weights)])) as steps:
        first, second = map(_losses, program(_network, 3 * marks, y, 4))
    if not (steps and first[-1] < first[0] and second[-1] < second[0]):
        return "one of the two networks was not trained"
    if len(first) != len(second) or len(first) % 4:  # losses of epochs, or of steps
        return "the networks are not trained for as many epochs as they should be"
    half = len(steps) // 2
    (began, start), (_, learned), (goes_on, new) = steps[0], steps[half - 1], steps[half]
    for a, b, c in zip(start, learned, new, strict=False):
        alike = np.vdot(b, c) > 0.5 * np.linalg.norm(b) * np.linalg.norm(c)
        if alike and not np.allclose(a, c):
            return "the second network knows from its first epoch on what the first had learned"
    if goes_on > began:
        return "the second network is trained by an optimizer that has trained the first"
    if np.array_equal(first, second) and not all(map(np.array_equal, start, new)):
        return "both times, the losses are those of one network"


def _replay(rule, **logs):
    """Feed a callback the metrics of some epochs; return how many it let pass, and what it kept.

    All weights of the network are the number of the epoch.
    """
    stack = [keras.Input((1,)), layers.Dense(2), layers.BatchNormalization(), layers.Dense(1)]
    model = keras.Sequential(stack)
    model.compile("sgd", "mse", metrics=["accuracy"])
    model.fit(np.zeros((1, 1)), np.zeros(1), verbose=0)
    rules = keras.callbacks.CallbackList(rule, add_history=True, model=model, epochs=12)
    rules.on_train_begin()
    for epoch, values in enumerate(zip(*logs.values(), strict=True), 1):
        rules.on_epoch_begin(epoch - 1)
        model.set_weights([np.full(weight.shape, epoch) for weight in model.get_weights()])
        rules.on_epoch_end(epoch - 1, dict(zip(logs, values, strict=True)))
        if model.stop_training:
            break
    rules.on_train_end()
    kept = np.unique(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    return epoch, " and ".join(f"{number:g}" for number in kept)


@exhibit
def monitor(program):
    """Ask for a rule that stops 3 epochs after the best validation accuracy."""
    up, down = np.linspace(0.2, 0.9, 12), np.linspace(0.9, 0.2, 12)
    peak, second = [0.5, 0.7, 0.7, *[0.6] * 9], [0.5, 0.4, 0.7, *[0.6] * 9]
    zigzag, slow, high = [0.5, 0.7, *[0.6, 0.65] * 5], 0.5 + up / 200, 0.8 + up / 5
    for best, val in ((2, peak), (3, second), (2, zigzag), (12, slow), (12, high)):
        passed, _ = _replay(program(), val_accuracy=val, accuracy=up, loss=down, val_loss=val)
        if passed < best:
            return "it stops although validation accuracy rises"
        if passed == 12 > best:
            return "training goes on to the end, although validation accuracy has long been falling"
        if passed != min(best + 3, 12):
            return (
                f"validation accuracy was best in epoch {best}, and it stops after epoch {passed}"
            )


@exhibit
def best_weights(program):
    """Ask for a rule that stops 3 epochs after the lowest validation loss and keeps its weights."""
    up, down = np.linspace(0.2, 0.9, 12), np.linspace(0.9, 0.2, 12)
    valley = [0.9, 0.5, *np.linspace(0.6, 1, 10)]
    bumpy, slight = [0.9, 0.95, 0.5, 0.6, *[0.55, 0.58] * 4], [0.5, 0.4996, *valley[2:]]
    for best, val in ((2, valley), (2, valley[:4]), (3, bumpy), (2, slight), (12, down)):
        n = len(val)
        logs = {"accuracy": up[:n], "val_accuracy": up[:n], "loss": down[:n], "val_loss": val}
        passed, kept = _replay(program(), **logs)
        if passed != min(best + 3, n):
            return f"the lowest log-loss was in epoch {best}, and it stops after epoch {passed}"
        if kept != f"{best}":
            return (
                f"the lowest log-loss was in epoch {best}, and the weights kept are of epoch {kept}"
            )


@exhibit
def statistics(program):
    """Ask for both sets of images, standardized by the training images alone."""
    rng = np.random.default_rng(0)
    train, other = (rng.normal((3, -2, 0, 9), (2, 1, 4, 3), (n, 4)) for n in (600, 200))
    train, other = (np.pad(images, ((0, 0), (0, 1))) for images in (train, 2 * other - 1))
    given = train.copy(), other.copy()
    scaled, others = map(np.asarray, program(*given))
    if not (np.array_equal(given[0], train) and np.array_equal(given[1], other)):
        return "the images of the data set itself were changed"
    if scaled.shape != train.shape or others.shape != other.shape:
        return "pixels are missing"
    if np.isfinite(scaled).all() != np.isfinite(others).all():
        return "a pixel that never varies is looked after in one of the sets alone"
    again, _ = program(train.copy(), 5 * other)
    if not np.allclose(scaled, again, atol=1e-4, equal_nan=True):
        return "the training images depend on what is in the test set"
    before, after = np.concatenate([train, other]), np.concatenate([scaled, others])
    for old, new in zip(before.T[:4], after.T, strict=False):
        if not np.allclose(new, np.polyval(np.polyfit(old, new, 1), old), atol=1e-3):
            return "the images of both sets are not all scaled by the same numbers"
    by_pixel = scaled[:, :4].mean(axis=0), scaled[:, :4].std(axis=0)
    moments = by_pixel, (scaled.mean(), scaled.std())
    if not any(np.allclose(m, 0, atol=5e-3) and np.allclose(d, 1, atol=5e-3) for m, d in moments):
        return "the training images do not have mean 0 and standard deviation 1"


@exhibit
def inference(program):
    """Ask for the answers of a network that has dropout, without dropping anything."""
    images, _, _ = _images(80)
    x, more = images[:40], images[40:]
    model = _network(layers.Dropout(0.5))
    optimizer, weights = model.optimizer, len(model.trainable_variables)
    expected = model.predict(x, verbose=0)
    answers = [np.asarray(program(model, x)) for _ in range(2)]
    if not np.allclose(answers[0], answers[1], atol=1e-5):
        return "the same image gets another answer each time"
    if answers[0].shape != expected.shape or not np.allclose(answers[0], expected, atol=1e-4):
        return "the answers are not those of the network without dropout"
    if not np.allclose(program(model, more), model.predict(more, verbose=0), atol=1e-4):
        return "other images get the answers of the first"
    if np.allclose(*(model(x, training=True) for _ in range(2)), atol=1e-5):
        return "the network has lost its dropout, in training as well"
    if model.optimizer is not optimizer or len(model.trainable_variables) != weights:
        return "the network can no longer be trained as before"


@exhibit
def shuffled(program):
    """Ask for the labels in a random order, leaving the data set as it is."""
    for y in (np.arange(1_000) % 10, np.arange(1_000) // 100):
        before = y.copy()
        drawn = [np.array(program(y, np.random.default_rng(seed))) for seed in (0, *range(9))]
        labels, same, others = drawn[:3]
        if not np.array_equal(y, before):
            return "the labels of the data set itself were shuffled"
        if not np.array_equal(np.sort(labels), np.sort(before)):
            return "these are not the same labels in another order"
        if np.array_equal(labels, others):
            return "the order is always the same one, not a random one"
        if not np.array_equal(labels, same):
            return "the order does not come from the generator `rng`"
        stay = np.all(np.equal(drawn, y), axis=0).any()  # of ten labels by chance: hardly ever
        if stay or np.histogram2d(y, labels, 10)[0].max() > 40:  # of 100 of a class; chance: 10
            return "too many images have the same label again: the order is not a random one"


@exhibit
def schedule(program):
    """Ask for training whose learning rate is halved after each epoch."""
    x, y, _ = _images(64)
    for start, epochs in ((1e-3, 3), (4e-3, 5)):
        count = _Reveal()
        model = _network(count)
        optimizer = keras.optimizers.SGD(start, momentum=0.5)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        with _each_step(lambda by, _: (by, float(by.learning_rate))) as steps:
            program(model, x, y, epochs)
        rates = [rate for _, rate in steps]
        if any(type(by) is not type(optimizer) for by, _ in steps):
            return "the network is trained by another kind of optimizer than its own"
        if not epochs - 1.5 < float(count.changed) / len(x) < epochs + 0.5:
            return "the network is not trained for as many epochs as it should be"
        if np.ptp(rates) == 0:
            return "the learning rate is the same in all epochs"
        wanted = start / 2.0 ** (np.arange(len(rates)) * epochs // len(rates))
        if len(rates) % epochs or not np.allclose(rates, wanted, rtol=1e-4):
            return "the learning rate is not halved after each epoch, from the second on"


@exhibit
def report(program):
    """Ask for the test accuracy of the candidate with the best validation accuracy."""
    rng = np.random.default_rng(0)
    cases = [rng.choice(np.arange(800, 1_000), (2, 30), replace=False) / 1_000 for _ in range(5)]
    for winner in (0, 7, 29):  # and its rivals are nearly as good
        val, test = rng.choice(np.arange(800, 950), (2, 30), replace=False) / 1_000
        val[winner], val[winner - 2], test[winner], test[winner - 2] = 0.952, 0.951, 0.99, 0.995
        cases.append((val, test))
    cases.append(([0.9, 0.9, 0.9, 0.8], [0.7, 0.95, 0.6, 0.99]))  # a tie
    for val, test in map(np.array, cases):
        given = val.copy()
        number = _number(program(given, test.copy()))
        if not np.array_equal(given, val):
            return "the validation scores themselves were changed"
        best = np.flatnonzero(val == val.max())
        if np.isclose(number, test[best[[0, -1]]]).any():
            continue
        if np.isclose(number, val.max()):
            return "the number is a validation accuracy, the one the winner was chosen by"
        if np.isclose(number, [test[best].max(), test.max()]).any():
            return "the winner was chosen by the test images"
        return "the number is not the test accuracy of the candidate that validation chose"


def _looks(artist):
    """Return the colour, line style and marker of a curve, or of its key in a legend."""
    looks = artist.properties()
    colour = to_rgba_array(looks.get("color", looks.get("facecolor")))
    return colour.tolist(), looks.get("linestyle"), looks.get("marker")


def _network_meant(label):
    """Return which network a label means."""
    if re.search(r"plain|without|w/o|\bno(ne)?\b", label.lower()):
        return "plain"
    return "dropout" if "drop" in label.lower() else label


@exhibit
def curves(program):
    """Ask for the validation losses of two networks, each under its own name."""
    values, names = np.random.default_rng(0), ("accuracy", "loss", "val_accuracy", "val_loss")
    plain, dropped = ({name: list(values.random(6)) for name in names} for _ in range(2))
    ax = Figure().subplots()
    given = copy.deepcopy((plain, dropped))
    program(ax, *given)
    if given != (plain, dropped):
        return "the histories themselves were changed"
    seen = [line for line in ax.lines if line.get_visible() and line.get_alpha() != 0]
    drawn = [line for line in seen if len(np.unique(line.get_ydata(orig=False))) > 2]
    if len(drawn) != 2:
        return f"the number of curves is {len(drawn)}, not two"
    legend = next(filter(None, (ax.get_legend(), *ax.figure.legends)), None) or ax.legend()
    named = {}
    for text, key in zip(legend.get_texts(), legend.legend_handles, strict=True):
        looks = *_looks(key), text.get_text()
        alike = [[*map(operator.eq, (*_looks(line), line.get_label()), looks)] for line in drawn]
        named[_network_meant(text.get_text())] = drawn[alike.index(max(alike))]
    for label, history in (("plain", plain), ("dropout", dropped)):
        if label not in named:
            return f"no curve is labelled {label!r}"
        x, y = named[label].get_data(orig=False)
        if np.shape(y) != (6,) or not np.allclose(y, history["val_loss"]):
            return f"the curve labelled {label!r} is not the validation loss of that network"
        if not np.allclose(np.diff(x), 1) or not np.array_equal(x, named["plain"].get_xdata()):
            return f"the curve labelled {label!r} is not drawn over the epochs"


@exhibit
def convention(program):
    """Ask for the regularizer whose penalty is λ / 2n times the sum of squares."""
    weights = np.random.default_rng(0).normal(size=(3, 40)).astype("float32")
    for strength, n in ((5.0, 1_000), (0.1, 50), (10.0, 20), (0.001, 1_000)):
        wanted = strength / (2 * n) * np.sum(weights**2)
        value = _number(program(strength, n)(weights))
        if not np.isclose(value, wanted, rtol=1e-3):
            times = float(f"{value / wanted:.3g}")
            return f"with λ = {strength} and n = {n:,} the penalty is {times:,g} times that wanted"


@exhibit
def penalty(program):
    """Ask for the generalization gap of the log-loss, without the penalty."""
    x, y, marks = _images(300)
    costs = {"kernel_regularizer": keras.regularizers.L2(0.05)}
    stack = [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dropout(0.3)]
    stack += [layers.Dense(16, **costs), layers.Dense(10, activation="softmax", **costs)]
    model = keras.Sequential(stack)
    log_loss = keras.metrics.SparseCategoricalCrossentropy(name="log_loss")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", log_loss])
    harder = marks + x * np.linspace(0, 1, 300, dtype="float32")[:, None, None, None]
    train, new = (harder[:200], y[:200]), (harder[200:], y[200:])
    model.fit(*train, epochs=5, verbose=0)
    before = float(sum(model.losses))
    low, high = (model.evaluate(*a, verbose=0, return_dict=True)["log_loss"] for a in (train, new))
    for a, b, wanted in ((train, new, high - low), (new, train, low - high)):
        gap = _number(program(model, *a, *b))
        if not np.isclose(gap, wanted, atol=1e-3):
            return f"the gap of log-loss is {wanted:.3f}, and the program says {gap:.3f}"
    if not np.isclose(float(sum(model.losses)), before):
        return "the network is no longer the one that was given, or has lost its penalty"
