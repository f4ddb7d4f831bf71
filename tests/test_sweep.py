"""The sweep: nothing is lost, nothing is done twice, whatever ends it."""

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import distributed
import numpy as np
import pandas as pd
import pytest

from tools import sweep
from tools.sweep import Cell
from utils import techniques
from utils.results import KEY, METRICS, load_results
from utils.techniques import ARTICLE, BUDGETS, LABEL_NOISE, TECHNIQUES, Budget, Technique

TINY = ["--n-train", "60", "--epochs", "2", "--seeds", "2", "--only", "label_noise=0"]
GRID = [*TINY, "--only", "technique=none,early stopping"]  # 12 cells
CELLS, SEEDS = 12, 2
BUDGET = Budget(2, SEEDS)
FOUR = [*GRID, "--only", "strength=0.001,0.003,1,2"]  # those that are really trained


def made_up(cell, budget):
    """Stand in for the training of a cell: its scores are noise, and no two times are the same."""
    rng = np.random.default_rng(zlib.crc32(str(cell).encode()))
    names = [f"{split}_{metric}" for split in ("train", "val", "test") for metric in METRICS[:2]]
    scores = {name: rng.random(budget.seeds).round(4).tolist() for name in names}
    scores |= {"epoch": [budget.epochs] * budget.seeds, "seconds": [time.time()] * budget.seeds}
    curves = {m: rng.random((budget.seeds, budget.epochs)).round(4).tolist() for m in METRICS}
    return cell._asdict() | budget._asdict() | {"scores": scores, "curves": curves}


def made_up_slowly(cell, budget):
    time.sleep(0.1)
    return made_up(cell, budget)


