"""The techniques of the book: their networks, the strengths and settings tried, their looks."""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import constraints, layers, regularizers

LABEL_NOISE = (0.0, 0.2, 0.4)  # shares of wrong training labels


class Budget(NamedTuple):
    """How long every technique trains in a setting, and how many epochs lie between validations.

    `validation` is the number of validation images, which have correct labels.
    """

    epochs: int
    validation_freq: int = 1
    validation: int = 1_000


# About 1,340 mini-batches of 128, with a look at the validation images every 15 to 24 of them, or
# with many images after each epoch.
MAP = {
    300: Budget(450, 5),
    1_000: Budget(168, 2),
    3_000: Budget(56),
    10_000: Budget(17),
    34_300: Budget(5),
}


class Arm(NamedTuple):
    """A technique of the map: its nine strengths, weakest first, and how to train with one.

    `options(strength)` returns arguments of `network`. Where an arm has a second strength, as one
    of two techniques together does, `options(strength, second)` gets one of those as well. An arm
    without strengths varies the learning rate alone.
    """

    knob: str = ""
    strengths: tuple = ()
    options: Callable = dict
    seconds: tuple = ()


RATES = (3.6e-6, 5.7e-6, 9e-6, 1.5e-5, 2.3e-5, 3.7e-5, 6e-5, 9.5e-5, 1.5e-4)  # learning rates
RATES += (2.4e-4, 3.9e-4, 6.2e-4, 1e-3, 1.6e-3, 2.6e-3, 4.1e-3, 6.5e-3, 1.05e-2)
LAMBDAS = (1e-6, 1e-5, 5e-5, 2e-4, 7e-4, 2e-3, 6e-3, 1.5e-2, 4e-2)
DROPPED = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
SHIFTS = (0.005, 0.02, 0.04, 0.07, 0.1, 0.13, 0.17, 0.22, 0.3)

# The arms of results/PROTOCOL.md: what is added here is part of the next sweep.
ARMS = {
    "none": Arm(),
    "L2": Arm("λ", LAMBDAS, lambda s: {"penalty": regularizers.L2(s)}),
    "weight decay": Arm(
        "decay", (0.003, 0.03, 0.1, 0.3, 1.0, 3.0, 8.0, 20.0, 50.0), lambda s: {"decay": s}
    ),
    "L1": Arm(
        "λ",
        (1e-7, 1e-6, 5e-6, 2e-5, 7e-5, 2e-4, 5e-4, 1.2e-3, 3e-3),
        lambda s: {"penalty": regularizers.L1(s)},
    ),
    "dropout": Arm("rate", DROPPED, lambda s: {"rate": s}),
    "dropout + max-norm": Arm(
        "max-norm",
        (20.0, 6.0, 4.0, 3.0, 2.0, 1.4, 1.0, 0.7, 0.4),
        lambda s: {"rate": 0.5, "input_rate": 0.2, "max_norm": s},
    ),
    "augmentation": Arm("shift", SHIFTS, lambda s: {"shift": s}),
    "label smoothing": Arm(
        "share", (0.003, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 0.97), lambda s: {"smoothing": s}
    ),
    "batch normalization": Arm(options=lambda: {"normalize": True}),
    "dropout + augmentation": Arm(
        "rate", DROPPED, lambda s, shift: {"rate": s, "shift": shift}, SHIFTS
    ),
    "L2 + dropout": Arm(
        "λ", LAMBDAS, lambda s, rate: {"penalty": regularizers.L2(s), "rate": rate}, DROPPED
    ),
}


def configurations(arm):
    """Return the 18 settings that an arm searches, as pairs of learning rate and strength.

    All arms have the same rates. Each strength is tried with two of them, and any three rates that
    follow each other from the first on have a weak, a medium and a strong one. An arm without
    strengths has 0.
    """
    strengths = arm.strengths or (0.0,) * 9
    return [(rate, strengths[4 * i % 9]) for i, rate in enumerate(RATES)]


def second(arm, learning_rate):
    """Return the strength of the second of two techniques, in the setting with a learning rate."""
    i = RATES.index(learning_rate)
    return arm.seconds[(2 * i + 4 * (i // 9)) % 9]


def options(arm, learning_rate, strength):
    """Return the arguments of `network` for one of an arm's settings."""
    given = [strength] if arm.strengths else []
    if arm.seconds:
        given.append(second(arm, learning_rate))
    return {"learning_rate": learning_rate, **arm.options(*given)}


# Colour and marker, in all figures and in the explorer. The colours are Okabe and Ito's, for
# colour-blind readers, darkened until they stand out from white and from each other in grey.
STYLE = {
    "none": ("#000000", "o"),
    "L2": ("#0169B7", "s"),
    "L1": ("#2591D0", "D"),
    "dropout": ("#C05302", "^"),
    "augmentation": ("#218F66", "P"),
    "early stopping": ("#CA7CA4", "X"),
    "weight decay": ("#594E05", "v"),
    "dropout + augmentation": ("#67351E", "*"),
    "label smoothing": ("#913D43", "<"),
    "batch normalization": ("#1400A2", "p"),
    "dropout + max-norm": ("#2E0F33", "h"),
    "L2 + dropout": ("#0E2A21", "d"),
}


def network(
    learning_rate=1e-3,
    penalty=None,
    rate=0.0,
    shift=0.0,
    hidden=(256,) * 3,
    *,
    decay=0.0,
    input_rate=0.0,
    max_norm=None,
    smoothing=0.0,
    normalize=False,
    filters=(),
):
    """Return the workhorse, or one with other hidden layers, with any of the techniques.

    `shift` moves images by up to that share of their width and height, and turns them by up
    to half as large a share of a full turn. `decay` is AdamW's, of the kernels alone. `filters`
    puts convolutions in front, each followed by max pooling.
    """

    def options(axis):
        limit = constraints.MaxNorm(max_norm, axis) if max_norm else None
        return {"kernel_regularizer": penalty, "kernel_constraint": limit}

    stack = [keras.Input((28, 28, 1))]
    if shift:
        stack.append(layers.RandomRotation(shift / 2, fill_mode="constant"))
        stack.append(layers.RandomTranslation(shift, shift, fill_mode="constant"))
    if input_rate:
        stack.append(layers.Dropout(input_rate))
    for count in filters:
        stack.append(layers.Conv2D(count, 3, activation="relu", **options([0, 1, 2])))
        stack.append(layers.MaxPooling2D())
    stack.append(layers.Flatten())
    for units in hidden:
        if normalize:
            stack += [layers.Dense(units, **options(0)), layers.BatchNormalization(), layers.ReLU()]
        else:
            stack.append(layers.Dense(units, activation="relu", **options(0)))
        if rate:
            stack.append(layers.Dropout(rate))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    optimizer = keras.optimizers.Adam(learning_rate)
    if decay:
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=decay)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(
        optimizer,
        Smoothed(smoothing) if smoothing else "sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="log_loss")],
    )
    return model


class Smoothed(keras.losses.Loss):
    """The log-loss against labels of which a share is spread evenly over the ten digits."""

    def __init__(self, share, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def call(self, y_true, y_pred):
        """Return the loss of each image (Szegedy et al., 2016, section 7)."""
        wanted = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), 10)
        return keras.losses.categorical_crossentropy(wanted, y_pred, label_smoothing=self.share)

    def get_config(self):
        """Return what is needed to make the loss anew."""
        return super().get_config() | {"share": self.share}
