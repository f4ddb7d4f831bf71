"""Train the networks of `results/PROTOCOL.md`: `python -m tools.sweep --help`.

A cell of a study is one setting, technique, learning rate and strength with all its pairs of data
and seed, trained at once by `train_seeds`. Finished cells lie in `cells/` of the study's folder of
results, each written whole or not at all; at the start and at the end of a sweep they are gathered
into two tables, `scores.csv` (for each pair the last epoch and the two best) and `curves.csv` (a
row per pair, a metric's epochs in one field). A sweep that was ended, in whatever way, goes on
where it was.
"""

import argparse
import contextlib
import functools
import io
import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import filelock
import joblib
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from tools.tables import machine
from utils import BookError
from utils.data import load_fashion_mnist, load_mnist, write_atomically
from utils.evidence import CHOICES, calibration, chosen
from utils.results import ENDS, KEY, LISTS, METRICS, RESULTS, load_results
from utils.techniques import ARMS, LABEL_NOISE, MAP, Budget, configurations, network, options
from utils.training import train_seeds


class Cell(NamedTuple):
    """A setting (training images, share of wrong labels), a technique, how fast and how strong."""

    n_train: int
    label_noise: float
    technique: str
    learning_rate: float
    strength: float

    def __str__(self):
        return "-".join(_text(value) for value in self).replace(" ", "")


class Study(NamedTuple):
    """The cells of one folder of results, and how they are trained.

    `budgets` maps numbers of training images to a `Budget`. A study without a `search` trains all
    configurations of all arms, and keeps no test score; another one trains those which the study
    `search` has chosen, and the plain network at the learning rate `REFERENCE`. `load` draws the
    images, and `options` are arguments of `network` for all cells. With `memorizing`, the study is
    one of `LEARNED`: all arms have the rate `REFERENCE`, a search tries all strengths, and the
    last epoch's accuracy chooses.
    """

    budgets: dict
    pairs: tuple
    search: str = ""
    label_noise: tuple = LABEL_NOISE
    load: Callable = load_mnist
    options: dict = {}  # noqa: RUF012
    memorizing: bool = False


CURVE = 30  # points of a stored curve at most, closer to each other where training begins
REFERENCE = 1e-3  # Keras's learning rate, at which the plain network learns its images by heart
SEARCHED = ((102, 102), (103, 103))  # pairs of draw and seed that choose, and that report
REPORTED = tuple((pair, pair) for pair in range(10))
LEARNED = ("L2", "dropout", "label smoothing")
SAME_LENGTH = tuple((pair, pair) for pair in range(500, 510))  # of long and of shorter training
CROSSED = tuple(itertools.product(range(200, 210), repeat=2))
TWO_SIZES = {n: MAP[n] for n in (1_000, 10_000)}
TEN_TIMES = {1_000: Budget(1_680, 20), 10_000: Budget(170, 2)}
SHORTER = {1_000: Budget(60), 10_000: Budget(6)}  # about 480 mini-batches
CONVOLUTIONAL = {"filters": (8, 16), "hidden": (64,)}
UNTOUCHED = functools.partial(load_mnist, reserved=True)
STUDIES = {
    "search": Study(MAP, SEARCHED),
    "map": Study(MAP, REPORTED, "search"),
    "confirmation-search": Study({1_000: MAP[1_000]}, ((310, 310), (311, 311)), label_noise=(0.2,)),
    "confirmation": Study(
        {1_000: MAP[1_000]},
        tuple((pair, pair) for pair in range(300, 310)),
        "confirmation-search",
        label_noise=(0.2,),
        load=UNTOUCHED,
    ),
    "fashion-search": Study(TWO_SIZES, SEARCHED, label_noise=(0.0, 0.2), load=load_fashion_mnist),
    "fashion": Study(
        TWO_SIZES, REPORTED, "fashion-search", label_noise=(0.0, 0.2), load=load_fashion_mnist
    ),
    "conv-search": Study(SHORTER, SEARCHED, label_noise=(0.0, 0.2), options=CONVOLUTIONAL),
    "conv": Study(SHORTER, REPORTED, "conv-search", label_noise=(0.0, 0.2), options=CONVOLUTIONAL),
    "memorizing-search": Study(TWO_SIZES, SEARCHED, memorizing=True),
    "memorizing": Study(
        TWO_SIZES, SAME_LENGTH, "memorizing-search", label_noise=(0.2,), memorizing=True
    ),
    "long-search": Study(TEN_TIMES, SEARCHED, label_noise=(0.2,), memorizing=True),
    "long": Study(TEN_TIMES, SAME_LENGTH, "long-search", label_noise=(0.2,), memorizing=True),
    "crossed": Study(
        {1_000: MAP[1_000]}, CROSSED, "memorizing-search", label_noise=(0.0, 0.4), memorizing=True
    ),
}