@pytest.fixture
def run_here(capsys):
    """Run the command line in this process; return its status, output and errors."""

    def run(folder, *arguments):
        arguments = map(str, arguments or GRID)
        status = sweep.main(["--folder", str(folder), "--jobs", "1", *arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(sweep, "run_cell", made_up)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four cells: a sweep with two workers was killed at the first, and this process went on."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--folder", str(folder), *FOUR]
    command = [sys.executable, "-m", "tools.sweep", *arguments, "--jobs", "2"]
    with open(folder / "first", "w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    while not list((folder / "cells").glob("*.json")):
        assert child.poll() is None, (folder / "first").read_text()
        time.sleep(0.01)
    child.kill()
    child.wait()
    with open(folder / "second", "w") as output, contextlib.redirect_stdout(output):
        assert sweep.main([*arguments, "--jobs", "1"]) == 0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # its workers, which would wait for some minutes
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All cells, made up."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "run_cell", made_up)
        assert sweep.main(["--folder", str(folder), "--jobs", "1", *GRID]) == 0
    return folder


def tables(folder):
    """Return both tables as text; the time is left out, as it is never the same twice."""
    scores = pd.read_csv(folder / "scores.csv", dtype=str)
    return scores.drop(columns="seconds").to_csv(), (folder / "curves.csv").read_text()


def seconds(folder):
    """Return the measured time of every row of the table: the mark of one computation."""
    scores = load_results("scores", folder)
    return {} if scores is None else scores.set_index(KEY)["seconds"].to_dict()


def files(folder):
    return {file: file.read_bytes() for file in folder.rglob("*.[cj]s*")}


# Training


def test_tables_are_tidy(trained):
    scores = load_results("scores", trained)
    curves = load_results("curves", trained)
    assert len(scores) == len(curves) == 4 * SEEDS
    assert scores[KEY].equals(curves[KEY])
    assert scores["test_accuracy"].between(0, 1).all() and (scores["seconds"] > 0).all()
    assert {len(row) for row in curves["val_log_loss"]} == {2}
    stopping = scores[scores["technique"] == "early stopping"]
    best = [row.argmin() + 1 for row in curves.loc[stopping.index, "val_log_loss"]]
    assert list(stopping["epoch"]) == best
    run, _ = json.loads((trained / "provenance.json").read_text())["runs"]
    assert "keras" in run["versions"]
    assert run["command"].startswith(f"python -m tools.sweep --folder {trained}")
    assert "'technique=none,early stopping'" in run["command"]  # as a shell wants it


def test_a_killed_sweep_has_kept_what_was_finished(trained):
    assert "4 cells, 0 of them finished" in (trained / "first").read_text()
    assert re.match("4 cells, [123] of them finished", (trained / "second").read_text())


def test_a_cell_is_what_train_seeds_gives(trained):
    """One cell of the table against a direct training of the same network."""
    from utils.data import load_mnist
    from utils.training import train_seeds

    mnist = load_mnist(60, BUDGET.validation)
    runs = train_seeds(lambda: techniques.network(3e-3), mnist, 2, range(2))
    cell = load_results("scores", trained).query("technique == 'none' and strength == 0.003")
    np.testing.assert_allclose(cell["test_log_loss"], runs.scores["test_log_loss"], rtol=1e-3)


@pytest.mark.parametrize("run_cell", [sweep.run_cell, sweep.run_cell_alone])
def test_a_cell_is_the_same_wherever_it_is_trained(trained, run_cell):
    record = run_cell(Cell(60, 0.0, "none", 1e-3), BUDGET)
    rows = load_results("scores", trained).query("technique == 'none' and strength == 0.001")
    for name in ("train_log_loss", "val_log_loss", "test_log_loss", "test_accuracy"):
        assert record["scores"][name] == list(rows[name])


def test_a_process_of_its_own_that_ends_early(monkeypatch):
    monkeypatch.setattr(sweep, "ALONE", "raise SystemExit(3)")
    record = sweep.run_cell_alone(Cell(60, 0.0, "none", 1e-3), BUDGET)
    assert record["failed"] == "its process ended with status 3"


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, run_here):
    def diverges(s):
        return {"learning_rate": 1e38 if s == 1e-2 else s}

    def has_no_memory(s):
        raise MemoryError("no room for the weights")

    grid = {"none": Technique("learning rate", (1e-3, 1e-2), diverges)}
    grid["huge"] = Technique("units", (1,), has_no_memory)
    monkeypatch.setattr(sweep, "TECHNIQUES", grid)
    status, out, err = run_here(tmp_path, *TINY)
    assert status == 1 and "1 cells trained" in out
    assert "60-0-none-0.01: a seed ended with NaN" in err and "no room for the weights" in err
    assert len(load_results("scores", tmp_path)) == SEEDS
    left = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "cells").glob("*.json")}
    assert set(left) == {"60-0-none-0.01", "60-0-huge-1"}
    assert "NaN" in left["60-0-none-0.01"]["failed"]


def test_the_article_is_a_grid_of_its_own(tmp_path, monkeypatch, run_here):
    """One of its networks, here a small one; the epoch kept is the one of the best accuracy."""
    monkeypatch.setattr(techniques, "LARGE", {"hidden": (30,)})
    status, out, _ = run_here(tmp_path, *TINY, "--article", "--only", "technique=stopped")
    assert status == 0 and "1 cells trained" in out
    scores, curves = (load_results(name, tmp_path) for name in ("scores", "curves"))
    assert list(scores["epoch"]) == [row.argmax() + 1 for row in curves["val_accuracy"]]
    assert sweep.main([*TINY, "--article", "--dry-run"]) == 0


def test_a_technique_is_one_entry(monkeypatch):
    monkeypatch.setitem(TECHNIQUES, "mine", Technique("rate", (0.1, 0.2), lambda s: {"rate": s}))
    assert len(sweep.plan([300], only={"technique": ["mine"]})) == 2 * len(LABEL_NOISE)


# Going on after an end, in whatever way


