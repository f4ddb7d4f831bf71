"""The tables that a sweep leaves behind, and how they are read."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pandas as pd

from utils import BookError
from utils.evidence import chosen, holm, paired_difference

RESULTS = Path(__file__).parent.parent / "results"
KEY = ["n_train", "label_noise", "technique", "learning_rate", "strength", "draw", "seed"]
ENDS = {"last": None, "best accuracy": "val_accuracy", "best log-loss": "val_log_loss"}
METRICS = ("accuracy", "log_loss", "val_accuracy", "val_log_loss")
SETTING = ["n_train", "label_noise"]
PLANNED = 144  # comparisons with the plain network that results/PROTOCOL.md plans for each score
CHOSEN_BY = {"map": "search", "confirmation": "confirmation-search"}  # studies, and their searches
LISTS = ("epoch", *METRICS)  # columns of curves whose fields hold several numbers


def load_results(name, folder):
    """Return a study's table of results, `scores` or `curves`, or None where there is none yet.

    `folder` is that of the study, as `RESULTS / "map"`. Both tables have a row per run, which the
    columns of `KEY` name, or in `scores` one for each of `ENDS`: the last epoch, and the best by
    validation accuracy and log-loss. In `curves` the metrics hold an array, and `epoch` when they
    were taken.
    Raises `BookError` for a damaged table or another name.
    """
    if name not in ("scores", "curves"):
        raise BookError(f"there is no table {name!r} of results, only scores and curves.")
    file = Path(folder, f"{name}.csv")
    if not file.exists():
        return None
    try:
        content = file.read_bytes()
        texts = LISTS if name == "curves" else ()  # a single one would be read as a number
        table = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(texts, str))
        wanted = [*KEY, "epochs", *(METRICS if name == "curves" else METRICS[2:])]
        whole = content.endswith(b"\n") and not (
            set(wanted) - set(table) or table.isna().any(axis=None)
        )
        if name == "curves":
            for metric in table.columns.intersection(LISTS):
                table[metric] = [np.array(row.split(), float) for row in table[metric]]
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise BookError(
            f"{file} is damaged: restore it with git, or delete {file.parent} to train all anew."
        )
    return table


def tuned(technique, n_train, label_noise, end="last", metric="accuracy"):
    """Return the map's ten pairs of a technique, in the configuration that its search chose.

    A table of scores with a row per seed. `end` is one of `ENDS`, and `metric`, "accuracy" or
    "log_loss", is the validation score that chose. Raises `BookError` where the map has no such
    runs.
    """
    here = {"technique": technique, "n_train": n_train, "label_noise": label_noise}
    tables = (load_results("scores", RESULTS / name) for name in ("search", "map"))
    search, reported = (t[(t[list(here)] == pd.Series(here)).all(axis=1)] for t in tables)
    if reported.empty:
        raise BookError(f"the map in results/map has no runs of {here}.")
    return reported.merge(chosen(search, [(end, metric)]).drop(columns="metric")).set_index("seed")


def against_plain(
    score="test_accuracy", metric="accuracy", end="last", plain_rate=None, study="map"
):
    """Return how far each arm of a study is from the plain network, both at an `end` of training.

    A table with a row per setting and technique, and the columns of `Difference`, in the unit of
    `score`. What is compared is the configuration that the validation score `metric` chose; with
    `plain_rate`, the plain network at this learning rate instead. `clear` says that the p-value of
    the paired t-test is below 0.05 after Holm's correction for all comparisons of the protocol.
    `study` is one of `CHOSEN_BY`.
    """
    names = CHOSEN_BY[study], study
    search, reported = (load_results("scores", RESULTS / name) for name in names)
    picked = reported.merge(chosen(search, [(end, metric)]).drop(columns="metric"))
    plain = picked[picked["technique"] == "none"]
    if plain_rate:
        plain = reported[reported["end"] == end]
        plain = plain[(plain["technique"] == "none") & (plain["learning_rate"] == plain_rate)]
    rivals = dict(iter(plain.groupby(SETTING)))
    rows = []
    for (n_train, noise, technique), runs in picked.groupby([*SETTING, "technique"]):
        if technique != "none":
            difference = paired_difference(runs, rivals[n_train, noise], score)
            row = {"n_train": n_train, "label_noise": noise, "technique": technique}
            rows.append(row | dataclasses.asdict(difference) | {"p": difference.p})
    table = pd.DataFrame(rows)
    return table.assign(clear=holm(table.pop("p"), PLANNED) < 0.05)
