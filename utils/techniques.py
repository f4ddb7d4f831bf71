"""The techniques of the book: their networks, the strengths and settings tried, their looks."""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers, regularizers

LABEL_NOISE = (0.0, 0.2, 0.4)  # shares of wrong training labels


class Budget(NamedTuple):
    """How long and how often every technique may train in a setting.

    `validation` is the number of validation images, which have correct labels.
    """

    epochs: int
    seeds: int
    validation: int = 1_000


BUDGETS = {  # training images: epochs and seeds
    300: Budget(30, 10),
    1_000: Budget(25, 10),
    3_000: Budget(15, 10),
    10_000: Budget(8, 10),
    42_000: Budget(5, 5),
}


class Technique(NamedTuple):
    """What a technique's strength is called, the strengths tried, and how to train with one.

    `options(strength)` returns the arguments of `network`, and may hold `stopping`, those of an
    `EarlyStopping` that restores the best weights.
    """

    knob: str
    strengths: tuple
    options: Callable


# A technique that is added here is part of the next sweep, and of the tables.
TECHNIQUES = {
    "none": Technique(
        "learning rate", (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), lambda s: {"learning_rate": s}
    ),
    "L2": Technique(
        "λ", (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), lambda s: {"penalty": regularizers.L2(s)}
    ),
    "L1": Technique(
        "λ", (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3), lambda s: {"penalty": regularizers.L1(s)}
    ),
    "dropout": Technique("rate", (0.1, 0.25, 0.4, 0.5, 0.65, 0.8), lambda s: {"rate": s}),
    "augmentation": Technique(
        "shift", (0.02, 0.04, 0.06, 0.08, 0.12, 0.16), lambda s: {"shift": s}
    ),
    "early stopping": Technique(
        "patience", (1, 2, 3, 5, 8, 12), lambda s: {"stopping": {"patience": s}}
    ),
    "dropout + augmentation": Technique(
        "rate", (0.05, 0.1, 0.25, 0.4, 0.5, 0.65), lambda s: {"rate": s, "shift": 0.08}
    ),
    "L2 + early stopping": Technique(
        "λ",
        (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        lambda s: {"penalty": regularizers.L2(s), "stopping": {"patience": 3}},
    ),
}

# The article's networks, as meant, on its 70:30 split: `--article` trains them for chapter 7.
LARGE = {"hidden": (500,) * 5}
STOP = {"monitor": "val_accuracy", "patience": 2}
ARTICLE = {
    "plain": Technique("learning rate", (1e-3,), lambda s: LARGE | {"learning_rate": s}),
    "L2 1e-4": Technique("λ", (1e-4,), lambda s: LARGE | {"penalty": regularizers.L2(s)}),
    "L1 1e-4": Technique("λ", (1e-4,), lambda s: LARGE | {"penalty": regularizers.L1(s)}),
    "dropout 0.25": Technique("rate", (0.25,), lambda s: LARGE | {"rate": s}),
    "augmented": Technique("shift", (0.08,), lambda s: LARGE | {"shift": s}),
    "stopped": Technique("patience", (2,), lambda s: LARGE | {"stopping": STOP}),
}
ARTICLE_BUDGET = {42_000: Budget(10, 10, 18_000)}

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
    "L2 + early stopping": ("#2E3366", ">"),
}


def network(learning_rate=1e-3, penalty=None, rate=0.0, shift=0.0, hidden=(256,) * 3):
    """Return the workhorse, or one with other hidden layers, with any of the techniques.

    `shift` moves images by up to that share of their width and height, and turns them by up
    to half as large a share of a full turn.
    """
    stack = [keras.Input((28, 28, 1))]
    if shift:
        stack.append(layers.RandomRotation(shift / 2, fill_mode="constant"))
        stack.append(layers.RandomTranslation(shift, shift, fill_mode="constant"))
    stack.append(layers.Flatten())
    for units in hidden:
        stack.append(layers.Dense(units, activation="relu", kernel_regularizer=penalty))
        if rate:
            stack.append(layers.Dropout(rate))
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="log_loss")],
    )
    return model