def sweep_in_a_child(arguments, output):
    """Run in a process that has imported everything and computed nothing."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent may ignore it
    sweep.run_cell = made_up_slowly
    sys.stdout = sys.stderr = open(output, "w", buffering=1)  # noqa: SIM115
    sys.exit(sweep.main(arguments))


def child_of(folder, *arguments):
    """Start a sweep in the folder; return its process once it says what there is to train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.sweep"])
    output = Path(tempfile.mkdtemp(dir=folder.parent), "output")
    arguments = ["--folder", str(folder), *GRID, *map(str, arguments)]
    child = context.Process(target=sweep_in_a_child, args=(arguments, output))
    child.start()
    wait_for(child, lambda: output.exists() and "\n" in output.read_text())
    child.output = output
    return child


def wait_for(child, condition):
    while not condition():
        assert child.is_alive(), "it ended too early"
        time.sleep(0.01)


def test_killed_five_times_and_resumed(whole, tmp_path, run_here, quick):
    """`kill -9` at five moments; the table is that of an undisturbed run, and no cell is redone."""
    folder, before = tmp_path / "results", {}
    for moment in range(5):
        child = child_of(folder, "--jobs", 1)
        have = seconds(folder)  # what was finished is in the tables now
        assert before.items() <= have.items(), "a finished cell was trained again"
        wait_for(child, lambda: list((folder / "cells").glob("*.json")))
        time.sleep(0.03 * moment)  # right after a file appeared, and in between
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
        before = have
    status, out, err = run_here(folder)
    assert status == 0, err
    assert f"{CELLS} cells trained" not in out  # the kills left finished cells
    assert before.items() <= seconds(folder).items()
    assert tables(folder) == tables(whole)
    assert not list((folder / "cells").glob("*.json"))


def test_a_second_sweep_in_the_folder_ends_at_once(tmp_path, run_here):
    child = child_of(tmp_path / "results", "--jobs", 1)
    try:
        os.kill(child.pid, signal.SIGSTOP)  # or it might be done before the second one comes
        status, _, err = run_here(tmp_path / "results")
        assert status == 1
        assert "another sweep is at work" in err and "Traceback" not in err
    finally:
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGCONT)
        child.join()
    assert child.exitcode == 130
    assert "Interrupted: finished cells are kept" in child.output.read_text()


def test_nothing_to_do(whole, run_here):
    before = files(whole)
    status, out, _ = run_here(whole)
    assert status == 0 and "To train: 0 cells" in out
    assert files(whole) == before


def test_bad_files_are_named_and_redone(whole, tmp_path, run_here, quick):
    """Truncated, empty, foreign and misnamed files, and rows that are missing."""
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    for name in ("scores", "curves"):  # forget all cells of one technique
        table = pd.read_csv(folder / f"{name}.csv")
        table[table["technique"] == "none"].to_csv(folder / f"{name}.csv", index=False)
    record = made_up(Cell(60, 0.0, "early stopping", 1), BUDGET)
    bad = {
        Cell(60, 0.0, "early stopping", 2): json.dumps(record)[:200],
        Cell(60, 0.0, "early stopping", 3): "",
        Cell(60, 0.0, "early stopping", 5): '{"n_train": "many"}',
        Cell(60, 0.0, "early stopping", 8): json.dumps(record),  # of another cell
        Cell(60, 0.0, "early stopping", 12): json.dumps(record | {"seeds": 3, "strength": 12}),
        "notes": "[1, 2]",
    }
    for cell, text in bad.items():
        (folder / "cells" / f"{cell}.json").write_text(text)
    status, out, err = run_here(folder)
    assert status == 0, err
    for cell in bad:
        assert f"{cell}.json is damaged or no cell of a sweep: it is deleted." in out
    assert "To train: 6 cells" in out
    assert tables(folder) == tables(whole)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2].rstrip("\n")[:-1],  # ends within a line
        lambda text: "",
        lambda text: "some other table\n1\n",
    ],
    ids=["truncated", "empty", "foreign"],
)
@pytest.mark.parametrize("name", ["scores.csv", "curves.csv", "provenance.json"])
def test_damaged_results_are_refused(name, spoil, whole, tmp_path, run_here):
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    (folder / name).write_text(spoil((whole / name).read_text()))
    before = files(folder)
    more = [*TINY, "--only", "technique=L2"]  # something to train
    status, _, err = run_here(folder, *more)
    assert status == 1 and f"{name} is damaged: restore it with git" in err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 3], "with 2 seeds (0 1) instead of 3:"),
        (["--seeds", 1], "with 2 seeds (0 1) instead of 1:"),
        (["--epochs", 3], "with 2 epochs instead of 3:"),
        (["--epochs", 1, "--seeds", 4], "2 seeds (0 1) instead of 4 and 2 epochs instead of 1:"),
    ],
)
@pytest.mark.parametrize("gathered", [True, False])
def test_other_seeds_or_epochs_are_named(arguments, message, gathered, whole, tmp_path, run_here):
    """In the tables, and in the file of a cell that an interrupted sweep has left."""
    if gathered:
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    else:
        cell = Cell(60, 0.0, "none", 3e-5)
        (tmp_path / "cells").mkdir()
        (tmp_path / "cells" / f"{cell}.json").write_text(json.dumps(made_up(cell, BUDGET)))
    before = files(tmp_path)
    status, _, err = run_here(tmp_path, *GRID, *arguments)
    assert status == 1 and f"{tmp_path} holds the cell 60-0-" in err
    assert message in err and "name another --folder" in err
    assert files(tmp_path) == before  # what is there is not lost


