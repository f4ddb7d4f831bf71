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
from utils.evidence import chosen
from utils.results import ENDS, KEY, METRICS, load_results
from utils.techniques import ARMS, LABEL_NOISE, MAP, Arm, Budget, configurations

pytestmark = pytest.mark.slow
TINY = ["search", "--n-train", "60", "--epochs", "2", "--seeds", "2", "--only", "label_noise=0"]
GRID = [*TINY, "--only", "technique=none,L2"]  # 36 cells
CELLS, SEEDS = 36, 2
BUDGET, PAIRS = Budget(2), [(102, 102), (103, 103)]
HOW = BUDGET, PAIRS, "search"
FOUR = [*GRID, "--only", "learning_rate=0.00062,0.001"]  # those that are really trained
PLAIN = [Cell(60, 0.0, "none", *configuration) for configuration in configurations(ARMS["none"])]
FAST = Cell(60, 0.0, "none", 1e-3, 0.0)
SHARP = [Cell(60, 0.0, "L2", *configuration) for configuration in configurations(ARMS["L2"])]


def made_up(cell, budget, pairs, name):
    """Stand in for the training of a cell: its scores are noise, and no two times are the same."""
    rng = np.random.default_rng(zlib.crc32(str(cell).encode()))
    runs = [{"draw": draw, "seed": seed} for draw, seed in pairs]
    curves = [run | {m: rng.random(budget.epochs).round(4).tolist() for m in METRICS}
              for run in runs]  # fmt: skip
    scores = [
        run | {"end": end, "epoch": budget.epochs, "seconds": time.time()}
        | {f"{split}_{m}": round(rng.random(), 4)
           for split in ("train", "val", "test") for m in METRICS[:2]}
        for run in runs for end in ENDS
    ]  # fmt: skip
    return sweep._record(cell, budget, pairs) | {"scores": scores, "curves": curves}


def made_up_slowly(*task):
    time.sleep(0.1)
    return made_up(*task)


@pytest.fixture
def run_here(capsys):
    """Run the command line in this process; return its status, output and errors."""

    def run(folder, *arguments):
        arguments = map(str, arguments or GRID)
        status = sweep.main([*arguments, "--folder", str(folder), "--jobs", "1"])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(sweep, "run_cell", made_up)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four cells: a sweep with two workers was killed at the first, and this process went on."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["search", "--folder", str(folder), *FOUR[1:]]
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
        assert sweep.main([*GRID, "--folder", str(folder), "--jobs", "1"]) == 0
    return folder


def tables(folder):
    """Return both tables as text; the time is left out, as it is never the same twice."""
    scores = pd.read_csv(folder / "scores.csv", dtype=str)
    return scores.drop(columns="seconds").to_csv(), (folder / "curves.csv").read_text()


def seconds(folder):
    """Return the measured time of every row of the table: the mark of one computation."""
    scores = load_results("scores", folder)
    return {} if scores is None else scores.set_index([*KEY, "end"])["seconds"].to_dict()


def files(folder):
    return {file: file.read_bytes() for file in folder.rglob("*.[cj]s*")}


# Training


def test_tables_are_tidy(trained):
    scores = load_results("scores", trained)
    assert len(scores) == 4 * SEEDS * len(ENDS)
    assert not scores.duplicated([*KEY, "end"]).any() and list(scores["end"][:3]) == list(ENDS)
    assert scores["val_accuracy"].between(0, 1).all() and (scores["seconds"] > 0).all()
    assert not [name for name in scores if name.startswith("test")]  # a search looks at no test
    assert load_results("curves", trained) is None
    (run, *_) = json.loads((trained / "provenance.json").read_text())["runs"]
    assert "keras" in run["versions"]
    assert run["command"].startswith(f"python -m tools.sweep search --folder {trained}")
    assert "technique=none,L2" in run["command"]


def test_a_killed_sweep_has_kept_what_was_finished(trained):
    assert "4 cells, 0 of them finished" in (trained / "first").read_text()
    assert re.match("4 cells, [123] of them finished", (trained / "second").read_text())