def run_cell(cell, budget, pairs, name):
    """Train one cell with all pairs and return its record, or a record of why it failed.

    The network is computed by one thread, so that a cell's result does not depend on how many
    are trained beside it. `seconds` is the time of the processor, per pair.
    """
    with contextlib.suppress(RuntimeError):  # a process that has computed before keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    record, study = _record(cell, budget, pairs), STUDIES[name]
    began = time.process_time()
    try:
        given = options(ARMS[cell.technique], cell.learning_rate, cell.strength) | study.options
        parts = [
            _train(lambda: network(**given), study, cell, budget, draw, seeds)
            for draw, seeds in _blocks(pairs)
        ]
    except (MemoryError, BookError, tf.errors.OpError, ValueError) as error:
        return record | {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        keras.backend.clear_session()
    scores, curves = (list(itertools.chain(*(part[i] for part in parts))) for i in (0, 1))
    if not np.isfinite([row["val_log_loss"] for row in scores]).all():
        return record | {"failed": "a seed ended with NaN or infinity"}
    seconds = round((time.process_time() - began) / len(pairs), 2)
    return record | {"scores": [row | {"seconds": seconds} for row in scores], "curves": curves}


def _blocks(pairs):
    """Yield the first draw and the seeds of what can be trained at once: a draw each, or one."""
    draws, seeds = zip(*pairs, strict=True)
    if draws == tuple(range(draws[0], draws[0] + len(draws))):
        yield slice(draws[0], draws[-1] + 1), list(seeds)
    else:
        for draw, block in itertools.groupby(pairs, key=lambda pair: pair[0]):
            yield draw, [seed for _, seed in block]


def _train(build, study, cell, budget, draw, seeds):
    """Return the rows of scores and of curves of several seeds, with a draw each or the same."""
    report = bool(study.search)
    first, draws = (draw.start, len(seeds)) if isinstance(draw, slice) else (draw, None)
    with contextlib.redirect_stdout(io.StringIO()):
        mnist = study.load(cell.n_train, budget.validation, cell.label_noise, first, draws)
    runs = train_seeds(
        build,
        mnist,
        budget.epochs,
        seeds,
        keep_models=False,
        validation_freq=budget.validation_freq,
        best=list(ENDS.values())[1:],
        answers=["val", "test"] if report else [],
    )
    scores, curves = [], []
    for i, seed in enumerate(seeds):
        own = {"draw": first + (i if draws else 0), "seed": seed}
        for end, metric in ENDS.items():
            at = runs.best[metric] if metric else runs
            row = own | {"end": end, "epoch": int(at.scores["epochs"].iloc[i])}
            names = [name for name in at.scores if name.endswith(("_accuracy", "_log_loss"))]
            row |= {n: at.scores[n].iloc[i] for n in names if report or not n.startswith("test")}
            if report:
                labels = [mnist[i].y_val if draws else mnist.y_val, mnist.y_test]
                row |= calibration(
                    at.answers["val"][i], labels[0], at.answers["test"][i], labels[1]
                )
            scores.append({k: _tidy(v) for k, v in row.items()})
        if report:
            looks = np.flatnonzero(np.isfinite(runs.history["val_accuracy"][i]))
            looks = looks[np.unique(np.geomspace(1, len(looks), CURVE).round().astype(int)) - 1]
            some = {m: [_short(x, 3) for x in runs.history[m][i][looks]] for m in METRICS}
            curves.append(own | {"epoch": (looks + 1).tolist()} | some)
    return scores, curves


ALONE = """
import json, sys
from tools.sweep import Budget, Cell, run_cell
cell, budget, pairs, name = json.loads(sys.argv[1])
print(json.dumps(run_cell(Cell(*cell), Budget(*budget), pairs, name)))
"""


def run_cell_alone(cell, budget, pairs, name):
    """Do what `run_cell` does in a process of its own, as a worker of a Dask cluster has to.

    Keras draws the seeds of initial weights from Python's `random`, and so do the other threads
    of such a worker: a draw of theirs at the wrong moment would give the cell other weights.
    """
    command = [sys.executable, "-c", ALONE, json.dumps([cell, budget, pairs, name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"its process ended with status {done.returncode}"
        return _record(cell, budget, pairs) | {"failed": reason}
    return json.loads(done.stdout.splitlines()[-1])


def _record(cell, budget, pairs):
    return cell._asdict() | {"epochs": budget.epochs, "pairs": [list(pair) for pair in pairs]}


def _tidy(value):
    return _short(value, 5) if isinstance(value, (float, np.floating)) else value


def _short(number, digits):
    """Return the number with so many significant digits."""
    return float(f"{number:.{digits}g}")


def plan(study, budgets, only=None):
    """Return the cells of a study, in order.

    `only` maps names of `Cell`'s fields to the texts of the values to keep. Raises `BookError` for
    a value that no cell has, and where the study that chooses is not finished.
    """
    settings = [(n, share) for n in budgets for share in study.label_noise]
    if study.search:
        table = load_results("scores", RESULTS / study.search)
        grid = _chosen(study, settings, table)
    else:
        grid = [
            Cell(n, share, name, *configuration)
            for n, share in settings
            for name in (LEARNED if study.memorizing else arms_of(n))
            for configuration in _searched(study, ARMS[name])
        ]
    kept = {key: [_value(text) for text in texts] for key, texts in (only or {}).items()}
    for key, values in kept.items():
        known = dict.fromkeys(getattr(cell, key) for cell in grid)
        for value in (value for value in values if value not in known):
            raise BookError(
                f"--only {key}={_text(value)}: the grid has no such {key}; choose from "
                f"{', '.join(map(_text, known))}."
            )
    cells = [c for c in grid if all(getattr(c, key) in values for key, values in kept.items())]
    for key, values in kept.items():
        left = {getattr(cell, key) for cell in cells}
        for value in (value for value in values if value not in left):
            raise BookError(
                f"--only {key}={_text(value)}: no cell has this and what the other --only ask for."
            )
    return cells


def _searched(study, arm):
    if study.memorizing:
        return [(REFERENCE, strength) for strength in arm.strengths]
    return configurations(arm)


def arms_of(n_train):
    """Return the names of the arms that are tried at a number of images: cost leaves out some."""
    return [name for name in ARMS if n_train <= 10_000 or "augmentation" not in name]


def _chosen(study, settings, table):
    """Return what a search has chosen in the settings that it has finished, and the reference."""
    if table is None:
        raise BookError(f"first comes the study that chooses: python -m tools.sweep {study.search}")
    table = chosen(table, [("last", "accuracy")] if study.memorizing else CHOICES)
    table["n_train"] = table["n_train"].astype(object)
    picked = [Cell(*row) for row in table[list(Cell._fields)].itertuples(index=False)]
    begun = {cell[:2] for cell in picked}
    reference = [Cell(*setting, "none", REFERENCE, 0.0) for setting in settings if setting in begun]
    cells = dict.fromkeys([*reference, *picked])
    return [cell for setting in settings for cell in cells if cell[:2] == setting]


def _value(text):
    """Read a number, and leave a name as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _text(value):
    """Write a number in its shortest form, and leave a name as it is."""
    return f"{value:.12g}" if isinstance(value, (int, float)) else value


def gather(folder, budgets, pairs):
    """Move finished cells into the two tables, and return the set of all cells that they hold.

    What is no whole cell is named and deleted. Raises `BookError` where the tables are damaged,
    or where a cell has not these pairs, or not the epochs of its number of images in `budgets`.
    """
    records = []
    for file in sorted(Path(folder, "cells").glob("*.json")):
        record = _read_record(file)
        if record is None:
            print(f"{file} is damaged or no cell of a sweep: it is deleted.")
            file.unlink()
        elif "failed" not in record:
            records.append(record)

    tables, done = {}, []
    for name, key in (("scores", [*KEY, "end"]), ("curves", KEY)):
        old = load_results(name, folder)
        parts = [_table(record, name) for record in records]
        if old is not None and name == "curves":
            old = old.assign(**{n: old[n].map(_joined) for n in LISTS if n in old})
        parts = [part for part in [old, *parts] if part is not None and len(part)]
        if not parts:
            continue
        tables[name] = pd.concat(parts).drop_duplicates(key, keep="last")
        groups = {Cell(*values): rows for values, rows in tables[name].groupby(list(Cell._fields))}
        for cell, rows in groups.items():
            _check(folder, cell, rows, budgets.get(cell.n_train), pairs)
        done.append(set(groups))

    rank = {technique: i for i, technique in enumerate(ARMS)}
    for name, table in tables.items() if records else ():
        table = table.sort_values(
            KEY,
            key=lambda column: column.map(rank) if column.name == "technique" else column,
            kind="stable",
        )
        write_atomically(Path(folder, f"{name}.csv"), table.to_csv(index=False).encode())
    for record in records:  # both tables hold them now
        _cell_file(folder, _cell(record)).unlink()
    return set.intersection(*done) if done else set()


def _check(folder, cell, rows, budget, pairs):
    """Raise `BookError` where a cell's rows have other pairs or epochs than asked for."""
    if budget is None:  # this sweep has no such number of images, and leaves the cell alone
        return
    held = sorted(set(rows[["draw", "seed"]].itertuples(index=False, name=None)))
    epochs = sorted(set(rows["epochs"]))
    differ = []
    if held != sorted(map(tuple, pairs)):
        seeds = _joined(seed for _, seed in held)
        differ.append(f"{len(held)} pairs (seeds {seeds}) instead of {len(pairs)}")
    if epochs != [budget.epochs]:
        differ.append(f"{_joined(epochs)} epochs instead of {budget.epochs}")
    if differ:
        raise BookError(
            f"{folder} holds the cell {cell} with {' and '.join(differ)}: name another --folder."
        )


def _cell(record):
    return Cell(*(record[field] for field in Cell._fields))


def _cell_file(folder, cell):
    return Path(folder, "cells", f"{cell}.json")


def _read_record(file):
    """Return the record in a cell's file, or None where it is not whole."""
    try:
        record = json.loads(file.read_text("utf-8"))
        if file.name != _cell_file("", _cell(record)).name:
            return None
        if "failed" not in record:
            _table(record, "curves")
            table, pairs = _table(record, "scores"), record["pairs"]
            if len(table) != len(ENDS) * len(pairs) or table.isna().any(axis=None):
                return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def _table(record, name):
    """Return a record's rows of a table."""
    rows = pd.DataFrame(record[name])
    for metric in rows.columns.intersection(LISTS) if name == "curves" else ():
        rows[metric] = rows[metric].map(_joined)
    fields = {field: record[field] for field in (*Cell._fields, "epochs")}
    for position, (field, value) in enumerate(fields.items()):
        rows.insert(position, field, value)
    return rows


def _joined(numbers):
    return " ".join(f"{number:g}" for number in numbers)


def estimate(cell, budget, pairs):
    """Return roughly the seconds that a cell takes on one core of a laptop."""
    per_image = 100e-6 if "augmentation" in cell.technique else 25e-6
    per_epoch = cell.n_train * per_image + budget.validation * 8e-6 / budget.validation_freq
    return 4 + len(pairs) * (budget.epochs * per_epoch + 0.2)


def sweep(name, cells, folder, budgets, pairs, command, jobs, dask):
    """Train the cells that are not finished; return their number and those that failed.

    `name` is that of the study, and `command` is noted beside the results. The cells are trained
    by so many `jobs`, or by the cluster whose Dask scheduler has the address `dask`. Raises
    `BookError` where another sweep is at work in the folder.
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
        done = gather(folder, budgets, pairs)
        todo = [cell for cell in cells if cell not in done]
        cost = sum(estimate(cell, budgets[cell.n_train], pairs) for cell in todo)
        workers = f"the cluster at {dask}" if dask else f"{jobs} at a time"
        print(
            f"{len(cells)} cells, {len(cells) - len(todo)} of them finished. To train: "
            f"{len(todo)} cells, {len(todo) * len(pairs):,} runs, {workers}; about "
            f"{cost / 60:.0f} minutes of one core.",
            flush=True,
        )
        failed = []
        if todo:
            _note_provenance(folder, command)
        tasks = [(cell, budgets[cell.n_train], pairs, name) for cell in todo]
        records = _on_cluster(tasks, dask) if dask else _here(tasks, jobs)
        for record in tqdm(records, total=len(todo), unit="cell", disable=None):
            content = json.dumps(record, ensure_ascii=False).encode()
            write_atomically(_cell_file(folder, _cell(record)), content)
            if "failed" in record:
                failed.append(record)
        gather(folder, budgets, pairs)
    return len(todo), failed


def _here(tasks, jobs):
    """Yield the cells' records as they are finished, by so many processes of this machine."""
    tasks = (joblib.delayed(run_cell)(*task) for task in tasks)
    return joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")(tasks)


def _on_cluster(tasks, address):
    """Yield the cells' records as they are finished, by the workers of a Dask cluster."""
    try:
        import distributed
    except ImportError:
        raise BookError("--dask needs the package distributed: install it with pip.") from None
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(distributed.Client(address, timeout=10))
            client.wait_for_workers(1, timeout=10)
        except (OSError, ValueError) as error:
            raise BookError(
                f"--dask {address}: no scheduler with a worker answers there ({error})."
            ) from None
        futures = client.map(run_cell_alone, *zip(*tasks, strict=True), pure=False)
        for _, record in distributed.as_completed(futures, with_results=True):
            yield record


def _note_provenance(folder, command):
    """Note in `provenance.json` when and with what a sweep was started."""
    file = Path(folder, "provenance.json")
    try:
        runs = json.loads(file.read_text("utf-8"))["runs"] if file.exists() else []
    except (ValueError, KeyError, TypeError):
        raise BookError(f"{file} is damaged: restore it with git, or delete it.") from None
    run = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": command,
        **machine("tensorflow", "keras", "numpy", "joblib"),
    }
    content = {"runs": runs if run in runs else [*runs, run]}
    write_atomically(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _restriction(text):
    """Read `key=value,value` for `--only`."""
    key, _, values = (part.strip() for part in text.partition("="))
    values = [value.strip() for value in values.split(",") if value.strip()]
    if key not in Cell._fields or not values:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(Cell._fields)}=…")
    return key, values


def _count(text):
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _named(text):
    """Read a text that is not empty, as that of a variable which is not set would be."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _options(arguments):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.sweep",
        description="Train a grid of settings, techniques and strengths. What is finished is kept.",
        allow_abbrev=False,
    )
    parser.add_argument("study", choices=STUDIES, help="what to train: see results/PROTOCOL.md")
    parser.add_argument("--folder", type=_named, help="where the results lie")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--jobs", type=_count, help="cells at a time; without it, one per core")
    workers.add_argument(
        "--dask", type=_named, metavar="ADDRESS", help="use the Dask cluster of this scheduler"
    )
    parser.add_argument(
        "--only",
        type=_restriction,
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="cells of these values, e.g. technique=dropout or n_train=300,1000",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the cells and stop")
    parser.add_argument("--seeds", type=_count, help="only so many pairs of draw and seed")
    parser.add_argument(
        "--n-train",
        type=_count,
        nargs="+",
        action="extend",
        help="other numbers of training images",
    )
    parser.add_argument("--epochs", type=_count, help="the same number of epochs for all")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _options(arguments)
    except SystemExit as end:  # argparse has said why
        return end.code
    study = STUDIES[options.study]
    folder = Path(options.folder or RESULTS / options.study).expanduser()
    given = {"epochs": options.epochs} if options.epochs else {}
    numbers = options.n_train or study.budgets
    budgets = {n: study.budgets.get(n, Budget(10))._replace(**given) for n in numbers}
    pairs = study.pairs[: options.seeds]
    only = {}
    for key, values in options.only:
        only.setdefault(key, []).extend(values)
    try:
        if options.seeds and options.seeds > len(pairs):
            raise BookError(f"--seeds {options.seeds}: the study has {len(pairs)} pairs.")
        cells = plan(study, budgets, only)
        if options.dry_run:
            print(*cells, f"{len(cells)} cells", sep="\n")
            return 0
        command = shlex.join(["python", "-m", "tools.sweep", *arguments])
        jobs = options.jobs or joblib.cpu_count()
        given = command, jobs, options.dask
        trained, failed = sweep(options.study, cells, folder, budgets, pairs, *given)
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
            f"{error.filename or folder} cannot be written ({error.strerror}): finished "
            "cells are kept; make room or choose another --folder, and run the same command again.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("Interrupted: finished cells are kept; the same command goes on.", file=sys.stderr)
        return 130
    else:
        print(f"{trained - len(failed)} cells trained; the tables lie in {folder}.")
        for record in failed:
            print(f"failed: {_cell(record)}: {record['failed']}", file=sys.stderr)
        return 1 if failed else 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