def test_other_numbers_of_images_share_a_folder(whole, tmp_path, run_here, quick):
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    cell = Cell(50, 0.2, "L2", 1e-3)  # left by an interrupted sweep
    (folder / "cells" / f"{cell}.json").write_text(json.dumps(made_up(cell, Budget(5, 3))))
    status, out, err = run_here(folder, *GRID, "--n-train", 70, "--epochs", 3)
    assert status == 1 and "2 epochs instead of 3" in err  # 60 is asked for as well
    arguments = ["--n-train", 70, "--epochs", 3, "--seeds", 1, "--only", "technique=none"]
    status, out, err = run_here(folder, *arguments)
    assert status == 0 and "18 cells trained" in out, err
    scores = load_results("scores", folder)
    assert scores.groupby("n_train").size().to_dict() == {50: 3, 60: CELLS * SEEDS, 70: 18}
    assert scores.groupby("n_train")["epochs"].unique().map(list).to_dict() == {
        50: [5], 60: [2], 70: [3],
    }  # fmt: skip
    assert seconds(whole).items() <= seconds(folder).items()


def test_one_epoch_and_one_seed(tmp_path, run_here, quick):
    arguments = [*GRID, "--epochs", 1, "--seeds", 1]
    assert run_here(tmp_path, *arguments)[0] == 0
    status, out, err = run_here(tmp_path, *arguments)
    assert status == 0 and f"{CELLS} of them finished" in out, err
    assert {row.shape for row in load_results("curves", tmp_path)["accuracy"]} == {(1,)}


# Where results cannot be written


@pytest.mark.parametrize("below", ["", "results"])
def test_a_folder_that_is_a_file(below, tmp_path, run_here):
    (tmp_path / "file").write_text("")
    status, _, err = run_here(tmp_path / "file" / below)
    assert status == 1 and "cannot be written" in err and "Traceback" not in err


def without_rights(folder, output):
    if os.geteuid() == 0:  # root may write everywhere
        os.setuid(65534)
    sweep_in_a_child(["--folder", folder, *GRID], output)


def test_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as outer:
        folder, output = Path(outer, "locked"), Path(outer, "output")
        os.chmod(outer, 0o777)
        folder.mkdir(mode=0o555)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tools.sweep"])
        child = context.Process(target=without_rights, args=(str(folder), output))
        child.start()
        child.join()
        assert child.exitcode == 1
        assert f"{folder}/cells cannot be written (Permission denied)" in output.read_text()