def test_a_cell_is_what_train_seeds_gives(trained):
    """One cell of the table against a direct training of the same network."""
    from utils.data import load_mnist
    from utils.training import train_seeds

    mnist = load_mnist(60, seed=102, draws=2)
    runs = train_seeds(lambda: techniques.network(1e-3), mnist, 2, [102, 103])
    cell = load_results("scores", trained).query("technique == 'none' and learning_rate == 0.001")
    last = cell[cell["end"] == "last"]
    np.testing.assert_allclose(last["val_log_loss"], runs.scores["val_log_loss"], rtol=1e-3)
    best = cell.loc[cell["end"] == "best log-loss", "val_log_loss"]
    np.testing.assert_allclose(best, runs.history["val_log_loss"].min(axis=1), rtol=1e-3)


@pytest.mark.parametrize("run_cell", [sweep.run_cell, sweep.run_cell_alone])
def test_a_cell_is_the_same_wherever_it_is_trained(trained, run_cell):
    record = run_cell(FAST, *HOW)
    rows = load_results("scores", trained).query("technique == 'none' and learning_rate == 0.001")
    for name in ("end", "epoch", "train_log_loss", "val_log_loss", "val_accuracy"):
        assert [row[name] for row in record["scores"]] == list(rows[name])


def test_one_draw_for_several_seeds_and_one_for_each():
    """The two ways in which the pairs of a study share their images."""
    each = sweep.run_cell(FAST, BUDGET, [(5, 8), (6, 9)], "map")
    crossed = sweep.run_cell(FAST, BUDGET, [(5, 8), (5, 9), (6, 8), (6, 9)], "map")
    rows = {(row["draw"], row["seed"], row["end"]): row for row in crossed["scores"]}
    assert len(rows) == 4 * len(ENDS) and len(each["scores"]) == 2 * len(ENDS)
    for row in each["scores"]:
        other = rows[row["draw"], row["seed"], row["end"]]
        for name in ("val_log_loss", "test_log_loss", "test_scaled_log_loss", "temperature"):
            np.testing.assert_allclose(row[name], other[name], rtol=1e-3)


def test_a_process_of_its_own_that_ends_early(monkeypatch):
    monkeypatch.setattr(sweep, "ALONE", "raise SystemExit(3)")
    record = sweep.run_cell_alone(FAST, *HOW)
    assert record["failed"] == "its process ended with status 3"


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch, run_here):
    def has_no_memory(s):
        raise MemoryError("no room for the weights")

    monkeypatch.setitem(ARMS, "none", Arm(options=lambda: {"penalty": 1e38}))
    monkeypatch.setitem(ARMS, "L2", Arm("", (1.0,) * 9, has_no_memory))
    some = [*GRID, "--only", "learning_rate=0.001,0.0105"]
    monkeypatch.setattr(sweep, "network", lambda learning_rate, penalty: techniques.network(
        learning_rate if learning_rate < 1e-2 else penalty))  # fmt: skip
    status, out, err = run_here(tmp_path, *some)
    assert status == 1 and "1 cells trained" in out
    assert "60-0-none-0.0105-0: a seed ended with NaN" in err and "no room for the weights" in err
    assert len(load_results("scores", tmp_path)) == SEEDS * len(ENDS)
    left = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "cells").glob("*.json")}
    assert set(left) == {"60-0-none-0.0105-0", "60-0-L2-0.001-1", "60-0-L2-0.0105-1"}
    assert "NaN" in left["60-0-none-0.0105-0"]["failed"]


