"""Train every technique at every strength in every setting: `python -m tools.sweep --help`.

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
import shlex
import subprocess
import sys
import time
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
from utils.data import load_mnist, write_atomically
from utils.results import KEY, METRICS, RESULTS, load_results
from utils.techniques import (
    ARTICLE,
    ARTICLE_BUDGET,
    BUDGETS,
    LABEL_NOISE,
    TECHNIQUES,
    Budget,
    network,
)
from utils.training import train_seeds


class Cell(NamedTuple):
    """A setting (training images, share of wrong labels), a technique and its strength."""

    n_train: int
    label_noise: float
    technique: str
    strength: float

    def __str__(self):
        return "-".join(_text(value) for value in self).replace(" ", "")


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
            mnist = load_mnist(cell.n_train, budget.validation, cell.label_noise)
        options = (TECHNIQUES | ARTICLE)[cell.technique].options(cell.strength)
        stopping, rules = options.pop("stopping", None), []
        if stopping:
            rules = [keras.callbacks.EarlyStopping(**stopping, restore_best_weights=True)]
        runs = train_seeds(
            lambda: network(**options), mnist, epochs, seeds, callbacks=rules, keep_models=False
        )
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
from tools.sweep import Budget, Cell, run_cell
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


def plan(n_train=tuple(BUDGETS), label_noise=LABEL_NOISE, only=None, techniques=None):
    """Return the cells of the grid, in order.

    Without `techniques`, those of `TECHNIQUES`. `only` maps names of `Cell`'s fields to the texts
    of the values to keep. Raises `BookError` for a value that no cell has.
    """
    grid = [
        Cell(n, share, name, strength)
        for n in dict.fromkeys(n_train)
        for share in label_noise
        for name, technique in (techniques or TECHNIQUES).items()
        for strength in technique.strengths
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


def _value(text):
    """Read a number, and leave a name as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _text(value):
    """Write a number in its shortest form, and leave a name as it is."""
    return f"{value:.12g}" if isinstance(value, (int, float)) else value


def gather(folder, budgets):
    """Move finished cells into the two tables, and return the set of all cells that they hold.

    What is no whole cell is named and deleted. Raises `BookError` where the tables are damaged,
    or where a cell has not the seeds and epochs that `budgets` has for its number of images.
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
    for name in ("scores", "curves"):
        old = load_results(name, folder)
        parts = [_table(record, name) for record in records]
        if old is not None and name == "curves":
            old[list(METRICS)] = old[list(METRICS)].map(_joined)
        parts = [old, *parts] if old is not None else parts
        if not parts:
            return set()
        tables[name] = pd.concat(parts).drop_duplicates(KEY, keep="last")
        groups = {Cell(*key): rows for key, rows in tables[name].groupby(KEY[:-1])}
        for cell, rows in groups.items():
            _check(folder, cell, rows, budgets.get(cell.n_train))
        done.append(set(groups))

    rank = {technique: i for i, technique in enumerate(TECHNIQUES | ARTICLE)}
    for name, table in tables.items() if records else ():
        table = table.sort_values(
            KEY, key=lambda column: column.map(rank) if column.name == "technique" else column
        )
        write_atomically(Path(folder, f"{name}.csv"), table.to_csv(index=False).encode())
    for record in records:  # both tables hold them now
        _cell_file(folder, _cell(record)).unlink()
    return set.intersection(*done)


def _check(folder, cell, rows, budget):
    """Raise `BookError` where a cell's rows have other seeds or epochs than the budget, if any."""
    if budget is None:  # this sweep has no such number of images, and leaves the cell alone
        return
    seeds, epochs = sorted(rows["seed"]), sorted(set(rows["epochs"]))
    differ = []
    if seeds != list(range(budget.seeds)):
        differ.append(f"{len(seeds)} seeds ({_joined(seeds)}) instead of {budget.seeds}")
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
    per_epoch = cell.n_train * per_image + budget.validation * 8e-6
    return 4 + budget.seeds * budget.epochs * per_epoch


def sweep(cells, folder, budgets, command, jobs, dask):
    """Train the cells that are not finished; return their number and those that failed.

    `command` is noted beside the results. The cells are trained by so many `jobs`, or by the
    cluster whose Dask scheduler has the address `dask`. Raises `BookError` where another sweep is
    at work in the folder.
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
        runs = sum(budgets[cell.n_train].seeds for cell in todo)
        cost = sum(estimate(cell, budgets[cell.n_train]) for cell in todo)
        workers = f"the cluster at {dask}" if dask else f"{jobs} at a time"
        print(
            f"{len(cells)} cells, {len(cells) - len(todo)} of them finished. To train: "
            f"{len(todo)} cells, {runs:,} runs, {workers}; about {cost / 60:.0f} minutes "
            "of one core.",
            flush=True,
        )
        failed = []
        if todo:
            _note_provenance(folder, command)
        records = _on_cluster(todo, budgets, dask) if dask else _here(todo, budgets, jobs)
        for record in tqdm(records, total=len(todo), unit="cell", disable=None):
            content = json.dumps(record, ensure_ascii=False).encode()
            write_atomically(_cell_file(folder, _cell(record)), content)
            if "failed" in record:
                failed.append(record)
        gather(folder, budgets)
    return len(todo), failed


def _here(cells, budgets, jobs):
    """Yield the cells' records as they are finished, by so many processes of this machine."""
    tasks = (joblib.delayed(run_cell)(cell, budgets[cell.n_train]) for cell in cells)
    return joblib.Parallel(jobs, batch_size=1, return_as="generator_unordered")(tasks)


def _on_cluster(cells, budgets, address):
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
        each = [budgets[cell.n_train] for cell in cells]
        futures = client.map(run_cell_alone, cells, each, pure=False)
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
        "date": time.strftime("%Y-%m-%d"),
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
    parser.add_argument(
        "--article", action="store_true", help="the article's networks, at full size, instead"
    )
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
    parser.add_argument("--seeds", type=_count, help="the same number of seeds for all")
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
    techniques, usual, noise, folder = TECHNIQUES, BUDGETS, LABEL_NOISE, RESULTS
    if options.article:
        techniques, usual, noise, folder = ARTICLE, ARTICLE_BUDGET, (0.0,), RESULTS / "article"
    folder = Path(options.folder or folder).expanduser()
    given = {name: getattr(options, name) for name in ("epochs", "seeds") if getattr(options, name)}
    budgets = {n: usual.get(n, Budget(10, 10))._replace(**given) for n in options.n_train or usual}
    only = {}
    for key, values in options.only:
        only.setdefault(key, []).extend(values)
    try:
        cells = plan(budgets, noise, only, techniques)
        if options.dry_run:
            print(*cells, f"{len(cells)} cells", sep="\n")
            return 0
        command = shlex.join(["python", "-m", "tools.sweep", *arguments])
        jobs = options.jobs or joblib.cpu_count()
        trained, failed = sweep(cells, folder, budgets, command, jobs, options.dask)
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
