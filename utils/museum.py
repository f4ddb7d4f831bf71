"""The checks of chapter 11: does a repaired program do what its heading says.

Each looks at what the program does, with data made for the purpose, and never at how it is written.
"""

import logging
import warnings

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

from utils import BookError

CHECKS = {}
# TensorFlow warns of networks that are many and short-lived, as those of a museum are.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


def exhibit(function):
    """Register a check under the name of its function; it returns what is wrong, or None."""
    CHECKS[function.__name__] = function
    return function


def fault(name, program):
    """Return what is wrong with a program of the exhibit `name`, in words, or None.

    An error that the program raises is a fault as well. Raises `BookError` for an unknown name.
    """
    if name not in CHECKS:
        raise BookError(f"there is no exhibit {name!r}; there are {', '.join(CHECKS)}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CHECKS[name](program)
    except Exception as error:  # whatever a reader's program may raise
        return f"the program ends with {type(error).__name__}: {str(error).splitlines()[0]}"


def check(name, program):
    """Print whether a program of the exhibit `name` is repaired, and if not, what is wrong."""
    found = fault(name, program)
    print(f"Not yet: {found}." if found else "Repaired.")


def _network(*front, width=16):
    """Return a small compiled network for images of 28 by 28 pixels."""
    stack = [keras.Input((28, 28, 1)), *front, layers.Flatten()]
    stack += [layers.Dense(width, activation="relu"), layers.Dense(10, activation="softmax")]
    model = keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _images(n=320):
    """Return noise of zeros and ones with a faint mark at one of ten places, the label."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 10
    marks = np.zeros((n, 28, 28, 1), "float32")
    marks[np.arange(n), 0, y] = 1
    return rng.integers(0, 2, marks.shape) + marks / 1_000, y, marks


class _Reveal(layers.Layer):
    """An augmentation that leaves nothing but the marks, and counts the images it changed."""

    def build(self, shape):
        self.changed = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if not training:
            return x
        self.changed.assign_add(keras.ops.cast(keras.ops.shape(x)[0], "float32"))
        return 1_000 * (x - keras.ops.round(x))


@exhibit
def augmentation(program):
    """Ask for a network that was trained on images changed by `augment`, anew in each epoch."""
    x, y, marks = _images()
    reveal = _Reveal()
    model = program(reveal, x.astype("float32"), y, 20)
    changed = float(reveal.changed) if reveal.built else 0
    answers = np.argmax(model.predict(marks, verbose=0), axis=1)
    if reveal.built and float(reveal.changed) > changed:
        return "images are changed at prediction, too"
    if np.mean(answers == y) < 0.5:
        return "the network was trained on the images as they were"
    if changed < 20 * len(x):
        return "every image was changed once, and was the same in all epochs"


@exhibit
def fresh_start(program):
    """Ask for the losses of two networks, each trained from new weights."""
    _, y, marks = _images()
    first, second = (list(losses) for losses in program(_network, marks, y, 15))
    if not (first[-1] < first[0] and second[-1] < second[0]):
        return "one of the two networks was not trained"
    if second[0] < (first[0] + first[-1]) / 2:
        return "the second network knows from its first epoch on what the first had learned"


def _replay(rule, **logs):
    """Feed a callback the metrics of some epochs; return how many it let pass, and what it kept.

    The network's one weight is the number of the epoch.
    """
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    model.fit(np.zeros((1, 1)), np.zeros(1), verbose=0)
    rule.set_model(model)
    rule.on_train_begin()
    for epoch, values in enumerate(zip(*logs.values(), strict=True), 1):
        model.set_weights([np.full((1, 1), epoch)])
        rule.on_epoch_end(epoch - 1, dict(zip(logs, values, strict=True)))
        if model.stop_training:
            break
    rule.on_train_end()
    return epoch, int(model.get_weights()[0][0, 0])


@exhibit
def monitor(program):
    """Ask for a rule that stops 3 epochs after the best validation accuracy."""
    up, down = np.linspace(0.2, 0.9, 12), np.linspace(0.9, 0.2, 12)
    peak = np.array([0.5, 0.7, *[0.6] * 10])  # the best accuracy in epoch 2
    logs = {"accuracy": up, "loss": down, "val_loss": down}
    passed, _ = _replay(program(), val_accuracy=peak, **logs)
    if passed == 12:
        return "training goes on to the end, although validation accuracy has long been falling"
    if passed != 5:
        return f"with the best validation accuracy in epoch 2, it stops after epoch {passed}, not 5"
    passed, _ = _replay(program(), val_accuracy=up, **logs | {"val_loss": up})
    if passed < 12:
        return "it stops although validation accuracy rises"


@exhibit
def best_weights(program):
    """Ask for a rule that stops 3 epochs after the lowest validation loss and keeps its weights."""
    up, down = np.linspace(0.2, 0.9, 12), np.linspace(0.9, 0.2, 12)
    valley = np.array([0.9, 0.5, *np.linspace(0.6, 1, 10)])  # the lowest log-loss in epoch 2
    for epochs in (12, 4):
        logs = {"accuracy": up, "val_accuracy": up, "loss": down, "val_loss": valley}
        passed, kept = _replay(
            program(), **{name: values[:epochs] for name, values in logs.items()}
        )
        if passed != min(epochs, 5):
            return f"with the lowest log-loss in epoch 2, it stops after epoch {passed}, not 5"
        if kept != 2:
            return f"the lowest log-loss was in epoch 2, and the weights kept are of epoch {kept}"


@exhibit
def statistics(program):
    """Ask for both sets of images, standardized by the training images alone."""
    rng = np.random.default_rng(0)
    train, other = rng.normal(3, 2, (60, 5)), rng.normal(-1, 4, (20, 5))
    scaled, _ = program(train.copy(), other.copy())
    if not np.allclose(scaled, program(train.copy(), 5 * other)[0], atol=1e-4):
        return "the training images depend on what is in the test set"
    if not np.allclose(program(train.copy(), train[:20].copy())[1], scaled[:20], atol=1e-4):
        return "the test images are scaled in another way than the training images"
    if not (np.isclose(np.mean(scaled), 0, atol=1e-3) and np.isclose(np.std(scaled), 1, atol=1e-3)):
        return "the training images do not have mean 0 and standard deviation 1"


@exhibit
def inference(program):
    """Ask for the answers of a network that has dropout, without dropping anything."""
    x, _, _ = _images(40)
    model = _network(layers.Dropout(0.5))
    answers = [np.asarray(program(model, x.astype("float32"))) for _ in range(2)]
    expected = model.predict(x, verbose=0)
    if not np.allclose(answers[0], answers[1], atol=1e-5):
        return "the same image gets another answer each time"
    if not np.allclose(answers[0], expected, atol=1e-4):
        return "the answers are not those of the network without dropout"
    if model.layers[0].rate != 0.5:
        return "the network has lost its dropout, in training as well"


@exhibit
def shuffled(program):
    """Ask for the labels in a random order, leaving the data set as it is."""
    y = np.arange(100) % 10
    before = y.copy()
    labels, same, others = (np.array(program(y, np.random.default_rng(seed))) for seed in (0, 0, 1))
    if not np.array_equal(y, before):
        return "the labels of the data set itself were shuffled"
    if not np.array_equal(np.sort(labels), np.sort(before)):
        return "these are not the same labels in another order"
    if np.array_equal(labels, others):
        return "the order is always the same one, not a random one"
    if not np.array_equal(labels, same):
        return "the order does not come from the generator `rng`"


@exhibit
def schedule(program):
    """Ask for training whose learning rate is halved after each epoch."""
    x, y, _ = _images(64)
    for start in (1e-3, 4e-3):
        model, rates = _network(), []
        model.optimizer.learning_rate = start
        _note_rates(model, rates)
        program(model, x, y, 3)
        if not rates:
            return "the program does not train with `fit`"
        if np.ptp(rates) == 0:
            return "the learning rate is the same in all epochs"
        wanted = np.repeat(start / np.array([1, 2, 4]), 2)  # two mini-batches each
        if len(rates) != 6 or not np.allclose(rates, wanted, rtol=1e-4):
            return "the learning rate is not halved after each epoch, from the second on"


def _note_rates(model, rates):
    """Let `model.fit` append the learning rate of each step to a list."""
    fit = model.fit

    def noted(*args, callbacks=(), **kwargs):
        rules = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else callbacks or ()
        note = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: rates.append(
                float(model.optimizer.learning_rate)
            )
        )
        return fit(*args, callbacks=[*rules, note], **kwargs)

    model.fit = noted


@exhibit
def report(program):
    """Ask for the test accuracy of the candidate with the best validation accuracy."""
    val, test = np.array([0.90, 0.95, 0.91, 0.93]), np.array([0.92, 0.91, 0.94, 0.90])
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        number = float(program(val[order], test[order]))
        if np.isclose(number, val.max()):
            return "the number is a validation accuracy, the one the winner was chosen by"
        if np.isclose(number, test.max()):
            return "the winner was chosen by the test images"
        if not np.isclose(number, 0.91):
            return "the number is not the test accuracy of the candidate that validation chose"


@exhibit
def curves(program):
    """Ask for the validation losses of two networks, each under its own name."""
    names = ("loss", "val_loss")
    plain = dict(zip(names, ([0.9, 0.5, 0.2], [0.9, 0.7, 0.8]), strict=True))
    dropped = dict(zip(names, ([1.0, 0.7, 0.5, 0.4], [0.8, 0.6, 0.5, 0.6]), strict=True))
    ax = Figure().subplots()
    program(ax, plain, dropped)
    legend = ax.get_legend()
    texts = [text.get_text() for text in legend.get_texts()] if legend else []
    labels = texts or [line.get_label() for line in ax.lines]
    if len(ax.lines) != 2:
        return f"there are {len(ax.lines)} curves, not two"
    drawn = {name: list(line.get_ydata()) for name, line in zip(labels, ax.lines, strict=False)}
    for label, history in (("plain", plain), ("dropout", dropped)):
        if label not in drawn:
            return f"no curve is labelled {label!r}"
        if drawn[label] != history["val_loss"]:
            return f"the curve labelled {label!r} is not the validation loss of that network"


@exhibit
def convention(program):
    """Ask for the regularizer whose penalty is λ / 2n times the sum of squares."""
    weights = np.linspace(-1, 1, 21).astype("float32")
    for strength, n in ((5.0, 1_000), (0.1, 50)):
        wanted = strength / (2 * n) * np.sum(weights**2)
        value = float(program(strength, n)(weights))
        if not np.isclose(value, wanted, rtol=1e-3):
            times = float(f"{value / wanted:.3g}")
            return f"with λ = {strength} and n = {n:,} the penalty is {times:,g} times that wanted"


@exhibit
def penalty(program):
    """Ask for the generalization gap of the log-loss, without the penalty."""
    x, y, marks = _images()
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten()])
    model.add(layers.Dense(10, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.1)))
    log_loss = keras.metrics.SparseCategoricalCrossentropy(name="log_loss")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[log_loss])
    images, new = marks[:200], (marks + x)[200:]
    model.fit(images, y[:200], epochs=5, verbose=0)
    of = [
        model.evaluate(a, b, verbose=0, return_dict=True)["log_loss"]
        for a, b in ((images, y[:200]), (new, y[200:]))
    ]
    gap = float(program(model, images, y[:200], new, y[200:]))
    if not np.isclose(gap, of[1] - of[0], atol=1e-3):
        return f"the gap of log-loss is {of[1] - of[0]:.3f}, and the program says {gap:.3f}"