def test_a_study_reports_what_its_search_has_chosen(tmp_path, monkeypatch, run_here):
    """First without a search, then after one; the images and seeds are others."""
    monkeypatch.setattr(sweep, "RESULTS", tmp_path)
    report = ["map", *TINY[1:], "--only", "technique=none"]
    status, _, err = run_here(tmp_path / "map", *report)
    assert status == 1 and "first comes the study that chooses: python -m tools.sweep search" in err
    some = ["--only", "technique=none", "--only", "learning_rate=0.00039,0.0016,0.0105"]
    assert run_here(tmp_path / "search", *TINY, *some)[0] == 0
    assert run_here(tmp_path / "map", *report)[0] == 0
    search, scores = (load_results("scores", tmp_path / name) for name in ("search", "map"))
    picked = chosen(search)
    assert set(scores["learning_rate"]) == {*picked["learning_rate"], sweep.REFERENCE}
    best = search.query("end == 'last'").groupby("learning_rate")["val_log_loss"].mean().idxmin()
    assert picked.query("end == 'last' and metric == 'log_loss'")["learning_rate"].item() == best
    assert not set(scores["draw"]) & set(search["draw"])
    assert not set(scores["seed"]) & set(search["seed"])
    assert (scores["test_scaled_log_loss"] > 0).all() and scores["test_ece"].between(0, 1).all()
    curves = load_results("curves", tmp_path / "map")
    assert {len(row) for row in curves["val_log_loss"]} == {2} and not curves.duplicated(KEY).any()


def test_a_technique_is_one_entry(monkeypatch):
    monkeypatch.setitem(ARMS, "mine", Arm("rate", (0.1,) * 9, lambda s: {"rate": s}))
    study = sweep.STUDIES["search"]
    cells = sweep.plan(study, {300: MAP[300]}, {"technique": ["mine"]})
    assert len(cells) == 18 * len(LABEL_NOISE)


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
    arguments = [*GRID, "--folder", str(folder), *map(str, arguments)]
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
    record = made_up(SHARP[0], *HOW)
    last = dict(zip(Cell._fields, SHARP[5], strict=True))
    bad = {
        SHARP[1]: json.dumps(record)[:200],
        SHARP[2]: "",
        SHARP[3]: '{"n_train": "many"}',
        SHARP[4]: json.dumps(record),  # of another cell
        SHARP[5]: json.dumps(record | last | {"pairs": [*PAIRS, [102, 102]]}),
        "notes": "[1, 2]",
    }
    for cell, text in bad.items():
        (folder / "cells" / f"{cell}.json").write_text(text)
    status, out, err = run_here(folder)
    assert status == 0, err
    for cell in bad:
        assert f"{cell}.json is damaged or no cell of a sweep: it is deleted." in out
    assert "To train: 18 cells" in out
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
    more = [*TINY, "--only", "technique=L1"]  # something to train
    status, _, err = run_here(folder, *more)
    assert status == 1 and f"{name} is damaged: restore it with git" in err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", 1], "with 2 pairs (seeds 102 103) instead of 1:"),
        (["--epochs", 3], "with 2 epochs instead of 3:"),
        (["--epochs", 1, "--seeds", 1], "2 pairs (seeds 102 103) instead of 1 and 2 epochs"),
    ],
)
@pytest.mark.parametrize("gathered", [True, False])
def test_other_seeds_or_epochs_are_named(arguments, message, gathered, whole, tmp_path, run_here):
    """In the tables, and in the file of a cell that an interrupted sweep has left."""
    if gathered:
        shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    else:
        (tmp_path / "cells").mkdir()
        file = tmp_path / "cells" / f"{PLAIN[0]}.json"
        file.write_text(json.dumps(made_up(PLAIN[0], *HOW)))
    before = files(tmp_path)
    status, _, err = run_here(tmp_path, *GRID, *arguments)
    assert status == 1 and f"{tmp_path} holds the cell 60-0-" in err
    assert message in err and "name another --folder" in err
    assert files(tmp_path) == before  # what is there is not lost


