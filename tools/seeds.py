"""Give a notebook other seeds: every seed it names is shifted by $SEED_OFFSET.

With that variable set, `make test` runs each notebook with this file before its first cell. What
draws the images is left alone: the claims speak of other seeds, not of other images.
"""

import os
import sys

import keras
import numpy as np
from mutants import wrap

from utils import training


def shift(offset):
    """Shift the seeds of `train_seeds`, of Keras, and of the notebook's own random numbers."""

    @wrap(training, "train_seeds")
    def shifted(old, build_model, mnist, epochs, seeds=range(10), *args, **kwargs):
        runs = old(build_model, mnist, epochs, [s + offset for s in seeds], *args, **kwargs)
        runs.scores.index -= offset  # the notebook knows them by its own numbers
        return runs

    @wrap(keras.utils, "set_random_seed")
    def seeded(old, seed):
        old(seed + offset if _by_notebook() else seed)

    @wrap(np.random, "default_rng")
    def generator(old, seed=None):
        return old(seed + offset if _by_notebook() and seed is not None else seed)


def _by_notebook():
    """Tell whether the wrapped function is called from a cell, not from a library or `utils`."""
    return sys._getframe(3).f_globals["__name__"] == "__main__"


if __name__ == "__main__":
    shift(int(os.environ["SEED_OFFSET"]))