def test_a_full_disk_keeps_finished_cells(tmp_path, monkeypatch, run_here, quick):
    """The third cell meets a full disk; the two before it are gathered by the next sweep."""
    written = Counter()
    real = sweep.write_atomically

    def full(path, content):
        written[path.suffix] += 1
        if written[".json"] == 4:  # `provenance.json` is the first
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(sweep, "write_atomically", full)
    status, _, err = run_here(tmp_path)
    assert status == 1 and "No space left on device" in err and "make room" in err
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    monkeypatch.setattr(sweep, "write_atomically", real)
    assert sweep.gather(tmp_path, {60: BUDGET}) == {
        Cell(60, 0.0, "none", 3e-5), Cell(60, 0.0, "none", 1e-4)
    }  # fmt: skip


# The command line


def cells_of(capsys, *arguments):
    assert sweep.main([*arguments, "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_grid_is_that_of_the_book(capsys):
    cells = cells_of(capsys)
    strengths = sum(len(technique.strengths) for technique in TECHNIQUES.values())
    assert len(set(cells)) == len(BUDGETS) * len(LABEL_NOISE) * strengths + 1
    assert cells[0] == "300-0-none-3e-05" and cells[-1] == f"{len(cells) - 1} cells"
    assert len(cells_of(capsys, "--article")) == len(ARTICLE) + 1


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["technique=dropout", "technique=L2"], ["technique=dropout,L2"]),
        (["technique=dropout,L2,"], ["technique=L2,dropout"]),
        ([" technique = L1 , L2 + early stopping "], ["technique=L1,L2 + early stopping"]),
        (["technique=L2,L2"], ["technique=L2"]),
        (["strength=0.0010"], ["strength=1e-3"]),
        (["n_train=300.0", "n_train=1e3"], ["n_train=300,1000"]),
        (["label_noise=.2", "technique=L1"], ["technique=L1", "label_noise=0.20"]),
    ],
)  # fmt: skip
def test_only_means_what_it_says(said, meant, capsys):
    """What is said in two ways is the same, and a part of the grid."""
    said, meant = ([part for text in texts for part in ("--only", text)] for texts in (said, meant))
    cells = cells_of(capsys, *said)
    assert cells == cells_of(capsys, *meant)
    assert 1 < len(cells) < len(cells_of(capsys))


