"""The sweep: nothing is lost, nothing is done twice, whatever ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from utils import BookError, results, sweep
from utils.results import KEY, load_results
from utils.sweep import Cell

GRID = ["--images", "60", "--epochs", "2", "--seeds", "2"]
GRID += ["--only", "technique=none,early stopping", "--only", "wrong=0"]  # 12 cells
CELLS, SEEDS = 12, 2
BUDGET = sweep.Budget(2, SEEDS)


def command(folder, *more):
    return [sys.executable, "-m", "utils.sweep", "--folder", str(folder), *GRID, *map(str, more)]


@pytest.fixture
def run_here(capsys):
    """Run the command without a process of its own, which would import TensorFlow again."""

    def run(folder, *more):
        status = sweep.main([*command(folder, *more)[3:], "--jobs", "1"])
        return status, *capsys.readouterr()

    return run


def tables(folder):
    """Return both tables as text; the time is left out, as it is never the same twice."""
    scores = pd.read_csv(folder / "scores.csv", dtype=str)
    return scores.drop(columns="seconds").to_csv(), (folder / "curves.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(command(folder, "--jobs", 2), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{CELLS} cells trained" in done.stdout
    return folder


def test_tables_are_tidy(undisturbed):
    scores = load_results("scores", undisturbed)
    curves = load_results("curves", undisturbed)
    assert len(scores) == len(curves) == CELLS * SEEDS
    assert scores[KEY].equals(curves[KEY])
    assert scores["test_accuracy"].between(0, 1).all() and (scores["seconds"] > 0).all()
    assert {len(row) for row in curves["val_log_loss"]} == {2}
    stopping = scores[scores["technique"] == "early stopping"]
    best = [row.argmin() + 1 for row in curves.loc[stopping.index, "val_log_loss"]]
    assert list(stopping["epoch"]) == best
    provenance = json.loads((undisturbed / "provenance.json").read_text())
    assert "keras" in provenance["runs"][0]["versions"]
    assert provenance["knobs"]["dropout"] == "rate"


def test_a_cell_is_what_train_seeds_gives(undisturbed):
    """One cell of the table against a direct training of the same network."""
    from utils.data import load_mnist
    from utils.training import train_seeds

    runs = train_seeds(lambda: sweep.network(3e-3), load_mnist(60, BUDGET.validation), 2, range(2))
    scores = load_results("scores", undisturbed)
    cell = scores.query("wrong == 0 and technique == 'none' and strength == 0.003")
    np.testing.assert_allclose(cell["test_log_loss"], runs.scores["test_log_loss"], rtol=1e-3)


def test_killed_five_times_and_resumed(undisturbed, tmp_path, run_here):
    """`kill -9` at five moments; the table is that of an undisturbed run, and no cell is redone."""
    before = {}
    for moment in range(5):
        child = subprocess.Popen(
            command(tmp_path, "--jobs", 1 + moment % 2), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, text=True,
        )  # fmt: skip
        assert "To train" in child.stdout.readline()  # what was finished is in the tables now
        have = seconds(tmp_path)
        assert before.items() <= have.items(), "a finished cell was trained again"
        while not list((tmp_path / "cells").glob("*.json")):
            assert child.poll() is None, "ended before it could be killed"
            time.sleep(0.02)
        time.sleep(0.2 * moment)  # right after a file appeared, and in between
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        before = have
    status, out, err = run_here(tmp_path)
    assert status == 0, err
    assert f"{CELLS} cells trained" not in out  # the kills left finished cells
    assert before.items() <= seconds(tmp_path).items()
    assert tables(tmp_path) == tables(undisturbed)  # though the number of jobs differs
    assert not list((tmp_path / "cells").glob("*.json"))


def seconds(folder):
    """Return the measured time of every row of the table: the mark of one computation."""
    scores = load_results("scores", folder)
    return {} if scores is None else scores.set_index(KEY)["seconds"].to_dict()


def test_nothing_to_do(undisturbed, run_here):
    before = tables(undisturbed)
    status, out, _ = run_here(undisturbed)
    assert status == 0 and "To train: 0 cells" in out
    assert tables(undisturbed) == before


def test_bad_files_are_named_and_redone(undisturbed, tmp_path, run_here):
    """Truncated, empty, foreign and misnamed files, and rows that are missing."""
    folder = tmp_path / "results"
    shutil.copytree(undisturbed, folder)
    for name in ("scores", "curves"):  # forget all cells of one technique
        table = pd.read_csv(folder / f"{name}.csv")
        table[table["technique"] == "none"].to_csv(folder / f"{name}.csv", index=False)
    good = sweep.Cell(60, 0.0, "early stopping", 1)
    record = sweep.run_cell(good, BUDGET)
    bad = {
        sweep.Cell(60, 0.0, "early stopping", 2): json.dumps(record)[:200],
        sweep.Cell(60, 0.0, "early stopping", 3): "",
        sweep.Cell(60, 0.0, "early stopping", 5): '{"images": "many"}',
        sweep.Cell(60, 0.0, "early stopping", 8): json.dumps(record),  # of another cell
        sweep.Cell(60, 0.0, "early stopping", 12): json.dumps(
            record | {"epochs": 7, "strength": 12}
        ),
    }
    for cell, text in bad.items():
        (folder / "cells" / f"{cell}.json").write_text(text)
    (folder / "cells" / "notes.json").write_text("[1, 2]")
    status, out, err = run_here(folder)
    assert status == 0, err
    for cell in [*bad, "notes"]:
        assert f"{cell}.json is damaged or stems from another sweep" in out
    assert "To train: 6 cells" in out
    assert tables(folder) == tables(undisturbed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2].rstrip("\n")[:-1],  # ends within a line
        lambda text: "",
        lambda text: "some other table\n1\n",
    ],
    ids=["truncated", "empty", "foreign"],
)
@pytest.mark.parametrize("name", ["scores", "curves"])
def test_damaged_tables_are_refused(name, spoil, undisturbed, tmp_path):
    for table in ("scores.csv", "curves.csv"):
        shutil.copy(undisturbed / table, tmp_path / table)
    file = tmp_path / f"{name}.csv"
    file.write_text(spoil(file.read_text()))
    with pytest.raises(BookError, match=r"restore it with git|other seeds or epochs"):
        sweep.gather(tmp_path, {60: BUDGET})


def test_other_seeds_or_epochs_are_refused(undisturbed):
    for budget in (sweep.Budget(2, 3), sweep.Budget(3, SEEDS)):
        with pytest.raises(BookError, match="other seeds or epochs"):
            sweep.gather(undisturbed, {60: budget})


def test_a_second_sweep_in_the_folder_ends_at_once(tmp_path, run_here):
    child = subprocess.Popen(command(tmp_path, "--jobs", 1), stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    try:
        assert "To train" in child.stdout.readline()
        child.send_signal(signal.SIGSTOP)  # or it might be done before the second one comes
        status, _, err = run_here(tmp_path)
        assert status == 1
        assert "another sweep is at work" in err and "Traceback" not in err
    finally:
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGCONT)
        child.wait()
    assert child.returncode == 130


def test_a_folder_that_cannot_be_written(tmp_path, run_here):
    (tmp_path / "file").write_text("")
    status, _, err = run_here(tmp_path / "file" / "results")
    assert status == 1 and "cannot be written" in err and "Traceback" not in err
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    if os.geteuid() == 0:  # root may write everywhere, but for a process without capabilities
        if not shutil.which("setpriv"):
            pytest.skip("as root, this needs setpriv (util-linux)")
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    else:
        drop = []
    done = subprocess.run([*drop, *command(locked)], capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_keeps_finished_cells(tmp_path, monkeypatch):
    """The third cell meets a full disk; the two before it are gathered by the next sweep."""
    written = Counter()
    real = sweep.write_atomically

    def full(path, content):
        written[path.suffix] += 1
        if written[".json"] == 4:  # `provenance.json` is the first
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    arguments = ["--folder", str(tmp_path), *GRID, "--jobs", "1"]
    monkeypatch.setattr(sweep, "write_atomically", full)
    monkeypatch.setattr(sweep, "run_cell", fake_cell)
    assert sweep.main(arguments) == 1
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    monkeypatch.setattr(sweep, "write_atomically", real)
    assert sweep.gather(tmp_path, {60: BUDGET}) == {
        Cell(60, 0.0, "none", 3e-5), Cell(60, 0.0, "none", 1e-4)
    }  # fmt: skip


def fake_cell(cell, budget):
    """Stand in for training where only the files matter."""
    epochs, seeds = budget[:2]
    columns = {name: [0.5] * seeds for name in (*results.SCORES[2:], "seconds")}
    return (
        cell._asdict()
        | budget._asdict()
        | {
            "scores": {"epoch": [epochs] * seeds} | columns,
            "curves": {metric: [[0.5] * epochs] * seeds for metric in results.METRICS},
        }
    )


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    def diverges(s):
        return {"learning_rate": 1e30 if s == 1e-2 else s}

    def has_no_memory(s):
        raise MemoryError("no room for the weights")

    grid = {"none": sweep.TECHNIQUES["none"]._replace(options=diverges)}
    grid["huge"] = sweep.Technique("units", (1,), has_no_memory)
    monkeypatch.setattr(sweep, "TECHNIQUES", grid)
    arguments = ["--folder", str(tmp_path), *GRID[:6], "--only", "wrong=0", "--jobs", "1"]
    assert sweep.main(arguments) == 1
    err = capsys.readouterr().err
    assert "60-0-none-0.01: a seed ended with NaN" in err and "no room for the weights" in err
    assert len(load_results("scores", tmp_path)) == 5 * SEEDS
    left = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "cells").glob("*.json")}
    assert set(left) == {"60-0-none-0.01", "60-0-huge-1"}
    assert "NaN" in left["60-0-none-0.01"]["failed"]


def test_a_technique_is_one_entry(monkeypatch):
    entry = sweep.Technique("rate", (0.1, 0.2), lambda s: {"rate": s})
    monkeypatch.setitem(sweep.TECHNIQUES, "mine", entry)
    cells = sweep.plan([300], only={"technique": ["mine"]})
    assert len(cells) == 2 * len(sweep.WRONG)


def test_the_article_is_a_grid_of_its_own(tmp_path, capsys):
    """Its six networks, here on few images; the epoch kept is the one of the best accuracy."""
    assert sweep.main(["--folder", str(tmp_path), *GRID[:6], "--article", "--jobs", "1"]) == 0
    assert "6 cells trained" in capsys.readouterr().out
    scores, curves = (load_results(name, tmp_path) for name in ("scores", "curves"))
    assert list(scores["technique"].unique()) == list(sweep.ARTICLE)
    stopped = scores["technique"] == "stopped"
    best = [row.argmax() + 1 for row in curves.loc[stopped, "val_accuracy"]]
    assert list(scores.loc[stopped, "epoch"]) == best


def test_each_technique_has_the_same_budget():
    assert {len(technique.strengths) for technique in sweep.TECHNIQUES.values()} == {6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "technique=magic"], "technique=magic: the grid has no such technique"),
        (["--only", "strength=7"], "no such strength"),
        (["--only", "colour=red"], "'colour=red' is not one of images"),
        (["--dask", "tcp://127.0.0.1:9"], "no scheduler answers"),
    ],
)
def test_misuse(arguments, message, tmp_path, capsys):
    try:
        status = sweep.main(["--folder", str(tmp_path), *GRID[:6], *arguments])
    except SystemExit as end:  # argparse
        status = end.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err


def test_dry_run_trains_nothing(tmp_path, capsys):
    assert sweep.main(["--folder", str(tmp_path / "new"), *GRID, "--dry-run"]) == 0
    assert f"{CELLS} cells" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


DASK = """
import os, signal, sys, threading, time
from pathlib import Path
from distributed import LocalCluster
from utils import sweep

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)

    def kill_one():
        while not list((folder / "cells").glob("*.json")):
            time.sleep(0.02)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        print("killed", flush=True)

    threading.Thread(target=kill_one, daemon=True).start()
    arguments = [*sys.argv[2:], "--folder", sys.argv[1], "--dask", cluster.scheduler_address]
    status = sweep.main(arguments)
    cluster.close()
    sys.exit(status)
"""


def test_a_dask_worker_that_dies_has_its_cells_done_elsewhere(undisturbed, tmp_path):
    script, folder = tmp_path / "cluster.py", tmp_path / "results"
    script.write_text(DASK)
    # each cell starts a process of its own there
    four = [*GRID, "--only", "technique=none", "--only", "strength=3e-5,1e-4,3e-4,1e-3"]
    done = subprocess.run([sys.executable, script, folder, *four], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed" in done.stdout and "4 cells trained" in done.stdout
    for ours, theirs in zip(tables(folder), tables(undisturbed), strict=True):
        assert ours.splitlines() == theirs.splitlines()[: 1 + 4 * SEEDS]
