"""Train every technique at every strength in every setting: `python -m utils.sweep --help`.

A cell of the grid is one setting, technique and strength with all its seeds, trained at once by
`train_seeds`. Finished cells lie in `cells/` of the folder of results, each written whole or not
at all; at the start and at the end of a sweep they are gathered into two tables, `scores.csv`
(a row per cell and seed) and `curves.csv` (the same rows, a metric's epochs in one field). A sweep
that was ended, in whatever way, goes on where it was.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import filelock
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from keras import layers, regularizers
from tqdm.auto import tqdm

from utils import BookError
from utils.data import load_mnist, write_atomically
from utils.results import KEY, METRICS, RESULTS, load_results, machine
from utils.training import train_seeds

WRONG = (0.0, 0.2, 0.4)  # shares of wrong training labels


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


class Cell(NamedTuple):
    """A setting (training images, share of wrong labels), a technique and its strength."""

    images: int
    wrong: float
    technique: str
    strength: float

    def __str__(self):
        return f"{self.images}-{self.wrong:g}-{self.technique}-{self.strength:g}".replace(" ", "")


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


def run_cell(cell, budget):
    """Train one cell with seeds 0, 1, … and return its record, or a record of why it failed.

    The network is computed by one thread, so that a cell's result does not depend on how many
    are trained beside it. `seconds` is the time of the processor, per seed.
    """
    with contextlib.suppress(RuntimeError):  # a process that has computed before keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    epochs, seeds = budget.epochs, range(budget.seeds)
    record = cell._asdict() | budget._asdict()
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            mnist = load_mnist(cell.images, budget.validation, cell.wrong)
        options = (TECHNIQUES | ARTICLE)[cell.technique].options(cell.strength)
        stopping, rules = options.pop("stopping", None), []
        if stopping:
            rules = [keras.callbacks.EarlyStopping(**stopping, restore_best_weights=True)]
        runs = train_seeds(lambda: network(**options), mnist, epochs, seeds, callbacks=rules)
    except (MemoryError, BookError, tf.errors.OpError, ValueError) as error:
        return record | {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        keras.backend.clear_session()
    if not np.isfinite(runs.scores.to_numpy()).all():
        return record | {"failed": "a seed ended with NaN or infinity"}

    chosen = np.full(len(seeds), epochs)
    if stopping:
        curve = runs.history[stopping.get("monitor", "val_loss")]
        best = np.nanargmax if "monitor" in stopping else np.nanargmin  # accuracy, or loss
        chosen = best(curve, axis=1) + 1
    scores = {"epoch": chosen.tolist()}
    for split, metric in itertools.product(("train", "val", "test"), ("accuracy", "log_loss")):
        scores[f"{split}_{metric}"] = [_short(x, 6) for x in runs.scores[f"{split}_{metric}"]]
    scores["seconds"] = [round((time.process_time() - began) / len(seeds), 3)] * len(seeds)
    curves = {
        metric: [[_short(x, 4) for x in row if np.isfinite(x)] for row in runs.history[metric]]
        for metric in METRICS
    }
    return record | {"scores": scores, "curves": curves}


ALONE = """
import json, sys
from utils.sweep import Budget, Cell, run_cell
cell, budget = json.loads(sys.argv[1])
print(json.dumps(run_cell(Cell(*cell), Budget(*budget))))
"""


def run_cell_alone(cell, budget):
    """Do what `run_cell` does in a process of its own, as a worker of a Dask cluster has to.

    Keras draws the seeds of initial weights from Python's `random`, and so do the other threads
    of such a worker: a draw of theirs at the wrong moment would give the cell other weights.
    """
    command = [sys.executable, "-c", ALONE, json.dumps([cell, budget])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"its process ended with status {done.returncode}"
        return cell._asdict() | budget._asdict() | {"failed": reason}
    return json.loads(done.stdout.splitlines()[-1])


def _short(number, digits):
    """Return the number with so many significant digits."""
    return float(f"{number:.{digits}g}")


def plan(images=tuple(BUDGETS), wrong=WRONG, only=None, techniques=None):
    """Return the cells of the grid, in order.

    Without `techniques`, those of `TECHNIQUES`. `only` maps names of `Cell`'s fields to the texts
    of the values to keep. Raises `BookError` for a value that the grid does not have.
    """
    cells = [
        Cell(n, share, name, strength)
        for n in images
        for share in wrong
        for name, technique in (techniques or TECHNIQUES).items()
        for strength in technique.strengths
    ]
    for key, texts in (only or {}).items():
        known = dict.fromkeys(_text(getattr(cell, key)) for cell in cells)
        unknown = [text for text in texts if _text(text) not in known]
        if unknown:
            raise BookError(
                f"--only {key}={unknown[0]}: the grid has no such {key}; choose from "
                f"{', '.join(known)}."
            )
        kept = {_text(text) for text in texts}
        cells = [cell for cell in cells if _text(getattr(cell, key)) in kept]
    return cells


def _text(value):
    """Write a number in its shortest form, and leave a name as it is."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def gather(folder, budgets):
    """Move finished cells into the two tables, and return the set of all cells that they hold.

    What is no finished cell of this sweep is named and deleted. Raises `BookError` where the
    tables are damaged or hold a sweep with other seeds or epochs.
    """
    records = []
    for file in sorted(Path(folder, "cells").glob("*.json")):
        record = _read_record(file, budgets)
        if record is None:
            print(f"{file} is damaged or stems from another sweep: its cell is trained again.")
            file.unlink()
        elif "failed" not in record:
            records.append(record)

    done = None
    for name in ("scores", "curves"):
        old = load_results(name, folder)
        tables = [_table(record, name) for record in records]
        if old is not None and name == "curves":
            old[list(METRICS)] = old[list(METRICS)].map(_joined)
        tables = [old, *tables] if old is not None else tables
        if not tables:
            return set()
        table = pd.concat(tables).drop_duplicates(KEY, keep="last")
        groups = table.groupby(KEY[:-1])
        cells = {Cell(*key) for key, rows in groups if _complete(rows, budgets)}
        if len(cells) < len(groups):
            raise BookError(
                f"{folder} holds a sweep with other seeds or epochs: name another --folder."
            )
        done = cells if done is None else done & cells
        rank = {technique: i for i, technique in enumerate(TECHNIQUES | ARTICLE)}
        table = table.sort_values(
            KEY, key=lambda column: column.map(rank) if column.name == "technique" else column
        )
        if records:
            write_atomically(Path(folder, f"{name}.csv"), table.to_csv(index=False).encode())
    for record in records:  # both tables hold them now
        _cell_file(folder, _cell(record)).unlink()
    return done