def test_other_numbers_of_images_share_a_folder(whole, tmp_path, run_here, quick):
    folder = tmp_path / "results"
    shutil.copytree(whole, folder)
    cell = Cell(50, 0.2, "L2", 1e-3, 1e-2)  # left by an interrupted sweep
    record = made_up(cell, Budget(5), [(0, 0)], "search")
    (folder / "cells" / f"{cell}.json").write_text(json.dumps(record))
    status, out, err = run_here(folder, *GRID, "--n-train", 70, "--epochs", 3)
    assert status == 1 and "2 epochs instead of 3" in err  # 60 is asked for as well
    arguments = ["--n-train", 70, "--epochs", 3, "--seeds", 1, "--only", "technique=none"]
    status, out, err = run_here(folder, "search", *arguments)
    assert status == 0 and "54 cells trained" in out, err
    scores = load_results("scores", folder)
    sizes = {50: 3, 60: CELLS * SEEDS * 3, 70: 54 * 3}
    assert scores.groupby("n_train").size().to_dict() == sizes
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
    sweep_in_a_child([*GRID, "--folder", folder], output)


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
    assert sweep.gather(tmp_path, {60: BUDGET}, PAIRS) == set(PLAIN[:2])


# The command line


def cells_of(capsys, *arguments):
    assert sweep.main(["search", *arguments, "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_grid_is_that_of_the_book(capsys):
    cells = cells_of(capsys)
    left_out = 2  # with augmentation, at the largest number of images
    assert len(set(cells)) == (len(MAP) * len(ARMS) - left_out) * len(LABEL_NOISE) * 18 + 1
    assert cells[0] == "300-0-none-3.6e-06-0" and cells[-1] == f"{len(cells) - 1} cells"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["technique=dropout", "technique=L2"], ["technique=dropout,L2"]),
        (["technique=dropout,L2,"], ["technique=L2,dropout"]),
        ([" technique = L1 , L2 + dropout "], ["technique=L1,L2 + dropout"]),
        (["technique=L2,L2"], ["technique=L2"]),
        (["learning_rate=0.0010"], ["learning_rate=1e-3"]),
        (["strength=0.0020"], ["strength=2e-3"]),
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
    assert cells == sorted(set(cells), key=cells.index) and len(cells) == 2 * 3 * 18 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "technique=magic"], "technique=magic: the grid has no such technique; choose"),
        (["--only", "technique=l2"], "no such technique; choose from none, L2, weight decay"),
        (["--only", "strength=7"], "strength=7: the grid has no such strength"),
        (["--only", "strength=0.0010000001"], "no such strength"),
        (["--only", "strength=nan"], "no such strength"),
        (["--only", "label_noise=20"], "no such label_noise; choose from 0"),
        (["--only", "n_train=1,000"], "n_train=1: the grid has no such n_train; choose from 60"),
        (
            ["--only", "technique=dropout", "--only", "strength=1e-5"],
            "no cell has this and what the other",
        ),
        (
            ["--only", "technique=none,L2", "--only", "strength=1e-5"],
            "technique=none: no cell has this",
        ),
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
        (["--seeds", "3"], "--seeds 3: the study has 2 pairs."),
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
    assert sweep.main([*TINY, "--folder", str(tmp_path / "new"), *arguments]) in (1, 2)
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
    assert sweep.main([*GRID, "--folder", str(tmp_path), "--dask", address]) == 1
    assert f"--dask {address}: no scheduler with a worker answers there" in capsys.readouterr().err


def test_a_worker_of_a_cluster_does_the_work(cluster, tmp_path, monkeypatch, capsys):
    here = os.getpid()

    def elsewhere(*task):
        assert os.getpid() != here
        return made_up(*task)

    monkeypatch.setattr(sweep, "run_cell_alone", elsewhere)
    cluster.scale(1)
    some = ["--only", "learning_rate=0.001", "--dask", cluster.scheduler_address]
    arguments = [*GRID, *some]
    assert sweep.main([*arguments, "--folder", str(tmp_path)]) == 0
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
    arguments = [*GRID, "--folder", str(tmp_path), "--dask", cluster.scheduler_address]
    assert sweep.main(arguments) == 0
    assert killed.is_set() and f"{CELLS} cells trained" in capsys.readouterr().out
    assert tables(tmp_path) == tables(whole)
