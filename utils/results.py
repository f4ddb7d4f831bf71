"""The tables that a sweep leaves behind, and how they are read."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from utils import BookError

RESULTS = Path(__file__).parent.parent / "results"
KEY = ["n_train", "label_noise", "technique", "strength", "seed"]
SCORES = ("epochs", "epoch", "train_accuracy", "val_accuracy", "test_accuracy", "test_log_loss")
METRICS = ("accuracy", "log_loss", "val_accuracy", "val_log_loss")


def load_results(name="scores", folder=None):
    """Return a table of results, `scores` or `curves`, or None where there is none yet.

    Without a `folder`, those that come with the book. Both have a row per run, which the columns
    of `KEY` name. In `curves` the metrics hold a NumPy array with a value per epoch. Raises
    `BookError` for a damaged table or another name.
    """
    if name not in ("scores", "curves"):
        raise BookError(f"there is no table {name!r} of results, only scores and curves.")
    file = Path(folder or RESULTS, f"{name}.csv")
    if not file.exists():
        return None
    try:
        content = file.read_bytes()
        texts = METRICS if name == "curves" else ()  # one epoch would be read as a number
        table = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(texts, str))
        columns = table[[*KEY, *(SCORES if name == "scores" else METRICS)]]
        whole = content.endswith(b"\n") and not columns.isna().any(axis=None)
        if name == "curves":
            for metric in METRICS:
                table[metric] = [np.array(row.split(), float) for row in table[metric]]
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise BookError(
            f"{file} is damaged: restore it with git, or delete {file.parent} to train all anew."
        )
    return table