@pytest.mark.parametrize(
    "arguments", [["70", "60", "70"], ["70", "--n-train", "60"], ["70", "--n-train", "60", "70"]]
)
def test_other_numbers_of_images(arguments, capsys):
    cells = cells_of(capsys, "--n-train", *arguments, "--only", "technique=none")
    assert cells == sorted(set(cells), key=cells.index) and len(cells) == 2 * 3 * 6 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "technique=magic"], "technique=magic: the grid has no such technique; choose"),
        (["--only", "technique=l2"], "no such technique; choose from none, L2, L1"),
        (["--only", "strength=7"], "strength=7: the grid has no such strength"),
        (["--only", "strength=0.0010000001"], "no such strength"),
        (["--only", "strength=nan"], "no such strength"),
        (["--only", "label_noise=20"], "no such label_noise; choose from 0"),
        (["--only", "n_train=1,000"], "n_train=1: the grid has no such n_train; choose from 60"),
        (
            ["--only", "technique=dropout", "--only", "strength=3e-5"],
            "no cell has this and what the other",
        ),
        (
            ["--only", "technique=none,L2", "--only", "strength=3e-5"],
            "technique=L2: no cell has this",
        ),
        (["--article", "--only", "technique=L2"], "choose from plain, L2 1e-4"),
        (["--only", "colour=red"], "'colour=red' is not one of n_train, label_noise, technique"),
        (["--only", "technique"], "'technique' is not one of"),
        (["--only", "technique="], "'technique=' is not one of"),
        (["--only", "technique=,"], "'technique=,' is not one of"),
        (["--only", "=300"], "'=300' is not one of"),
        (["--jobs", "0"], "--jobs: '0' is not a whole number of at least 1"),
        (["--jobs", "-1"], "--jobs: '-1' is not"),
        (["--jobs", "1.5"], "--jobs: '1.5' is not"),
        (["--jobs", ""], "--jobs: '' is not"),
        (["--epochs", "0"], "--epochs: '0' is not"),
        (["--epochs", "1e1"], "--epochs: '1e1' is not"),
        (["--seeds", "0"], "--seeds: '0' is not"),
        (["--seeds", "0-9"], "--seeds: '0-9' is not"),
        (["--n-train", "0"], "--n-train: '0' is not"),
        (["--n-train", "60,70"], "--n-train: '60,70' is not"),
        (["--n-train"], "expected at least one argument"),
        (["--seed", "3"], "unrecognized arguments: --seed 3"),
        (["--images", "60"], "unrecognized arguments: --images 60"),
        (["dropout"], "unrecognized arguments: dropout"),
        (["--folder", ""], "--folder: it is empty"),
        (["--dask", " "], "--dask: it is empty"),
        (["--jobs", "2", "--dask", "tcp://127.0.0.1:9"], "not allowed with argument --jobs"),
        (["--dask", "nonsense://here"], "--dask nonsense://here: no scheduler with a worker"),
        (["--dask", "tcp://127.0.0.1:9"], "--dask tcp://127.0.0.1:9: no scheduler with a worker"),
    ],
)
def test_misuse(arguments, message, tmp_path, capsys, hasty, quick):
    assert sweep.main(["--folder", str(tmp_path / "new"), *TINY, *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.csv"))


def test_help_is_no_error(capsys):
    assert sweep.main(["--help"]) == 0
    assert "python -m tools.sweep" in capsys.readouterr().out


def test_dry_run_trains_nothing(tmp_path, run_here):
    status, out, _ = run_here(tmp_path / "new", *GRID, "--dry-run")
    assert status == 0 and f"{CELLS} cells" in out
    assert not (tmp_path / "new").exists()


# Dask


@pytest.fixture
def hasty(monkeypatch):
    """Wait for a scheduler and its workers for a moment only."""

    class Hasty(distributed.Client):
        def __init__(self, address, timeout):
            super().__init__(address, timeout=0.5)

        def wait_for_workers(self, n_workers, timeout):
            return super().wait_for_workers(n_workers, timeout=0.5)

    monkeypatch.setattr(distributed, "Client", Hasty)


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster


def test_a_scheduler_without_workers(cluster, tmp_path, capsys, hasty):
    address = cluster.scheduler_address
    assert sweep.main(["--folder", str(tmp_path), *GRID, "--dask", address]) == 1
    assert f"--dask {address}: no scheduler with a worker answers there" in capsys.readouterr().err


def test_a_worker_of_a_cluster_does_the_work(cluster, tmp_path, monkeypatch, capsys):
    here = os.getpid()

    def elsewhere(cell, budget):
        assert os.getpid() != here
        return made_up(cell, budget)

    monkeypatch.setattr(sweep, "run_cell_alone", elsewhere)
    cluster.scale(1)
    arguments = [*GRID, "--only", "strength=0.001,1", "--dask", cluster.scheduler_address]
    assert sweep.main(["--folder", str(tmp_path), *arguments]) == 0
    assert "2 cells trained" in capsys.readouterr().out


def test_a_worker_that_dies_has_its_cells_done_elsewhere(
    whole, cluster, tmp_path, monkeypatch, capsys
):
    cluster.scale(2)
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        victim, _ = client.run(os.getpid).values()

    def kill_one():
        while not list((tmp_path / "cells").glob("*.json")):
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        killed.set()

    monkeypatch.setattr(sweep, "run_cell_alone", made_up_slowly)
    killed = threading.Event()
    threading.Thread(target=kill_one, daemon=True).start()
    assert sweep.main(["--folder", str(tmp_path), *GRID, "--dask", cluster.scheduler_address]) == 0
    assert killed.is_set() and f"{CELLS} cells trained" in capsys.readouterr().out
    assert tables(tmp_path) == tables(whole)