def _complete(rows, budgets):
    """Return whether a cell's rows of a table have the seeds and epochs of its budget."""
    budget = budgets.get(rows["images"].iloc[0])
    return (
        budget is not None
        and sorted(rows["seed"]) == list(range(budget.seeds))
        and set(rows["epochs"]) == {budget.epochs}
    )


def _cell(record):
    return Cell(*(record[field] for field in Cell._fields))


def _cell_file(folder, cell):
    return Path(folder, "cells", f"{cell}.json")


def _read_record(file, budgets):
    """Return the record in a cell's file, or None where it is not whole or not of this sweep."""
    try:
        record = json.loads(file.read_text("utf-8"))
        cell = _cell(record)
        budget = Budget(*(record[field] for field in Budget._fields))
        if file.name != _cell_file("", cell).name or budget != budgets.get(cell.images):
            return None
        if "failed" not in record:
            _table(record, "scores"), _table(record, "curves")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def _table(record, name):
    """Return a record's rows of a table, one per seed."""
    columns = record[name]
    if name == "curves":
        columns = {metric: [_joined(row) for row in columns[metric]] for metric in METRICS}
    seeds = range(record["seeds"])
    rows = pd.DataFrame({"seed": seeds, "epochs": record["epochs"]} | columns)
    for position, (field, value) in enumerate(zip(Cell._fields, _cell(record), strict=True)):
        rows.insert(position, field, value)
    return rows


def _joined(numbers):
    return " ".join(f"{number:g}" for number in numbers)


def estimate(cell, budget):
    """Return roughly the seconds that a cell takes on one core of a laptop."""
    per_image = 100e-6 if "augmentation" in cell.technique else 25e-6
    if cell.technique in ARTICLE:
        per_image += 120e-6
    per_epoch = cell.images * per_image + budget.validation * 8e-6
    return 4 + budget.seeds * budget.epochs * per_epoch


