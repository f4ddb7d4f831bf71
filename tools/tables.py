"""Tables that take long: what is missing of them is run, and on what machine is noted."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from tools import notebooks
from utils.data import write_atomically


def fill_table(file, key, jobs, function, words=()):
    """Run the jobs that a table does not hold yet, in parallel, and return the whole table.

    A job is a tuple (chapter, variant, column), and `function(*job)` returns a dict that maps
    the text of each claim of the chapter, or (text, part), to a value for this column. The file
    has a row per (chapter, variant, text) or (chapter, variant, text, part), named by `key`. It
    is written anew after each job, so that an interrupted run goes on where it was. Rows of
    claims that are worded otherwise by now are left out, and so is what belongs to no job. With
    `words`, only jobs with such a word in their chapter or variant are run.

    Raises `SystemExit` when it is interrupted and for a word that no job has.
    """
    texts = {chapter: notebooks.claims(chapter) for chapter in {job[0] for job in jobs}}
    table = {} if not file.exists() else pd.read_csv(file, index_col=key).stack().dropna().to_dict()
    table = {place: table[place] for place in table if _job(place) in jobs}
    table = {place: table[place] for place in table if place[2] in texts[place[0]]}
    present = {(_job(place), place[2]) for place in table}
    todo = [
        job
        for job in _chosen(jobs, words, key)
        if not all((job, text) in present for text in texts[job[0]])
    ]
    _write(file, key, jobs, texts, table)
    parallel = Parallel(os.cpu_count(), return_as="generator_unordered", batch_size=1)
    try:
        results = parallel(delayed(_run)(function, job) for job in todo)
        for job, values in tqdm(results, total=len(todo), unit="run", disable=None):
            table = {place: table[place] for place in table if _job(place) != job}
            table |= {_place(job, claim): value for claim, value in values.items()}
            _write(file, key, jobs, texts, table)
    except KeyboardInterrupt:
        print("Interrupted: what is finished is kept; the same command goes on.", file=sys.stderr)
        raise SystemExit(130) from None
    return pd.read_csv(file, index_col=key)


def _run(function, job):
    return job, function(*job)


def _job(place):
    """Return the job that fills a place of the table, (chapter, variant, text, …, column)."""
    return place[0], place[1], place[-1]


def _place(job, claim):
    chapter, variant, column = job
    return chapter, variant, *(claim if isinstance(claim, tuple) else (claim,)), column


def _chosen(jobs, words, key):
    """Return the jobs that have one of the words in their chapter or variant; all without words."""
    names = [f"{chapter} {variant}" for chapter, variant, _ in jobs]
    for word in words:
        if not any(word in name for name in names):
            raise SystemExit(f"no {key[0]} and no {key[1]} has “{word}” in its name.")
    chosen = [not words or any(word in name for word in words) for name in names]
    return [job for job, wanted in zip(jobs, chosen, strict=True) if wanted]


def _write(file, key, jobs, texts, table):
    """Write the table: claims in the order of their chapters, columns in that of the jobs."""
    if not table:
        return
    rows = {place[:-1] for place in table}
    rows = sorted(rows, key=lambda row: (*row[:2], texts[row[0]].index(row[2]), *row[3:]))
    columns = list(dict.fromkeys(job[2] for job in jobs))
    frame = pd.DataFrame(
        [[table.get((*row, column)) for column in columns] for row in rows],
        pd.MultiIndex.from_tuples(rows, names=key),
        columns,
    ).dropna(axis=1, how="all")
    write_atomically(file, frame.to_csv(float_format="%.4g").encode())


def machine(*packages):
    """Return what long measurements note beside their date: processor and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(": ")[-1] for line in lines if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "processor": f"{(models or [platform.processor()])[0]}, {os.cpu_count()} cores",
        "versions": versions | {"python": platform.python_version()},
    }
