"""Outputs are stored small and clean, with a note of what they were made from."""

import base64
import io
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from tools import alone, notebooks, refresh

PROSE = "# Title\n\nOne sentence.\nAnother one,   with spaces.  \n"
FIGURE = {"mystnb": {"figure": {"name": "fig-made-up"}, "image": {"alt": "A line."}}}
PLOT = """
import matplotlib.pyplot as plt
_, ax = plt.subplots(facecolor="white")
for colour in ("#0072B2", "#D55E00", "#009E73"):
    ax.plot([0, 1, 3], [0, 2, len(colour)], color=colour, alpha=0.6)
    ax.fill_between([0, 3], [0, 1], [1, 5], color=colour, alpha=0.18)
"""


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(np.uint8(pixels)).save(file, "PNG", **options)
    return file.getvalue()


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), int)


def test_few_colours_get_a_palette():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (200, 3))
    grid = np.full((64, 64, 4), 255)
    grid[8:56, 8:56, :3] = colours[rng.integers(0, 200, (48, 48))]
    before = png(grid)
    after = refresh.smaller(before)
    assert Image.open(io.BytesIO(after)).mode == "P"
    assert len(after) < len(before) / 2
    np.testing.assert_array_equal(pixels(after), pixels(before))
    assert refresh.smaller(after) == after


def test_many_similar_colours_become_few_and_white_stays_white():
    rng = np.random.default_rng(0)
    edges = 254 - np.arange(3) + rng.integers(0, 2, (64, 64, 1)) * (0, 113, 77)
    grid = np.clip(edges + rng.integers(-6, 2, (64, 64, 3)), 0, 255)
    grid[20:40] = 255
    before = png(grid)
    after = refresh.smaller(before)
    assert Image.open(io.BytesIO(after)).mode == "P"
    assert 0 < abs(pixels(after) - pixels(before)).max() <= refresh.UNSEEN
    assert (pixels(after)[20:40] == 255).all()


def test_a_photograph_and_a_transparent_figure_stay_exact():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    clear = np.full((64, 64, 4), 128)
    for grid in (noise, clear):
        before = png(grid, compress_level=1)
        after = refresh.smaller(before)
        assert len(after) <= len(before)
        np.testing.assert_array_equal(pixels(after), pixels(before))


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A notebook in a project of its own, and a figure of it that is shown elsewhere."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    monkeypatch.setattr(refresh, "COPIES", {"fig-made-up": "_static/copy.png"})
    cells = [
        new_markdown_cell(PROSE),
        new_code_cell(
            "import sys\nprint('one')\nprint('a warning', file=sys.stderr)\nprint('two')"
        ),
        new_code_cell(PLOT, metadata=FIGURE),
    ]
    path = tmp_path / "made_up.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_refresh(made_up, tmp_path, capsys):
    assert refresh.main([str(made_up)]) == 0
    assert capsys.readouterr().out.startswith("made_up.ipynb  ")
    assert not notebooks.stale(made_up)
    notebook = notebooks.read(made_up)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[0].source == PROSE
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert [output.text for output in notebook.cells[1].outputs] == ["one\ntwo\n"]
    assert notebook.cells[2].metadata == FIGURE
    [figure] = notebook.cells[2].outputs
    image = base64.b64decode(figure.data["image/png"])
    assert Image.open(io.BytesIO(image)).mode == "P"
    assert (tmp_path / "_static" / "copy.png").read_bytes() == image
    before = made_up.read_bytes()
    assert before.endswith(b"}\n")
    refresh.main([str(made_up)])
    assert made_up.read_bytes() == before
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "script", made_up], check=True)
    assert "print('two')" in made_up.with_suffix(".py").read_text("utf-8")


@pytest.mark.slow
def test_a_notebook_that_fails_stays_as_it_is(made_up, capsys):
    notebook = notebooks.read(made_up)
    notebook.cells.append(new_code_cell("1 / 0"))
    nbformat.write(notebook, made_up)
    before = made_up.read_bytes()
    assert refresh.main([str(made_up)]) == 1
    assert "made_up.ipynb is as it was: ZeroDivisionError" in capsys.readouterr().err
    assert made_up.read_bytes() == before


@pytest.mark.parametrize(
    ("main", "before"), [(refresh.main, []), (alone.main, ["address"]), (notebooks.main, [])]
)
def test_a_wrong_path_is_one_sentence(main, before, capsys):
    with pytest.raises(SystemExit) as end:
        main([*before, "chapters/04_droput.ipynb"])
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_outputs_of_the_sample_are_not_stored(made_up, tmp_path, monkeypatch, capsys):
    notebook = notebooks.read(made_up)
    notebook.cells.append(new_code_cell("from utils.data import load_mnist\nload_mnist(100)"))
    nbformat.write(notebook, made_up)
    before = made_up.read_bytes()
    monkeypatch.delenv("MNIST_NPZ", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # no file, no cache and no network
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert refresh.main([str(made_up)]) == 1
    assert "of the full MNIST: name it by MNIST_NPZ" in capsys.readouterr().err
    assert made_up.read_bytes() == before