def sweep(cells, folder, budgets, jobs=1, dask=None):
    """Train the cells that are not finished; return their number and those that failed.

    Raises `BookError` where another sweep is at work in the folder.
    """
    Path(folder, "cells").mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(Path(folder, "cells", ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BookError(
            f"another sweep is at work in {folder}: wait for it, or name another --folder."
        ) from None
    with lock:
        done = gather(folder, budgets)
        todo = [cell for cell in cells if cell not in done]
        runs = sum(budgets[cell.images].seeds for cell in todo)
        cost = sum(estimate(cell, budgets[cell.images]) for cell in todo)
        workers = f"the cluster at {dask}" if dask else f"{jobs} at a time"
        print(
            f"{len(cells)} cells, {len(cells) - len(todo)} of them finished. To train: "
            f"{len(todo)} cells, {runs:,} runs, {workers}; about {cost / 60:.0f} minutes "
            "of one core.",
            flush=True,
        )
        failed = []
        if todo:
            _note_provenance(folder)
        with _backend(jobs, dask), tqdm(total=len(todo), unit="cell", disable=None) as progress:
            train = run_cell_alone if dask else run_cell
            tasks = (delayed(train)(cell, budgets[cell.images]) for cell in todo)
            for record in Parallel(batch_size=1, return_as="generator_unordered")(tasks):
                content = json.dumps(record, ensure_ascii=False).encode()
                write_atomically(_cell_file(folder, _cell(record)), content)
                if "failed" in record:
                    failed.append(record)
                progress.update()
        gather(folder, budgets)
    return len(todo), failed


@contextlib.contextmanager
def _backend(jobs, dask):
    """Let joblib use so many processes of this machine, or a Dask cluster."""
    if not dask:
        with parallel_config(backend="loky", n_jobs=jobs):
            yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise BookError("--dask needs the package distributed: install it with pip.") from None
    try:
        client = Client(dask, timeout=10)
    except (OSError, ValueError) as error:
        raise BookError(f"--dask {dask}: no scheduler answers there ({error}).") from None
    with client, parallel_config(backend="dask", client=client):
        yield


def _note_provenance(folder):
    """Note in `provenance.json` what is tried, and when and with what a sweep was started."""
    file = Path(folder, "provenance.json")
    runs = json.loads(file.read_text("utf-8"))["runs"] if file.exists() else []
    run = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m utils.sweep", *sys.argv[1:]]),
        **machine("tensorflow", "keras", "numpy", "joblib"),
    }
    knobs = {name: technique.knob for name, technique in (TECHNIQUES | ARTICLE).items()}
    content = {"knobs": knobs, "runs": runs if run in runs else [*runs, run]}
    write_atomically(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _restriction(text):
    """Read `key=value,value` for `--only`."""
    key, equals, values = text.partition("=")
    if not equals or key not in Cell._fields:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(Cell._fields)}=…")
    return key, values.split(",")


def main(arguments=None):
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.sweep",
        description="Train a grid of settings, techniques and strengths. What is finished is kept.",
    )
    parser.add_argument(
        "--article", action="store_true", help="the article's networks, at full size, instead"
    )
    parser.add_argument("--folder", type=Path, help="where the results lie")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cells at a time")
    parser.add_argument("--dask", metavar="ADDRESS", help="use the Dask cluster of this scheduler")
    parser.add_argument(
        "--only",
        type=_restriction,
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="cells of these values, e.g. technique=dropout or images=300,1000",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the cells and stop")
    parser.add_argument("--seeds", type=int, help="the same number of seeds for all")
    parser.add_argument("--images", type=int, nargs="+", help="other numbers of training images")
    parser.add_argument("--epochs", type=int, help="the same number of epochs for all")
    options = parser.parse_args(arguments)
    techniques, budgets, wrong, folder = TECHNIQUES, BUDGETS, WRONG, RESULTS
    if options.article:
        techniques, budgets, wrong, folder = ARTICLE, ARTICLE_BUDGET, (0.0,), RESULTS / "article"
    options.folder = options.folder or folder
    images = options.images or list(budgets)
    budgets = budgets | {
        n: usual._replace(epochs=options.epochs or usual.epochs, seeds=options.seeds or usual.seeds)
        for n in images
        for usual in [budgets.get(n, Budget(10, 10))]
    }
    try:
        cells = plan(images, wrong, dict(options.only), techniques)
        if options.dry_run:
            print(*cells, f"{len(cells)} cells", sep="\n")
            return 0
        trained, failed = sweep(cells, options.folder, budgets, options.jobs, options.dask)
    except BookError as error:
        print(error, file=sys.stderr)
    except TerminatedWorkerError:
        print(
            "A process that was training ended, as it does where memory is short: finished cells "
            "are kept; run the same command again, with fewer --jobs.",
            file=sys.stderr,
        )
    except OSError as error:
        print(
            f"{error.filename or options.folder} cannot be written ({error.strerror}): finished "
            "cells are kept; make room or choose another --folder, and run the same command again.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("Interrupted: finished cells are kept; the same command goes on.", file=sys.stderr)
        return 130
    else:
        print(f"{trained - len(failed)} cells trained; the tables lie in {options.folder}.")
        for record in failed:
            print(f"failed: {_cell(record)}: {record['failed']}", file=sys.stderr)
        return 1 if failed else 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
